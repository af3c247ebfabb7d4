// A control connection to another engine, as those see it who only call: ControlClient, or a
// test's.
//
// Threads: the loop's alone. Nothing blocks. Every callback comes exactly once; where the
// connection is closed already, from inside the call.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/socket.h"
#include "core/wire.h"

namespace te {

class ControlChannel {
 public:
  using Answered = std::function<void(Result<Bytes>)>;

  virtual ~ControlChannel() = default;
  // `answered` gets the answer's body, or the peer's error. kUnavailable when the connection is
  // lost, or when no answer comes in time: the connection is closed then. kTimeout at
  // `deadline_ns`, which closes it too, so that what was not sent never leaves. kBusy: too much
  // waits.
  virtual void call(wire::ControlType type, std::string_view body, int64_t deadline_ns,
                    Answered answered) = 0;
  // Calls without an answer get `why`. What the peer has not received by then never reaches it.
  virtual void close(const Status& why) = 0;

  // Whether calls can be made. After any error but the peer's own answer it is false.
  virtual bool usable() const = 0;
  virtual uint64_t peer_instance() const = 0;
  virtual const SocketAddress& address() const = 0;  // the one tried last
};

}  // namespace te
