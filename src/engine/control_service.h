// What an engine does for its peers, who ask for it over its port.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/bytes.h"
#include "core/rights.h"
#include "core/wire.h"
#include "tls/connection.h"
#include "transfer_engine/status.h"
#include "transport/transport.h"

namespace te {

// Of those permissions, the ones that concern memory.
inline Rights rights_of(tls::Permissions permissions) {
  Rights rights = Rights::kNone;
  if (permissions.contains({tls::Permission::kRead})) rights = rights | Rights::kRead;
  if (permissions.contains({tls::Permission::kWrite})) rights = rights | Rights::kWrite;
  return rights;
}

class ControlService {
 public:
  virtual ~ControlService() = default;
  // What the peer may know.
  virtual std::shared_ptr<const Bytes> describe(const tls::Principal& peer) = 0;
  virtual uint64_t generation() = 0;
  virtual Status notified(wire::NotifyBody body) = 0;
  // Returns at once. Ok: `answered` is called once, on another thread; else it is not, and the peer
  // is refused.
  virtual Status exchange(wire::ExchangeBody body, Rights rights,
                          std::function<void(Result<Bytes>)> answered) = 0;
  // The engine's own links, as JSON.
  virtual Bytes links() { return "[]"; }
  // False, and nothing taken: no transport serves such connections.
  virtual bool adopt(tls::Connection& connection, const wire::Hello& hello,
                     std::shared_ptr<void> permit) = 0;
  // Now and then; returns at once.
  virtual void check_peers(int64_t now_ns) { (void)now_ns; }
  // See Transport.
  virtual void end_idlest(int64_t before_ns, const MayEnd& may_end) {
    (void)before_ns;
    (void)may_end;
  }
};

}  // namespace te
