// The C++ API: one Engine per process, usually.
//
// Threads: every method may be called from any thread at any time, except that no call may be under
// way in another thread when the destructor begins, other than wait(), which it wakes.
// Ownership: no argument is used after the call returned, except the memory that was registered and
// the sources of submitted requests, which must stay valid until unregistered and until terminal.
// Failure: nothing throws; every error says what, where and what to do.
// Fork: an engine stays with the process that created it. In a child every call on it fails
// (kUnsupported), lists are empty, and its destructor does nothing; a child may create its own. The
// child has none of the engine's sockets, and shares the memory of allocate() with its parent.
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
  // "redis://[:password@]h:p[/db]", "http://h:p/path", "https://...".
  std::string metadata = "P2PHANDSHAKE";
  // The segment's name in the directory. With P2PHANDSHAKE it may be "host" or "host:port"; the
  // name others open is then local_endpoint().
  std::string name = {};
  // The address peers should use: one of this machine, or a name that resolves to one; else
  // create() fails, unless the setting advertise_address says what to advertise. Empty or the same
  // as `name`: the name, where it is an address of this machine, else found out. See also the
  // setting bind_address: where the engine listens, and what it advertises if nothing else was
  // given.
  std::string host = {};
  // The port to listen on; 0 means any free one. A taken port is an error.
  uint16_t port = 0;
  // Discover the topology and install every transport that this machine can serve.
  bool auto_discover = false;
  // How target_offset is read where a submission does not say. kDefault: kOffset. The setting
  // `addressing` has precedence.
  Addressing addressing = Addressing::kDefault;
  // Settings by their name in the configuration table, over the environment and the defaults.
  std::map<std::string, std::string> config = {};
};

struct SubmitOptions {
  // How long the tasks may take before they end in kTimeout: never sooner, and at most 50 ms later
  // where the machine has time, whatever peers, networks and directories do. Unset:
  // transfer_timeout_ms. Zero or negative: they end in kTimeout at once, unless they were quicker.
  std::optional<std::chrono::milliseconds> timeout = std::nullopt;
  // Reaches the target's queue once, after every request of this submission completed. All its
  // requests must then go to one segment; the last task stays pending until the target has it. At
  // most once in any case; where the last task ends as kTimeout or kCancelled, or fails for a lost
  // connection, the target may have it or not, but does not get it afterwards.
  std::optional<Notification> notification = std::nullopt;
  // Of all requests of this submission. kDefault: the engine's mode.
  Addressing addressing = Addressing::kDefault;
};

class TE_EXPORT Engine {
 public:
  // Listens, publishes the name. Fails on a taken port or name, an unreachable directory, a wrong
  // option.
  static Result<std::unique_ptr<Engine>> create(const EngineOptions& options);
  // Cancels what is in flight, wakes waiters, withdraws the name, closes everything. A metadata
  // server that does not answer is not waited for (80 ms): the name then stays until it answers, or
  // until the name's lease ends.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Ok in the process that created the engine; in one forked from it, what every call fails with
  // there.
  Status check_process() const;

  // "host:port" as peers should use it. With P2PHANDSHAKE this is the segment's name.
  std::string local_endpoint() const;
  // The name of the local segment.
  std::string local_name() const;

  // Reads this machine anew: memory nodes, GPUs, NICs and how far they are apart. hwloc's variables
  // work: HWLOC_XMLFILE shows a recorded machine.
  Status discover_topology();
  // What was discovered, as JSON; discovers it where that was not done yet.
  Result<std::string> topology();
  // Of that, which NICs serve which location, preferred ones and others, nearest first:
  // {"cpu:0": [["mlx5_0"], ["mlx5_1"]], ...}.
  Result<std::string> nic_priority_matrix();
  // `protocol` such as "tcp". `nic_priority_matrix`: JSON as above, or empty: as discovered. An
  // engine on which nothing was installed serves tcp and shm; the first install replaces both, so
  // install_transport("tcp") alone leaves tcp without shm.
  Status install_transport(std::string_view protocol, std::string_view nic_priority_matrix = {});
  // Transfers under way over it are moved to other transports, or fail where there is none.
  Status uninstall_transport(std::string_view protocol);
  std::vector<TransportInfo> transports() const;

  // `location`: "cpu:N", "cuda:N" or "*". `access`: what peers may do. Registration finds out what
  // this process itself may do to the memory; a request beyond either fails with an error that
  // names the side. Fails on an overlap with a registered buffer, on memory that is unmapped or
  // cannot be touched at all, and on stated access that the memory does not allow.
  Status register_memory(void* addr, size_t length, std::string_view location = "*",
                         Access access = Access::kDefault);
  Status register_memory(void* addr, size_t length, std::string_view location,
                         bool remote_accessible) {
    return register_memory(addr, length, location,
                           remote_accessible ? Access::kDefault : Access::kNone);
  }
  // Waits until no transfer touches the buffer any more (deadlines bound that); peers are refused
  // at once. kBusy when a process of this host that stands still (a debugger's, say) is in the
  // middle of a copy for longer than unregister_timeout_ms: its text names the process. The memory
  // must then stay valid; call again to go on waiting.
  Status unregister_memory(void* addr);
  // All or none.
  Status register_memory_batch(std::span<const BufferEntry> buffers,
                               std::string_view location = "*", Access access = Access::kDefault);
  Status unregister_memory_batch(std::span<void* const> addrs);

