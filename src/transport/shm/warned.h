// The peers that a warning was given for.
//
// Threads: any.
#pragma once

#include <set>
#include <string>

#include "base/mutex.h"

namespace te::shm {

class Warned {
 public:
  // True once for each peer, and for no more than kMost, so that peers cannot fill the log.
  bool add(const std::string& peer) {
    MutexLock lock(mutex_);
    return peers_.size() < kMost && peers_.insert(peer).second;
  }

 private:
  static constexpr size_t kMost = 1'000;
  Mutex mutex_;
  std::set<std::string> peers_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::shm
