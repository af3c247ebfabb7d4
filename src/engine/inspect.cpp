// What an engine tells of its devices, paths and segments.
#include "engine/impl.h"

namespace te {

std::vector<DeviceLoad> Engine::Impl::device_loads() {
  return meter_.measure(transports_.installed(), paths());
}

std::string Engine::Impl::encryption(const Transport& transport) const {
  const Capabilities capabilities = transport.capabilities();
  if (capabilities.within_host) return "host";
  return capabilities.data_over_engine_port && identity() ? "tls" : "none";
}

std::vector<PathInfo> Engine::Impl::paths() const {
  constexpr std::string_view kStates[] = {"idle", "connecting", "ready", "failed"};
  std::vector<PathInfo> result;
  for (const std::shared_ptr<Segment>& segment : peers_->segments().all()) {
    const std::shared_ptr<const Target> target = segment->target();
    if (!target) continue;
    for (const std::shared_ptr<Path>& path : target->paths) {
      PathInfo info;
      info.segment = segment->name;
      info.transport = path->transport.name();
      info.local_device = path->local_device;
      info.remote_device = path->remote_device;
      info.remote_address = path->remote_address;
      info.encryption = encryption(path->transport);
      info.state = kStates[static_cast<size_t>(path->state.load())];
      info.last_error = path->last_error().message();
      info.inflight_bytes = path->inflight_bytes.load();
      info.completed_bytes = path->completed_bytes.load();
      info.staged_bytes = path->staged_bytes.load();
      info.completed_slices = path->completed_slices.load();
      info.failed_slices = path->failed_slices.load();
      result.push_back(std::move(info));
    }
  }
  return result;
}

Result<ProbeResult> Engine::Impl::probe(std::string_view name, size_t rounds) {
  const Result<Segments::Probe> probe =
      segments().probe(name, wire::ControlType::kPing, "ping", rounds);
  if (!probe.ok()) return probe.status();
  ProbeResult result;
  result.connect_us = static_cast<uint64_t>(probe.value().connect_ns) / 1000;
  for (const int64_t ns : probe.value().rounds_ns) {
    result.round_trips_ns.push_back(static_cast<uint64_t>(ns));
  }
  return result;
}

Result<std::vector<PathInfo>> Engine::Impl::paths_of(std::string_view name) {
  const Result<Segments::Probe> probe = segments().probe(name, wire::ControlType::kLinks, "", 1);
  if (!probe.ok()) return probe.status();
  return links_from_json(probe.value().last_answer);
}

Result<SegmentInfo> Engine::Impl::describe(SegmentId id) {
  const std::shared_ptr<Segment> segment = segments().find(id);
  if (!segment) return error(Code::kNotFound, "there is no open segment with id {}", id);
  if (Status status = segments().refresh_now(segment); !status.ok()) {
    return status.with_context(fmt::format("segment '{}'", segment->name));
  }
  const std::shared_ptr<const Target> target = segment->target();
  const Descriptor& descriptor = target->descriptor;
  SegmentInfo info;
  info.name = segment->name;
  const Locator locator = segment->self ? own_locator() : segment->locator();
  info.host = locator.host;
  info.port = locator.port;
  info.instance = descriptor.instance;
  info.generation = descriptor.generation;
  info.buffers.reserve(descriptor.laid_out());
  for (size_t i = 0; i < descriptor.laid_out(); ++i) {
    const RemoteBuffer& buffer = descriptor.buffer(i);
    info.buffers.push_back({buffer.address, buffer.offset, buffer.length,
                            descriptor.locations[buffer.location], buffer.rights != Rights::kNone,
                            access_of(buffer.rights), buffer.kind});
  }
  return info;
}

}  // namespace te
