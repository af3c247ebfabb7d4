// The contract of a transport, and its only way up.
//
//   - post() hands slices down; each comes back through done() exactly once, never from inside
//   post().
//   - A slice comes back only when nothing touches its local memory any more.
//   - A transport never sends a slice another way: it returns it, and the engine plans again.
//   - Codes that make the engine try again: kUnavailable (the path broke; set_error() first),
//   kStale
//     (the peer restarted, or does not know the key). Every other code ends the task.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/fd.h"
#include "base/socket.h"
#include "core/batch.h"
#include "core/locator.h"
#include "core/wire.h"

namespace te {

class TransportHost {
 public:
  virtual ~TransportHost() = default;
  // Any thread of the transport's own. After it, the slice may be gone.
  virtual void done(Slice* slice, Code code) = 0;
  // This run of the process.
  virtual uint64_t instance() const = 0;
};

// The engine behind a segment, as a transport sees it when it makes paths.
struct Peer {
  uint64_t instance = 0;
  bool self = false;      // it is this engine
  SocketAddress address;  // that answered last
};

struct Capabilities {
  bool same_engine_only = false;
  bool data_over_engine_port = false;  // adopt() takes connections of the engine's port
  uint32_t key_size = 0;               // of register_memory()'s answer
};

// Methods may be called from any thread, unless stated.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual std::string_view name() const = 0;
  virtual Capabilities capabilities() const = 0;
  virtual std::vector<DeviceLoad> loads() const = 0;

  // What peers must show to touch the buffer: capabilities().key_size opaque bytes.
  virtual Result<Bytes> register_memory(const Buffer& buffer) = 0;
  // Refuses peers at once, and waits until none touches the buffer.
  virtual void unregister_memory(const Buffer& buffer) = 0;

  // What peers need to know to reach this transport, opaque; part of the descriptor. Constant.
  virtual Bytes info() const { return {}; }
  // The ways to a peer that offers this transport; `info` is its side's info().
  virtual std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView info) = 0;
  // Connects what is not connected; returns at once.
  virtual void warm_up(Path& path) = 0;
  // Takes over a connection that a peer opened for this transport, hello read but not answered.
  // `permit` counts it among the engine's inbound connections until it is let go.
  virtual void adopt(Fd connection, const wire::Hello& hello, std::shared_ptr<void> permit) = 0;

  // Hands over the slices, linked by `next`; all are on paths of this transport. Never blocks, and
  // keeps nothing of the caller's but the slices.
  virtual void post(Slice* first) = 0;
  // Lends the calling thread to the path while its slices are under way: moves bytes, takes
  // answers, calls done(). Returns when something happened, when it was interrupted, or at
  // `until_ns`: at once for 0, without sleeping. False when there is nothing that the thread could
  // do: others do it, and the caller sleeps elsewhere. No caller is needed for slices to come back.
  virtual bool progress(Path& path, int64_t until_ns) {
    (void)path;
    (void)until_ns;
    return false;
  }
  // A thread that sleeps in progress() of this path returns soon.
  virtual void interrupt(Path& path) { (void)path; }
  // Slices of the path that are cancelled() come back soon.
  virtual void sweep(Path& path) = 0;
  // Every slice of the path comes back, as kUnavailable.
  virtual void reset(Path& path) = 0;
  // Every slice comes back as kCancelled, then all threads end. No call may follow but the
  // destructor.
  virtual void stop() = 0;
};

}  // namespace te
