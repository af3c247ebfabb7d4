// The C API: engines, segments, memory and diagnostics. c_api_transfers.cpp has the rest.
#include "transfer_engine_c.h"

#include <algorithm>
#include <string>

#include "engine/c_arguments.h"
#include "engine/c_calls.h"
#include "engine/links.h"
#include "engine/shutdown.h"
#include "transfer_engine/engine.h"

namespace {

using te::Code;
using te::Status;
using te::c_api::fill_text;
using te::c_api::guarded;
using te::c_api::null_argument;
using te::c_api::number_or_code;
using te::c_api::report;
using te::c_api::with_engine;

static_assert(sizeof(buffer_entry_t) == sizeof(te::BufferEntry));

// A name that may be absent becomes empty.
std::string text_or_empty(const char* text) { return text == nullptr ? "" : text; }

std::string links_as_text(const std::vector<te::PathInfo>& paths) {
  std::string text;
  for (const te::PathInfo& path : paths) {
    text += fmt::format(
        "{} via {} to {}: {}, {} bytes done ({} staged), {} in flight, {} slices failed{}{}\n",
        path.segment, path.transport, path.remote_address, path.state, path.completed_bytes,
        path.staged_bytes, path.inflight_bytes, path.failed_slices,
        path.last_error.empty() ? "" : ", last error: ", path.last_error);
  }
  return text;
}

}  // namespace

