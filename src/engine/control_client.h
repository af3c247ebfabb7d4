// The calling side of the control channel to one peer: one connection, one call at a time.
//
// Threads: any; calls wait for each other. All block, bounded by the timeout.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/socket.h"
#include "core/locator.h"
#include "core/wire.h"

namespace te {

class ControlClient {
 public:
  // Resolves the host, tries its addresses in turn. kStale when another run than the locator's
  // answers; kUnavailable when nobody does.
  static Result<std::unique_ptr<ControlClient>> connect(const Locator& locator,
                                                        uint64_t own_instance,
                                                        std::chrono::milliseconds timeout);

  // The answer's body. After any error but the peer's own answer, usable() is false.
  Result<Bytes> call(wire::ControlType type, std::string_view body);

  bool usable() const;
  uint64_t peer_instance() const { return peer_instance_; }
  const SocketAddress& address() const { return address_; }

 private:
  ControlClient(BlockingStream stream, const SocketAddress& address,
                std::chrono::milliseconds timeout)
      : address_(address), timeout_(timeout), stream_(std::move(stream)) {}
  Status hello(const Locator& locator, uint64_t own_instance);
  Result<Bytes> exchange(wire::ControlType type, std::string_view body, bool* answered)
      TE_REQUIRES(mutex_);

  const SocketAddress address_;
  const std::chrono::milliseconds timeout_;
  uint64_t peer_instance_ = 0;
  mutable Mutex mutex_;
  BlockingStream stream_ TE_GUARDED_BY(mutex_);
  uint64_t next_id_ TE_GUARDED_BY(mutex_) = 1;
  bool usable_ TE_GUARDED_BY(mutex_) = true;
};

}  // namespace te
