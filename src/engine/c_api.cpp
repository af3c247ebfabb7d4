// The C API: a thin layer over the C++ one. Nothing is thrown across it, memory shortage included.
#include "transfer_engine_c.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "base/log.h"
#include "base/per_thread.h"
#include "engine/c_arguments.h"
#include "engine/links.h"
#include "engine/shutdown.h"
#include "transfer_engine/engine.h"

namespace {

using te::Code;
using te::Status;

static_assert(sizeof(transfer_request_t) == sizeof(te::TransferRequest));
static_assert(offsetof(transfer_request_t, opcode) == offsetof(te::TransferRequest, opcode));
static_assert(offsetof(transfer_request_t, source) == offsetof(te::TransferRequest, source));
static_assert(offsetof(transfer_request_t, target_id) == offsetof(te::TransferRequest, target_id));
static_assert(offsetof(transfer_request_t, target_offset) ==
              offsetof(te::TransferRequest, target_offset));
static_assert(offsetof(transfer_request_t, length) == offsetof(te::TransferRequest, length));
static_assert(sizeof(buffer_entry_t) == sizeof(te::BufferEntry));

thread_local const char* last_error_text = "";

struct LastError {
  ~LastError() { last_error_text = ""; }
  std::string text;
};

// Takes no memory.
int report_no_memory() noexcept {
  last_error_text = "resource: out of memory; free some, then try again";
  return static_cast<int>(Code::kResource);
}

int report(const Status& status) noexcept {
  if (status.ok()) return 0;
  try {
    std::string& text = te::per_thread<LastError>().text;
    text = status.to_string();
    last_error_text = text.c_str();
  } catch (...) {
    report_no_memory();
  }
  return static_cast<int>(status.code());
}

// What an exception means; nothing but memory shortage should throw.
int report_exception() noexcept {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return report_no_memory();
  } catch (const std::length_error&) {  // a count that no memory holds
    return report_no_memory();
  } catch (const std::exception& failure) {
    try {
      return report(Status(Code::kInternal, failure.what()));
    } catch (...) {
      return report_no_memory();
    }
  } catch (...) {
    return report_no_memory();
  }
}

// Runs `body`, which returns a Status.
template <typename Body>
int guarded(Body&& body) noexcept {
  try {
    return report(body());
  } catch (...) {
    return report_exception();
  }
}

// The same for an engine that must not be null.
template <typename Body>
int with_engine(transfer_engine_t engine, Body&& body) noexcept {
  return guarded([&]() -> Status {
    if (engine == nullptr) {
      return Status(Code::kInvalidArgument, "the engine is null: was it created?");
    }
    auto& known = *static_cast<te::Engine*>(engine);
    TE_RETURN_IF_ERROR(known.check_process());
    return body(known);
  });
}

Status null_argument(const char* name) {
  return Status(Code::kInvalidArgument, std::string("the argument ") + name + " is null");
}

Status fill_text(const std::string& text, char* buf_out, size_t buf_len) {
  if (buf_out == nullptr) return null_argument("buf_out");
  if (buf_len < text.size() + 1) {
    return te::error(Code::kNoSpace, "the buffer has {} bytes: {} are needed", buf_len,
                     text.size() + 1);
  }
  std::memcpy(buf_out, text.c_str(), text.size() + 1);
  return {};
}

std::span<const te::TransferRequest> as_requests(const struct transfer_request* entries,
                                                 size_t count) {
  return {reinterpret_cast<const te::TransferRequest*>(entries), count};
}

int submit(transfer_engine_t engine, batch_id_t batch_id, struct transfer_request* entries,
           size_t count, const te::SubmitOptions& options) {
  return with_engine(engine, [&](te::Engine& e) {
    if (entries == nullptr && count > 0) return null_argument("entries");
    return e.submit(batch_id, as_requests(entries, count), options);
  });
}

Status to_notification(const notify_msg_t& message, te::Notification* out) {
  if (message.name == nullptr) return null_argument("notify_msg.name");
  if (message.msg == nullptr) return null_argument("notify_msg.msg");
  *out = {message.name, message.msg};
  return {};
}

std::chrono::milliseconds milliseconds(uint64_t count) {
  return std::chrono::milliseconds(static_cast<int64_t>(std::min<uint64_t>(count, INT64_MAX)));
}

char* duplicate(const std::string& text) {
  auto* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy != nullptr) std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

// A name that may be absent becomes empty.
std::string text_or_empty(const char* text) { return text == nullptr ? "" : text; }

