// The contract of a transport, and its only way up.
//
//   - submit() hands slices down; each comes back through done() exactly once, perhaps before
//   submit() returns.
//   - A slice comes back only when nothing touches its local memory any more.
//   - No ghost writes: a WRITE that comes back unfinished, while bytes of it may still arrive,
//   comes back after a fence() was asked for.
//   - A transport may choose among its own paths to the same peer, and then sets the slice's path.
//   Any other way is not its to take: it returns the slice, and the engine plans again.
//   - Codes that make the engine try again: kUnavailable (the path broke; set_error() first),
//   kStale
//     (the peer restarted, or does not know the key). Every other code ends the task.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/socket.h"
#include "base/waker.h"
#include "core/batch.h"
#include "core/device_memory.h"
#include "core/locator.h"
#include "core/wire.h"
#include "tls/connection.h"
#include "tls/credentials.h"

namespace te {

struct Peer;

class TransportHost {
 public:
  using Answered = std::function<void(Result<Bytes>)>;

  virtual ~TransportHost() = default;
  // Any thread of the transport's own. After it, the slice may be gone.
  virtual void done(Slice* slice, Code code) = 0;
  // This run of the process.
  virtual uint64_t instance() const = 0;
  // With which connections to peers are made; null: without TLS.
  virtual std::shared_ptr<tls::Identity> identity() const { return nullptr; }
  // Of this machine, where peers are to come: what the user asked for; empty: nothing.
  virtual std::string asked_address() const { return {}; }
  // Brings `hello` (at most wire::kMaxExchange bytes) to accept() of the peer's transport of that
  // name, and what that returns to `answered`; returns at once. `answered` is called exactly once,
  // on a thread of the engine that may block, never from inside this call while the transport runs;
  // it may come as late as after stop(), but before the destructor. Errors: kStale (another run of
  // the peer is there now), kNotFound (no open segment leads to the peer), kUnavailable (it cannot
  // be reached), kCancelled (the engine ends), what the peer's engine says (kBusy: too much at
  // once; kUnsupported: no such transport), and what its accept() says. When the connection is lost
  // in the middle, the peer may see the same hello twice.
  virtual void exchange(const Peer& peer, std::string_view transport, Bytes hello,
                        Answered answered) = 0;
  // A WRITE to the peer comes back unfinished, and what was sent of it may still arrive. accept()
  // of the peer's transport answers `hello` when nothing of it can arrive any more; until then no
  // WRITE to the peer is posted, on whatever path. Called before done() of the slice. Any thread,
  // also with locks held: nothing is called back.
  virtual void fence(const Peer& peer, std::string_view transport, Bytes hello) = 0;
  // Of this engine's buffer that contains the address; null: there is none, or it is in host
  // memory. For transports that reach other kinds; not with locks held.
  virtual std::shared_ptr<const DeviceMemory> device_memory(uint64_t address) {
    (void)address;
    return nullptr;
  }
  // Whether this process uses a device of the kind, and one that it uses: it is the memory of no
  // buffer, and copies between host memory and blocks that it opens.
  virtual bool has_device(MemoryKind kind) {
    (void)kind;
    return false;
  }
  virtual Result<std::shared_ptr<const DeviceMemory>> any_device(MemoryKind kind) {
    (void)kind;
    return Status(Code::kUnsupported, "this process uses no device of that kind");
  }
  // Memory that a device may have pinned for copies is about to be unmapped. Also after stop().
  virtual void unpin(std::byte* begin, size_t length) {
    (void)begin;
    (void)length;
  }
};

// The engine behind a segment, as a transport sees it when it makes paths.
struct Peer {
  uint64_t instance = 0;
  bool self = false;      // it is this engine
  SocketAddress address;  // that answered last; of this engine: none
  uint32_t key_size = 0;  // of the keys that it gives for the transport in question