  // Zeroed memory that is registered until free(), or the engine's end. Peers on this host map it,
  // so that transfers to and from it are plain copies: the fastest way between processes, and the
  // one that a kernel which keeps processes out of each other's memory leaves open. Where the
  // process may not make memory files (memfd_create), or none of that size (RLIMIT_FSIZE), it is
  // memory like any other.
  Result<void*> allocate(size_t length, const AllocateOptions& options = {});
  // Unregisters, and gives the memory back. Waits as unregister_memory() does, but never for a
  // process that stands still.
  Status free(void* addr);

  // Resolves, connects and learns the segment's buffers. The same name gives the same id until as
  // many closes. The engine follows a target that restarts under the same name.
  Result<SegmentId> open_segment(std::string_view name);
  // The same, but never answers from what is known already.
  Result<SegmentId> open_segment_no_cache(std::string_view name);
  // Transfers in flight to it go on; new ones are refused.
  Status close_segment(SegmentId id);
  Result<SegmentInfo> describe_segment(SegmentId id);
  // Connects everything that transfers to this segment will use, maps what is to be mapped, and
  // reads a byte of the segment to try it all out.
  Status warmup_segment(std::string_view name);
  // Refetches the description of every open segment.
  Status sync_segment_cache();
  // Takes the local segment out of the directory; `name` must be its name.
  Status remove_local_segment(std::string_view name);
  // Resolves and connects afresh, then measures `rounds` round trips on the control channel.
  Result<ProbeResult> probe(std::string_view name, size_t rounds);
  // What paths() says in the engine behind a segment, open or not.
  Result<std::vector<PathInfo>> paths_of(std::string_view name);

  // The engine's mode from here on; not kDefault. Requests under way keep theirs.
  Status set_addressing(Addressing addressing);

  // Room for `size` requests, submitted at once or bit by bit.
  Result<BatchId> allocate_batch(size_t size);
  // All accepted or none. Task ids are given in order of submission, from 0. Never waits for the
  // network: what the target does not offer as far as is known here is accepted, and ends as failed
  // (out_of_range, permission, unavailable) once the target said so itself. A target that restarted
  // has retry_window_ms to register its memory again.
  Status submit(BatchId batch, std::span<const TransferRequest> requests,
                const SubmitOptions& options = {});
  // A memory load: makes no progress, takes no lock.
  Result<TransferStatus> status(BatchId batch, size_t task) const;
  // Over all submitted tasks: pending while any is; then the worst end (failed, timeout, cancelled,
  // completed); the sum of the bytes.
  Result<TransferStatus> batch_status(BatchId batch) const;
  Result<TaskError> task_error(BatchId batch, size_t task) const;
  // Waits until every submitted task is terminal: ok, whatever their ends are. kTimeout if that
  // takes longer than `timeout`; unset: no limit of its own. The thread helps to move the bytes,
  // and sleeps when there is nothing to do for it; with a timeout of zero, or a negative one, it
  // never sleeps: call it in a loop to poll with the least latency.
  Status wait(BatchId batch, std::optional<std::chrono::milliseconds> timeout = std::nullopt);
  // Asks for the end of every task in flight; they become terminal soon after (wait() for it).
  Status cancel(BatchId batch);
  // A descriptor that polls readable while nothing submitted is in flight after at least one
  // submission. The engine's own: never read or close it; it is gone when the batch is freed.
  Result<int> event_fd(BatchId batch);
  // Waits until every task is terminal, then frees.
  Status free_batch(BatchId batch);

  // A message to the target's queue; returns when it is there. kTimeout: it may be there, but does
  // not arrive any more.
  Status notify(SegmentId target, const Notification& notification);
  // Takes all that arrived.
  std::vector<Notification> take_notifications();

  // The bandwidth is that since the call before, smoothed over a second: ask now and then.
  std::vector<DeviceLoad> device_loads();
  std::vector<PathInfo> paths() const;
  // The effective configuration as JSON: name, value, default, unit, origin, help.
  std::string effective_config() const;

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

TE_EXPORT std::string_view version();

enum class LogLevel : int { kError = 0, kWarning = 1, kInfo = 2, kDebug = 3 };
// Every message of every engine of the process goes to `hook` instead of stderr; null restores
// that. The hook may be called from any thread, and must not call the library.
TE_EXPORT void set_log_hook(std::function<void(LogLevel, std::string_view)> hook);
// Messages above `level` are dropped. Default: warning, or TRANSFER_ENGINE_LOG_LEVEL.
TE_EXPORT void set_log_level(LogLevel level);

}  // namespace te