std::string links_as_text(const std::vector<te::PathInfo>& paths) {
  std::string text;
  for (const te::PathInfo& path : paths) {
    text += fmt::format("{} via {} to {}: {}, {} bytes done, {} in flight, {} slices failed{}{}\n",
                        path.segment, path.transport, path.remote_address, path.state,
                        path.completed_bytes, path.inflight_bytes, path.failed_slices,
                        path.last_error.empty() ? "" : ", last error: ", path.last_error);
  }
  return text;
}

}  // namespace

extern "C" {

transfer_engine_t createTransferEngine(const char* metadata_conn_string,
                                       const char* local_server_name, const char* ip_or_host_name,
                                       uint64_t rpc_port, int auto_discover) {
  te::Engine* created = nullptr;
  guarded([&]() -> Status {
    if (metadata_conn_string == nullptr) return null_argument("metadata_conn_string");
    if (local_server_name == nullptr) return null_argument("local_server_name");
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
  return with_engine(engine, [&](te::Engine& e) {
    const te::Result<std::string> text = e.topology();
    return text.ok() ? fill_text(*text, buf_out, buf_len) : text.status();
  });
}

int getNicPriorityMatrix(transfer_engine_t engine, char* buf_out, size_t buf_len) {
  return with_engine(engine, [&](te::Engine& e) {
    const te::Result<std::string> text = e.nic_priority_matrix();
    return text.ok() ? fill_text(*text, buf_out, buf_len) : text.status();
  });
}

int getLocalIpAndPort(transfer_engine_t engine, char* buf_out, size_t buf_len) {
  return with_engine(
      engine, [&](te::Engine& e) { return fill_text(e.local_endpoint(), buf_out, buf_len); });
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
  segment_id_t id = -1;
  const int code = with_engine(engine, [&](te::Engine& e) {
    if (segment_name == nullptr) return null_argument("segment_name");
    te::Result<te::SegmentId> opened = e.open_segment(segment_name);
    if (opened.ok()) id = *opened;
    return opened.status();
  });
  return code == 0 ? id : code;
}

segment_id_t openSegmentNoCache(transfer_engine_t engine, const char* segment_name) {
  segment_id_t id = -1;
  const int code = with_engine(engine, [&](te::Engine& e) {
    if (segment_name == nullptr) return null_argument("segment_name");
    te::Result<te::SegmentId> opened = e.open_segment_no_cache(segment_name);
    if (opened.ok()) id = *opened;
    return opened.status();
  });
  return code == 0 ? id : code;
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
      to = {from.address, from.offset, from.length, {}, te::described_access(from.access)};
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

batch_id_t allocateBatchID(transfer_engine_t engine, size_t batch_size) {
  batch_id_t id = INVALID_BATCH;
  with_engine(engine, [&](te::Engine& e) {
    te::Result<te::BatchId> batch = e.allocate_batch(batch_size);
    if (batch.ok()) id = *batch;
    return batch.status();
  });
  return id;
}

int submitTransfer(transfer_engine_t engine, batch_id_t batch_id, struct transfer_request* entries,
                   size_t count) {
  return submit(engine, batch_id, entries, count, {});
}

int submitTransferWithNotify(transfer_engine_t engine, batch_id_t batch_id,
                             struct transfer_request* entries, size_t count,
                             notify_msg_t notify_msg) {
  te::SubmitOptions options;
  const int code = guarded([&] {
    te::Notification notification;
    Status status = to_notification(notify_msg, &notification);
    options.notification = std::move(notification);
    return status;
  });
  if (code != 0) return code;
  return submit(engine, batch_id, entries, count, options);
}

int submitTransferWithTimeout(transfer_engine_t engine, batch_id_t batch_id,
                              struct transfer_request* entries, size_t count, uint64_t timeout_ms) {
  te::SubmitOptions options;
  options.timeout = milliseconds(timeout_ms);
  return submit(engine, batch_id, entries, count, options);
}

int submitTransferWithOptions(transfer_engine_t engine, batch_id_t batch_id,
                              struct transfer_request* entries, size_t count,
                              const submit_options_t* options) {
  te::SubmitOptions to;
  const int code = guarded([&]() -> Status {
    if (options == nullptr) return null_argument("options");
    submit_options_t from{};
    TE_RETURN_IF_ERROR(te::copy_submit_options(*options, &from));
    to.addressing = static_cast<te::Addressing>(from.addressing);
    if (from.timeout_ms > 0) to.timeout = milliseconds(from.timeout_ms);
    if (from.notify_msg == nullptr) return {};
    te::Notification notification;
    Status status = to_notification(*from.notify_msg, &notification);
    to.notification = std::move(notification);
    return status;
  });
  if (code != 0) return code;
  return submit(engine, batch_id, entries, count, to);
}

int setAddressing(transfer_engine_t engine, int addressing) {
  return with_engine(engine, [&](te::Engine& e) {
    return e.set_addressing(static_cast<te::Addressing>(addressing));
  });
}

int getTransferStatus(transfer_engine_t engine, batch_id_t batch_id, size_t task_id,
                      struct transfer_status* status) {
  return with_engine(engine, [&](te::Engine& e) {
    if (status == nullptr) return null_argument("status");
    te::Result<te::TransferStatus> found = e.status(batch_id, task_id);
    if (found.ok()) *status = {static_cast<int>(found->state), found->transferred_bytes};
    return found.status();
  });
}

int getBatchStatus(transfer_engine_t engine, batch_id_t batch_id, struct transfer_status* status) {
  return with_engine(engine, [&](te::Engine& e) {
    if (status == nullptr) return null_argument("status");
    te::Result<te::TransferStatus> found = e.batch_status(batch_id);
    if (found.ok()) *status = {static_cast<int>(found->state), found->transferred_bytes};
    return found.status();
  });
}

int getTransferError(transfer_engine_t engine, batch_id_t batch_id, size_t task_id, char* buf_out,
                     size_t buf_len) {
  return with_engine(engine, [&](te::Engine& e) {
    te::Result<te::TaskError> found = e.task_error(batch_id, task_id);
    if (!found.ok()) return found.status();
    const Status& why = found->status;
    return fill_text(why.ok() ? "" : why.to_string(), buf_out, buf_len);
  });
}

int waitBatch(transfer_engine_t engine, batch_id_t batch_id, int64_t timeout_ms) {
  return with_engine(engine, [&](te::Engine& e) {
    if (timeout_ms < 0) return e.wait(batch_id);
    return e.wait(batch_id, std::chrono::milliseconds(timeout_ms));
  });
}

int cancelBatch(transfer_engine_t engine, batch_id_t batch_id) {
  return with_engine(engine, [&](te::Engine& e) { return e.cancel(batch_id); });
}

int getBatchEventFd(transfer_engine_t engine, batch_id_t batch_id) {
  int fd = -1;
  const int code = with_engine(engine, [&](te::Engine& e) {
    te::Result<int> found = e.event_fd(batch_id);
    if (found.ok()) fd = *found;
    return found.status();
  });
  return code == 0 ? fd : code;
}

int freeBatchID(transfer_engine_t engine, batch_id_t batch_id) {
  return with_engine(engine, [&](te::Engine& e) { return e.free_batch(batch_id); });
}

int genNotifyInEngine(transfer_engine_t engine, uint64_t target_id, notify_msg_t notify_msg) {
  return with_engine(engine, [&](te::Engine& e) -> Status {
    te::Notification notification;
    TE_RETURN_IF_ERROR(to_notification(notify_msg, &notification));
    if (target_id > INT32_MAX) {
      return te::error(Code::kNotFound, "there is no open segment with id {}", target_id);
    }
    return e.notify(static_cast<te::SegmentId>(target_id), notification);
  });
}

notify_msg_t* getNotifsFromEngine(transfer_engine_t engine, int* size) {
  if (size == nullptr) {
    report(null_argument("size"));
    return nullptr;
  }
  notify_msg_t* messages = nullptr;
  const int code = with_engine(engine, [&](te::Engine& e) -> Status {
    const std::vector<te::Notification> taken = e.take_notifications();
    *size = 0;
    if (taken.empty()) return {};
    messages = static_cast<notify_msg_t*>(std::calloc(taken.size(), sizeof(notify_msg_t)));
    if (messages == nullptr) return Status(Code::kResource, "out of memory");
    for (const te::Notification& from : taken) {
      messages[*size] = {duplicate(from.name), duplicate(from.message)};
      ++*size;
    }
    return {};
  });
  if (code != 0) *size = code;
  return messages;
}

int freeNotifsMsgBuf(notify_msg_t* msg, int size) {
  if (size < 0 || (msg == nullptr && size > 0)) {
    return report(Status(Code::kInvalidArgument, "the messages to free are not what was returned"));
  }
  for (int i = 0; i < size; ++i) {
    std::free(msg[i].name);
    std::free(msg[i].msg);
  }
  std::free(msg);
  return 0;
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
  return with_engine(engine, [&](te::Engine& e) {
    return fill_text(json != 0 ? te::links_as_json(e.paths()) : links_as_text(e.paths()), buf_out,
                     buf_len);
  });
}

int getEffectiveConfig(transfer_engine_t engine, char* buf_out, size_t buf_len) {
  return with_engine(
      engine, [&](te::Engine& e) { return fill_text(e.effective_config(), buf_out, buf_len); });
}

const char* transferEngineLastError(void) { return last_error_text; }

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
