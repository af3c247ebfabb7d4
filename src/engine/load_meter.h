// How busy devices are, from what their paths have moved since they were asked for last.
//
// Threads: any.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "transport/transport.h"

namespace te {

class LoadMeter {
 public:
  // The devices of `transports`, whose paths are `paths`.
  std::vector<DeviceLoad> measure(const std::vector<std::shared_ptr<Transport>>& transports,
                                  const std::vector<PathInfo>& paths);

 private:
  struct Reading {
    uint64_t bytes = 0;  // that the device had moved
    int64_t at_ns = 0;
    double bytes_per_s = 0;
  };

  Mutex mutex_{LockRank::kMeter};
  std::map<std::string, Reading> last_ TE_GUARDED_BY(mutex_);  // by device
};

}  // namespace te