  // For people.
  std::string to_string() const { return self ? "this engine" : address.to_string(); }
};

struct Capabilities {
  bool same_engine_only = false;
  bool within_host = false;            // what it moves does not leave this machine
  bool data_over_engine_port = false;  // adopt() takes connections of the engine's port
  uint64_t slice_bytes = UINT64_MAX;   // no larger slices, so that several threads end together
  // The same, whatever is configured, where a driver copies, which is faster in large pieces; 0: as
  // above.
  uint64_t device_slice_bytes = 0;
  // register_memory() is wanted for buffers that peers may not touch, too, since the transport has
  // to know the local memory; and unregister_memory() once this engine does not use it either.
  bool registers_local_memory = false;
  // Only memory of these kinds is registered, or posted. `remote`: also what peers reach here.
  Reach reach;
  // It checks at each access what the peer may do. Others serve peers that may READ and WRITE.
  bool checks_rights = false;
  uint32_t key_size = 0;  // of register_memory()'s answer
};

// Whether the connection from `peer` that began with `hello` may make place for another.
using MayEnd = std::function<bool(const SocketAddress& peer, const wire::Hello& hello)>;

// Methods may be called from any thread, unless stated.
class Transport {
 public:
  virtual ~Transport() = default;

  virtual std::string_view name() const = 0;
  virtual Capabilities capabilities() const = 0;
  virtual std::vector<DeviceLoad> loads() const = 0;

  // What peers must show to touch the buffer: capabilities().key_size opaque bytes.
  virtual Result<Bytes> register_memory(const Buffer& buffer) = 0;
  // Refuses peers at once. None touches the buffer any more when the next call succeeds.
  virtual void unregister_memory(const Buffer& buffer) = 0;
  // kBusy when a peer that stands still, such as a stopped process, is in the middle of an access
  // and does not end it by `until_ns`; ask again later. Waits here or in the call before.
  virtual Status await_quiet(const Buffer& buffer, int64_t until_ns) {
    (void)buffer;
    (void)until_ns;
    return {};
  }

  // What peers need to know to reach this transport, opaque; part of the descriptor. Constant.
  virtual Bytes info() const { return {}; }
  // The ways to a peer that offers this transport; `info` is its side's info().
  virtual std::vector<std::shared_ptr<Path>> make_paths(const Peer& peer, ByteView info) = 0;
  // Begins to connect what is not connected, and returns at once. A ready path is tried out, in
  // milliseconds at most, so that both ends are awake for what comes next.
  virtual void warm_up(Path& path) = 0;
  // Takes over a connection that a peer opened for this transport, hello read but not answered.
  // `permit` counts it among the engine's inbound connections until it is let go.
  virtual void adopt(tls::Connection connection, const wire::Hello& hello,
                     std::shared_ptr<void> permit) = 0;
  // Begins to close what one peer brought through adopt(): of the peers that `may_end` allows and
  // that used none of it since `before_ns`, the one that was idle longest. It connects again when
  // it needs to. Returns at once; false: there is none.
  virtual bool end_idlest(int64_t before_ns, const MayEnd& may_end) {
    (void)before_ns;
    (void)may_end;
    return false;
  }

  // Answers exchange() of a peer's transport, with at most wire::kMaxExchange bytes. The hello is
  // whatever the peer sent; `rights`: what the peer may do. May block for milliseconds; several may
  // be under way at once, and one may come during stop() or after it.
  virtual Result<Bytes> accept(const Bytes& hello, Rights rights) {
    (void)hello;
    (void)rights;
    return Status(Code::kUnsupported, "this transport takes no exchanges");
  }

  // Hands over slices, at least one, all on one path of this transport. Never waits for a peer, and
  // keeps nothing of the caller's but the slices. It may do for them what the calling thread can do
  // at once, and call done() from inside: the caller holds no lock, and keeps all that the slices
  // lead to.
  virtual void submit(SliceList slices) = 0;
  // Lends the calling thread to the path while its slices are under way: moves bytes, takes
  // answers, calls done(). Returns when something happened, when `waker` was woken (and clears it),
  // or at `until_ns`; 0: at once, without sleeping. False when there is nothing that the thread
  // could do: others do it, and the caller sleeps elsewhere. Slices come back without any such
  // thread too. The caller holds no lock; `waker` is its own.
  virtual bool progress(Path& path, int64_t until_ns, Waker& waker) {
    (void)path;
    (void)until_ns;
    (void)waker;
    return false;
  }
  // Slices of the path that are cancelled() come back soon.
  virtual void sweep(Path& path) = 0;
  // Every slice of the path comes back, as kUnavailable.
  virtual void reset(Path& path) = 0;
  // Every slice comes back as kCancelled, then all threads end. No call may follow but the
  // destructor.
  virtual void stop() = 0;
};

}  // namespace te
