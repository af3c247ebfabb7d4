// The C++ API: one Engine per process, usually.
//
// Threads: every method may be called from any thread at any time. When the destructor begins, no
// other thread may be inside a call, except wait(), which the destructor wakes.
// Ownership: no argument is used after the call has returned, with two exceptions. Registered
// memory must stay valid until it is unregistered, the source of a request until its task is
// terminal. Failure: nothing throws; every error says what, where and what to do. Fork: an engine
// belongs to the process that created it. In a forked child every call on it fails (kUnsupported),
// lists are empty, and its destructor does nothing. A child may create its own. It has none of the
// engine's sockets, and shares the memory of allocate() with its parent.
#pragma once

#if __cplusplus < 201709L
#error "transfer_engine/engine.h needs C++20: compile with -std=c++20, or use transfer_engine_c.h"
#endif

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "transfer_engine/status.h"
#include "transfer_engine/types.h"

namespace te {

struct EngineOptions {
  // The directory: "P2PHANDSHAKE" (no server), "etcd://h:p[,h:p]" or a bare "h:p" (etcd),
  // "redis://[:password@]h:p[/db]", "http://h:p/path"; with TLS "etcds://...", "rediss://...",
  // "https://...". The settings directory_... have its certificates, user, password and token.
  std::string metadata = "P2PHANDSHAKE";
  // The segment's name in the directory. With P2PHANDSHAKE it may be "host" or "host:port"; the
  // name others open is then local_endpoint().
  std::string name = {};
  // The address that peers should use: one of this machine, or a name that resolves to one. For any
  // other address create() fails, unless the setting advertise_address is given. Empty or the same
  // as `name`: the name if it is an address of this machine, else chosen by the engine. The setting
  // bind_address is where the engine listens, and what it advertises if nothing else was given.
  std::string host = {};
  // The port to listen on; 0 means any free one. A taken port is an error.
  uint16_t port = 0;
  // Discover the topology and install every transport that this machine can serve.
  bool auto_discover = false;
  // How target_offset is read unless a submission states it. kDefault: kOffset. The setting
  // `addressing` has precedence.
  Addressing addressing = Addressing::kDefault;
  // Settings by name, as `te info` lists them. They override the environment and the defaults.
  std::map<std::string, std::string> config = {};
};

struct SubmitOptions {
  // Time after which the tasks end in kTimeout: never sooner, and at most 50 ms later on a machine
  // that is not overloaded, whatever peers, networks and directories do. Unset: the setting
  // transfer_timeout_ms. Zero or negative: they end in kTimeout at once, unless already complete.
  std::optional<std::chrono::milliseconds> timeout = std::nullopt;
  // Delivered to the target's queue after every request of this submission has completed, and at
  // most once. All requests of the submission must go to one segment. The last task stays pending
  // until the target has the notification. If the last task ends in kTimeout or kCancelled, or
  // fails because a connection was lost, the target may have it or not, and does not get it later.
  std::optional<Notification> notification = std::nullopt;
  // For all requests of this submission. kDefault: the mode of the engine.
  Addressing addressing = Addressing::kDefault;
  // Work of GPUs that must end before anything touches the local memory, such as kernels that
  // write the source: a CUevent (cudaEvent_t), as it was recorded last, and a CUstream
  // (cudaStream_t), with what is in it at the time of the call; CU_STREAM_LEGACY for the default
  // stream. Null: none. The call does not wait: the tasks are pending until the work has ended,
  // and end at their deadline and by cancel() as others do. They fail if the work fails. Neither
  // is used after the call: the event may be recorded again, or destroyed.
  void* after_event = nullptr;
  void* after_stream = nullptr;
};

// A list that is checked, with its ranges merged, to be submitted many times. A value; copies share
// it. It refers to the engine's segment by id, and to no memory: what it names is looked up again
// in each submission, so a peer may register its memory again, or restart, in between.
class TE_EXPORT PreparedList {
 public:
  // Ranges after merging, and their bytes.
  size_t ranges() const;
  uint64_t bytes() const;

 private:
  friend class Engine;
  struct Ranges;
  std::shared_ptr<const Ranges> ranges_;
};

class TE_EXPORT Engine {
 public:
  // Listens, publishes the name. Fails on a taken port or name, an unreachable directory, a wrong
  // option.
  static Result<std::unique_ptr<Engine>> create(const EngineOptions& options);
  // Cancels transfers in flight, wakes waiters, withdraws the name, closes everything. Waits at
  // most 80 ms for the metadata server: if it does not answer, the name stays until it does, or
  // until the lease of the name ends.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Ok in the process that created the engine. In a forked child: the error of every call there.
  Status check_process() const;

