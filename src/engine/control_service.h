// What an engine does for its peers, who ask for it over its port.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/bytes.h"
#include "base/fd.h"
#include "core/wire.h"
#include "transfer_engine/status.h"
#include "transport/transport.h"

namespace te {

class ControlService {
 public:
  virtual ~ControlService() = default;
  virtual std::shared_ptr<const Bytes> describe() = 0;
  virtual uint64_t generation() = 0;
  virtual Status notified(wire::NotifyBody body) = 0;
  // Returns at once. Ok: `answered` is called once, on another thread; else it is not, and the peer
  // is refused.
  virtual Status exchange(wire::ExchangeBody body, std::function<void(Result<Bytes>)> answered) = 0;
  // The engine's own links, as JSON.
  virtual Bytes links() { return "[]"; }
  // False, and nothing taken: no transport serves such connections.
  virtual bool adopt(Fd& connection, const wire::Hello& hello, std::shared_ptr<void> permit) = 0;
  // See Transport.
  virtual void end_idlest(int64_t before_ns, const MayEnd& may_end) {
    (void)before_ns;
    (void)may_end;
  }
};

}  // namespace te
