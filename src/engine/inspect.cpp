// What an engine tells of its devices, paths and segments.
#include <algorithm>
#include <map>

#include "base/clock.h"
#include "engine/impl.h"

namespace te {
namespace {

constexpr double kMeterSeconds = 1;  // over which a device's bandwidth is averaged

}  // namespace

std::vector<DeviceLoad> Engine::Impl::device_loads() {
  // By transport, and by its devices.
  std::map<std::pair<std::string, std::string>, uint64_t> moved;
  for (const PathInfo& path : paths()) {
    moved[{path.transport, ""}] += path.completed_bytes;
    if (!path.local_device.empty()) {
      moved[{path.transport, path.local_device}] += path.completed_bytes;
    }
  }
  std::vector<DeviceLoad> result;
  const int64_t now = now_ns();
  MutexLock lock(meter_mutex_);
  for (const std::shared_ptr<Transport>& transport : transports_.installed()) {
    std::vector<DeviceLoad> loads = transport->loads();
    for (DeviceLoad& load : loads) {
      Meter& meter = meters_[load.device];
      const double seconds = static_cast<double>(now - meter.at_ns) / 1e9;
      const uint64_t bytes =
          moved[{std::string(transport->name()), loads.size() > 1 ? load.device : ""}];
      if (meter.at_ns != 0 && seconds > 0) {
        // Paths that are gone took their count along; then nothing is known of this time.
        const double rate = static_cast<double>(bytes - std::min(bytes, meter.bytes)) / seconds;
        const double weight = seconds / (seconds + kMeterSeconds);
        meter.bytes_per_s += weight * (rate - meter.bytes_per_s);
      }
      meter.bytes = bytes;
      meter.at_ns = now;
      load.bandwidth_bytes_per_s = meter.bytes_per_s;
      result.push_back(std::move(load));
    }
  }
  return result;
}

std::vector<PathInfo> Engine::Impl::paths() const {
  constexpr std::string_view kStates[] = {"idle", "connecting", "ready", "failed"};
  std::vector<PathInfo> result;
  for (const std::shared_ptr<Segment>& segment : segments_->all()) {
    const std::shared_ptr<const Target> target = segment->target();
    if (!target) continue;
    for (const std::shared_ptr<Path>& path : target->paths) {
      PathInfo info;
      info.segment = segment->name;
      info.transport = path->transport.name();
      info.local_device = path->local_device;
      info.remote_device = path->remote_device;
      info.remote_address = path->remote_address;
      info.state = kStates[static_cast<size_t>(path->state.load())];
      info.last_error = path->last_error().message();
      info.inflight_bytes = path->inflight_bytes.load();
      info.completed_bytes = path->completed_bytes.load();
      info.completed_slices = path->completed_slices.load();
      info.failed_slices = path->failed_slices.load();
      result.push_back(std::move(info));
    }
  }
  return result;
}

Result<std::vector<PathInfo>> Engine::Impl::paths_of(std::string_view name) {
  const Result<Segments::Probe> probe = segments_->probe(name, wire::ControlType::kLinks, "", 1);
  if (!probe.ok()) return probe.status();
  return links_from_json(probe.value().last_answer);
}

Result<SegmentInfo> Engine::Impl::describe(SegmentId id) {
  const std::shared_ptr<Segment> segment = segments_->find(id);
  if (!segment) return error(Code::kNotFound, "there is no open segment with id {}", id);
  if (Status status = segments_->refresh_now(segment); !status.ok()) {
    return status.with_context(fmt::format("segment '{}'", segment->name));
  }
  const std::shared_ptr<const Target> target = segment->target();
  const Descriptor& descriptor = target->descriptor;
  SegmentInfo info;
  info.name = segment->name;
  const Locator locator =
      segment->self ? Locator{host_, server_->port(), instance_} : segment->locator();
  info.host = locator.host;
  info.port = locator.port;
  info.instance = descriptor.instance;
  info.generation = descriptor.generation;
  info.buffers.reserve(descriptor.size());
  for (size_t i = 0; i < descriptor.size(); ++i) {
    const RemoteBuffer& buffer = descriptor.buffer(i);
    info.buffers.push_back({buffer.address, buffer.offset, buffer.length,
                            descriptor.locations[buffer.location], buffer.rights != Rights::kNone,
                            access_of(buffer.rights)});
  }
  return info;
}

}  // namespace te