  // "host:port" as peers should use it. With P2PHANDSHAKE this is the segment's name.
  std::string local_endpoint() const;
  // The name of the local segment.
  std::string local_name() const;

  // Reads the topology of this machine again: memory nodes, GPUs, NICs and their distances. The
  // variables of hwloc work: HWLOC_XMLFILE names a recorded machine.
  Status discover_topology();
  // The topology as JSON; discovers it if that was not done yet.
  Result<std::string> topology();
  // Which NICs serve which location, from the topology: preferred ones and others, nearest first:
  // {"cpu:0": [["mlx5_0"], ["mlx5_1"]], ...}.
  Result<std::string> nic_priority_matrix();
  // `protocol` such as "tcp". `nic_priority_matrix`: JSON as above; empty: as discovered. An engine
  // without an installed transport serves tcp and shm. The first install replaces both: after
  // install_transport("tcp") alone there is no shm.
  Status install_transport(std::string_view protocol, std::string_view nic_priority_matrix = {});
  // Transfers in flight over it move to other transports, or fail if there is none.
  Status uninstall_transport(std::string_view protocol);
  std::vector<TransportInfo> transports() const;

  // `location`: "cpu:N", "cuda:N" or "*". `access`: what peers may do. Registration determines what
  // this process itself may do to the memory. A request that exceeds either fails with an error
  // that names the side. A range that is registered already, with the same location and access, is
  // counted: unregister it as often. Fails on any other overlap with a registered buffer, on
  // unmapped or inaccessible memory, and on stated access that the memory does not allow.
  Status register_memory(void* addr, size_t length, std::string_view location = "*",
                         Access access = Access::kDefault);
  Status register_memory(void* addr, size_t length, std::string_view location,
                         bool remote_accessible) {
    return register_memory(addr, length, location,
                           remote_accessible ? Access::kDefault : Access::kNone);
  }
  // Refuses peers at once, then waits until no transfer touches the buffer any more. Deadlines
  // bound that. kBusy if a stopped process of this host (in a debugger, for example) has been in
  // the middle of a copy for longer than unregister_timeout_ms; the error names the process. The
  // memory must then stay valid. Call again to continue waiting.
  Status unregister_memory(void* addr);
  // All or none.
  Status register_memory_batch(std::span<const BufferEntry> buffers,
                               std::string_view location = "*", Access access = Access::kDefault);
  Status unregister_memory_batch(std::span<void* const> addrs);

  // Zeroed memory that is registered until free() or the end of the engine. Peers on this host map
  // it, so that transfers to and from it are plain copies. That is the fastest way between
  // processes, and works even if the kernel does not let them access each other's memory. If the
  // process may not create memory files (memfd_create), or none of that size (RLIMIT_FSIZE), it
  // returns ordinary memory.
  Result<void*> allocate(size_t length, const AllocateOptions& options = {});
  // Unregisters and frees the memory. Waits as unregister_memory() does, but never for a stopped
  // process.
  Status free(void* addr);
  // Unregisters the memory and leaves it mapped: from now on it is the caller's, also after the end
  // of the engine. Returns the bytes to unmap (munmap). Waits as free() does.
  Result<size_t> release(void* addr);

  // Resolves, connects and learns the segment's buffers. The same name has the same id until it
  // is closed as often as opened. The engine follows a target that restarts under the same name. If
  // that target registers another layout of buffers, writes at the same offsets land in the new
  // layout.
  Result<SegmentId> open_segment(std::string_view name);
  // The same, but always asks the engine behind the segment.
  Result<SegmentId> open_segment_no_cache(std::string_view name);
  // Transfers in flight to it go on; new ones are refused.
  Status close_segment(SegmentId id);
  Result<SegmentInfo> describe_segment(SegmentId id);
  // Connects everything that transfers to this segment will use, maps shared memory, and reads a
  // byte of the segment as a test.
  Status warmup_segment(std::string_view name);
  // Refetches the description of every open segment.
  Status sync_segment_cache();
  // Removes the local segment from the directory; `name` must be its name.
  Status remove_local_segment(std::string_view name);
  // Resolves and connects again, then measures `rounds` round trips on the control channel.
  Result<ProbeResult> probe(std::string_view name, size_t rounds);
  // The result of paths() in the engine behind a segment, which need not be open.
  Result<std::vector<PathInfo>> paths_of(std::string_view name);

  // Sets the mode of the engine; not kDefault. Requests in flight keep theirs.
  Status set_addressing(Addressing addressing);

