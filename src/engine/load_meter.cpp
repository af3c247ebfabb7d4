#include "engine/load_meter.h"

#include <algorithm>
#include <utility>

#include "base/clock.h"

namespace te {
namespace {

constexpr double kMeterSeconds = 1;  // over which a device's bandwidth is averaged

}  // namespace

std::vector<DeviceLoad> LoadMeter::measure(
    const std::vector<std::shared_ptr<Transport>>& transports, const std::vector<PathInfo>& paths) {
  // By transport, and by its devices.
  std::map<std::pair<std::string, std::string>, uint64_t> moved;
  for (const PathInfo& path : paths) {
    moved[{path.transport, ""}] += path.completed_bytes;
    if (!path.local_device.empty()) {
      moved[{path.transport, path.local_device}] += path.completed_bytes;
    }
  }
  std::vector<DeviceLoad> result;
  const int64_t now = now_ns();
  MutexLock lock(mutex_);
  for (const std::shared_ptr<Transport>& transport : transports) {
    std::vector<DeviceLoad> loads = transport->loads();
    for (DeviceLoad& load : loads) {
      Reading& last = last_[load.device];
      const double seconds = static_cast<double>(now - last.at_ns) / 1e9;
      const uint64_t bytes =
          moved[{std::string(transport->name()), loads.size() > 1 ? load.device : ""}];
      if (last.at_ns != 0 && seconds > 0) {
        // Paths that are gone took their count along; then nothing is known of this time.
        const double rate = static_cast<double>(bytes - std::min(bytes, last.bytes)) / seconds;
        const double weight = seconds / (seconds + kMeterSeconds);
        last.bytes_per_s += weight * (rate - last.bytes_per_s);
      }
      last.bytes = bytes;
      last.at_ns = now;
      load.bandwidth_bytes_per_s = last.bytes_per_s;
      result.push_back(std::move(load));
    }
  }
  return result;
}

}  // namespace te