extern "C" {

transfer_engine_t createTransferEngine(const char* metadata_conn_string,
                                       const char* local_server_name, const char* ip_or_host_name,
                                       uint64_t rpc_port, int auto_discover) {
  return createTransferEngineWithSettings(metadata_conn_string, local_server_name, ip_or_host_name,
                                          rpc_port, auto_discover, nullptr, 0);
}

transfer_engine_t createTransferEngineWithSettings(
    const char* metadata_conn_string, const char* local_server_name, const char* ip_or_host_name,
    uint64_t rpc_port, int auto_discover, const engine_setting_t* settings, size_t setting_count) {
  te::Engine* created = nullptr;
  guarded([&]() -> Status {
    if (metadata_conn_string == nullptr) return null_argument("metadata_conn_string");
    if (local_server_name == nullptr) return null_argument("local_server_name");
    if (settings == nullptr && setting_count > 0) return null_argument("settings");
    if (rpc_port > 65535) {
      return te::error(Code::kInvalidArgument, "rpc_port {} is not a port: give 0 to 65535",
                       rpc_port);
    }
    te::EngineOptions options;
    options.metadata = metadata_conn_string;
    options.name = local_server_name;
    options.host = text_or_empty(ip_or_host_name);
    options.port = static_cast<uint16_t>(rpc_port);
    options.auto_discover = auto_discover != 0;
    options.addressing = te::Addressing::kAuto;
    for (const engine_setting_t& setting : std::span(settings, setting_count)) {
      TE_RETURN_IF_ERROR(te::add_setting(setting, &options.config));
    }
    te::Result<std::unique_ptr<te::Engine>> engine = te::Engine::create(options);
    if (engine.ok()) created = engine.take().release();
    return engine.status();
  });
  return created;
}

void destroyTransferEngine(transfer_engine_t engine) {
  te::disable_graceful_shutdown(engine);
  delete static_cast<te::Engine*>(engine);
}

int discoverTopology(transfer_engine_t engine) {
  return with_engine(engine, [](te::Engine& e) { return e.discover_topology(); });
}

int getTopology(transfer_engine_t engine, char* buf_out, size_t buf_len) {
  return fill_text(engine, buf_out, buf_len, [](te::Engine& e) { return e.topology(); });
}

int getNicPriorityMatrix(transfer_engine_t engine, char* buf_out, size_t buf_len) {
  return fill_text(engine, buf_out, buf_len, [](te::Engine& e) { return e.nic_priority_matrix(); });
}

int getLocalIpAndPort(transfer_engine_t engine, char* buf_out, size_t buf_len) {
  return fill_text(engine, buf_out, buf_len, [](te::Engine& e) { return e.local_endpoint(); });
}

transport_t installTransport(transfer_engine_t engine, const char* proto, void** args) {
  const int code = with_engine(engine, [&](te::Engine& e) {
    if (proto == nullptr) return null_argument("proto");
    const char* matrix = args == nullptr ? nullptr : static_cast<const char*>(args[0]);
    return e.install_transport(proto, text_or_empty(matrix));
  });
  return code == 0 ? engine : nullptr;
}

int uninstallTransport(transfer_engine_t engine, const char* proto) {
  return with_engine(engine, [&](te::Engine& e) {
    return proto == nullptr ? null_argument("proto") : e.uninstall_transport(proto);
  });
}

void enableGracefulShutdown(transfer_engine_t engine) {
  with_engine(engine, [&](te::Engine& e) {
    return te::enable_graceful_shutdown(engine,
                                        [&e] { (void)e.remove_local_segment(e.local_name()); });
  });
}

segment_id_t openSegment(transfer_engine_t engine, const char* segment_name) {
  return number_or_code(engine, [&](te::Engine& e) -> te::Result<te::SegmentId> {
    if (segment_name == nullptr) return null_argument("segment_name");
    return e.open_segment(segment_name);
  });
}

segment_id_t openSegmentNoCache(transfer_engine_t engine, const char* segment_name) {
  return number_or_code(engine, [&](te::Engine& e) -> te::Result<te::SegmentId> {
    if (segment_name == nullptr) return null_argument("segment_name");
    return e.open_segment_no_cache(segment_name);
  });
}

int closeSegment(transfer_engine_t engine, segment_id_t segment_id) {
  return with_engine(engine, [&](te::Engine& e) { return e.close_segment(segment_id); });
}

int warmupEfaSegment(transfer_engine_t engine, const char* segment_name) {
  return with_engine(engine, [&](te::Engine& e) {
    return segment_name == nullptr ? null_argument("segment_name") : e.warmup_segment(segment_name);
  });
}

int removeLocalSegment(transfer_engine_t engine, const char* segment_name) {
  return with_engine(engine, [&](te::Engine& e) {
    return segment_name == nullptr ? null_argument("segment_name")
                                   : e.remove_local_segment(segment_name);
  });
}

int syncSegmentCache(transfer_engine_t engine) {
  return with_engine(engine, [](te::Engine& e) { return e.sync_segment_cache(); });
}

int describeSegment(transfer_engine_t engine, segment_id_t segment_id, segment_buffer_t* buffers,
                    size_t* count) {
  return with_engine(engine, [&](te::Engine& e) -> Status {
    if (count == nullptr) return null_argument("count");
    te::Result<te::SegmentInfo> info = e.describe_segment(segment_id);
    if (!info.ok()) return info.status();
    const size_t capacity = buffers == nullptr ? 0 : *count;
    *count = info->buffers.size();
    if (capacity < *count) {
      return te::error(Code::kNoSpace, "there is room for {} buffers: the segment has {}", capacity,
                       *count);
    }
    for (size_t i = 0; i < *count; ++i) {
      const te::SegmentBuffer& from = info->buffers[i];
      segment_buffer_t& to = buffers[i];
      to = {from.address,
            from.offset,
            from.length,
            {},
            te::described_access(from.access),
            static_cast<int>(from.kind)};
      from.location.copy(to.location, sizeof to.location - 1);
    }
    return {};
  });
}

int registerLocalMemory(transfer_engine_t engine, void* addr, size_t length, const char* location,
                        int remote_accessible) {
  return with_engine(engine, [&](te::Engine& e) -> Status {
    if (location == nullptr) return null_argument("location");
    te::Access access{};
    TE_RETURN_IF_ERROR(te::to_access(remote_accessible, &access));
    return e.register_memory(addr, length, location, access);
  });
}

int unregisterLocalMemory(transfer_engine_t engine, void* addr) {
  return with_engine(engine, [&](te::Engine& e) { return e.unregister_memory(addr); });
}

int registerLocalMemoryBatch(transfer_engine_t engine, buffer_entry_t* buffer_list,
                             size_t buffer_len, const char* location) {
  return registerLocalMemoryBatchWithAccess(engine, buffer_list, buffer_len, location,
                                            REMOTE_ACCESS_DEFAULT);
}

int registerLocalMemoryBatchWithAccess(transfer_engine_t engine, buffer_entry_t* buffer_list,
                                       size_t buffer_len, const char* location,
                                       int remote_accessible) {
  return with_engine(engine, [&](te::Engine& e) -> Status {
    if (location == nullptr) return null_argument("location");
    if (buffer_list == nullptr && buffer_len > 0) return null_argument("buffer_list");
    te::Access access{};
    TE_RETURN_IF_ERROR(te::to_access(remote_accessible, &access));
    return e.register_memory_batch(
        {reinterpret_cast<const te::BufferEntry*>(buffer_list), buffer_len}, location, access);
  });
}

int unregisterLocalMemoryBatch(transfer_engine_t engine, void** addr_list, size_t addr_len) {
  return with_engine(engine, [&](te::Engine& e) {
    if (addr_list == nullptr && addr_len > 0) return null_argument("addr_list");
    return e.unregister_memory_batch({addr_list, addr_len});
  });
}

void* allocateMemory(transfer_engine_t engine, size_t length, const char* location,
                     int huge_pages) {
  void* memory = nullptr;
  with_engine(engine, [&](te::Engine& e) -> Status {
    if (location == nullptr) return null_argument("location");
    if (huge_pages < HUGE_PAGES_NO || huge_pages > HUGE_PAGES_REQUIRE) {
      return te::error(Code::kInvalidArgument, "huge_pages {} is not one of 0 to 2", huge_pages);
    }
    te::AllocateOptions options;
    options.location = location;
    options.huge_pages = static_cast<te::HugePages>(huge_pages);
    te::Result<void*> allocated = e.allocate(length, options);
    if (allocated.ok()) memory = *allocated;
    return allocated.status();
  });
  return memory;
}

int freeMemory(transfer_engine_t engine, void* addr) {
  return with_engine(engine, [&](te::Engine& e) { return e.free(addr); });
}

int getNicLoadStats(transfer_engine_t engine, nic_load_stat_t* stats, size_t* count) {
  return with_engine(engine, [&](te::Engine& e) -> Status {
    if (count == nullptr) return null_argument("count");
    if (stats == nullptr && *count > 0) return null_argument("stats");
    const std::vector<te::DeviceLoad> loads = e.device_loads();
    *count = std::min(*count, loads.size());
    for (size_t i = 0; i < *count; ++i) {
      stats[i] = {{}, loads[i].inflight_bytes, loads[i].bandwidth_bytes_per_s * 8};
      loads[i].device.copy(stats[i].device_name, sizeof stats[i].device_name - 1);
    }
    return {};
  });
}

int showLinks(transfer_engine_t engine, char* buf_out, size_t buf_len, int json) {
  return fill_text(engine, buf_out, buf_len, [json](te::Engine& e) {
    return json != 0 ? te::links_as_json(e.paths()) : links_as_text(e.paths());
  });
}

int getEffectiveConfig(transfer_engine_t engine, char* buf_out, size_t buf_len) {
  return fill_text(engine, buf_out, buf_len, [](te::Engine& e) { return e.effective_config(); });
}

const char* transferEngineErrorName(int code) {
  return te::code_name(static_cast<Code>(code)).data();
}

const char* transferEngineVersion(void) { return te::version().data(); }

void setTransferEngineLogCallback(transfer_engine_log_callback_t callback, void* user) {
  guarded([&] {
    te::set_log_hook(callback == nullptr
                         ? nullptr
                         : std::function<void(te::LogLevel, std::string_view)>(
                               [callback, user](te::LogLevel level, std::string_view message) {
                                 callback(static_cast<int>(level), std::string(message).c_str(),
                                          user);
                               }));
    return Status();
  });
}

int setTransferEngineLogLevel(int level) {
  if (level < 0 || level > static_cast<int>(te::LogLevel::kDebug)) {
    return report(te::error(Code::kInvalidArgument, "log level {} is not one of 0 to 3", level));
  }
  te::set_log_level(static_cast<te::LogLevel>(level));
  return 0;
}

}  // extern "C"