  // Room for `size` requests, submitted together or one after another.
  Result<BatchId> allocate_batch(size_t size, const BatchOptions& options = {});
  // Accepts all requests or none. Task ids are assigned in order of submission, from 0. Never waits
  // for the network: a range that the target is not known to offer is accepted, and its task fails
  // (out_of_range, permission, unavailable) once the target itself has refused. A target that
  // restarted has retry_window_ms to register its memory again.
  Status submit(BatchId batch, std::span<const TransferRequest> requests,
                const SubmitOptions& options = {});
  // One task each, with all ranges of the list: it completes when all of them have. Nothing of the
  // list is used after the call. A range may go on in the next buffer, and all local memory is of
  // one kind. At most 4,194,304 ranges after merging.
  Status submit_list(BatchId batch, const BlockList& blocks, const SubmitOptions& options = {});
  Status submit_list(BatchId batch, const AddressList& addresses,
                     const SubmitOptions& options = {});
  Status submit_list(BatchId batch, const PreparedList& list, const SubmitOptions& options = {});
  // Checks a list as its submission does.
  Result<PreparedList> prepare(const BlockList& blocks);
  Result<PreparedList> prepare(const AddressList& addresses);
  // A memory load: makes no progress, takes no lock. A thread that spins on it gives way to others
  // now and then (sched_yield).
  Result<TransferStatus> status(BatchId batch, size_t task) const;
  // Over all submitted tasks: pending while any is; then the worst state (failed, timeout,
  // cancelled, completed); and the sum of the bytes.
  Result<TransferStatus> batch_status(BatchId batch) const;
  Result<TaskError> task_error(BatchId batch, size_t task) const;
  // Waits until every submitted task is terminal. Ok even if tasks failed. kTimeout if that takes
  // longer than `timeout`; unset: no limit. kCancelled if the engine is destroyed meanwhile and
  // tasks were cancelled by that. The calling thread makes progress: it moves bytes and polls, and
  // sleeps when there is nothing to do. With a timeout of zero or less it never sleeps; call it in
  // a loop to poll with the lowest latency.
  Status wait(BatchId batch, std::optional<std::chrono::milliseconds> timeout = std::nullopt);
  // Requests the cancellation of every task in flight. They become terminal soon; use wait().
  Status cancel(BatchId batch);
  // A descriptor that is readable while no task is in flight, after at least one submission. It
  // belongs to the engine: never read or close it. free_batch() closes it.
  Result<int> event_fd(BatchId batch);
  // Takes batches that have ended, oldest first, and returns how many: of those that were allocated
  // with completion_queue. A batch comes once each time that its last task in flight ends, unless
  // it is freed, or used again, before it is taken.
  size_t take_completions(std::span<Completion> completions);
  // A descriptor that is readable while there is a batch to take. It belongs to the engine: never
  // read or close it.
  Result<int> completion_fd();
  // Waits until every task is terminal, then frees.
  Status free_batch(BatchId batch);

  // Sends a message to the target's queue and returns when it is there. After kTimeout it may be
  // there, but does not arrive later.
  Status notify(SegmentId target, const Notification& notification);
  // Takes all notifications that have arrived.
  std::vector<Notification> take_notifications();

  // The bandwidth is measured since the previous call, and smoothed over 1 s.
  std::vector<DeviceLoad> device_loads();
  std::vector<PathInfo> paths() const;
  // The effective configuration as JSON: name, value, default, unit, origin, help.
  std::string effective_config() const;

 private:
  class Impl;
  template <typename List>
  Result<PreparedList> prepare_checked(const List& list);
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// While it lives, calls of its thread that wait for a peer ask `interrupted` every 50 ms, and end
// as kCancelled once that is true: open_segment, describe_segment, sync_segment_cache, probe,
// paths_of and notify. For interpreters, which handle signals on the thread that calls.
class TE_EXPORT Interruptible {
 public:
  explicit Interruptible(std::function<bool()> interrupted);
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

TE_EXPORT std::string_view version();

enum class LogLevel : int { kError = 0, kWarning = 1, kInfo = 2, kDebug = 3 };
// Every message of every engine of the process goes to `hook` instead of stderr; null restores
// that. The hook may be called from any thread, and must not call the library.
TE_EXPORT void set_log_hook(std::function<void(LogLevel, std::string_view)> hook);
// Messages above `level` are dropped. Default: warning, or TRANSFER_ENGINE_LOG_LEVEL.
TE_EXPORT void set_log_level(LogLevel level);

}  // namespace te
