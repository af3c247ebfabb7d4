// A peer that was let in, as long as its connection stands: whether it still would be, and what it
// may do here. Without TLS anybody may do everything.
//
// Threads: any, one at a time for recheck().
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "tls/credentials.h"
#include "tls/policy.h"
#include "transfer_engine/status.h"

namespace te::tls {

class Principal {
 public:
  Principal() = default;
  // `limited`: by the policy of this engine, which is the side that was connected to.
  Principal(std::shared_ptr<Identity> identity, std::shared_ptr<const Credentials> credentials,
            PeerIdentity peer, bool limited);
  // For tests: a peer of this name.
  Principal(std::string name, Permissions permissions);

  // It came with TLS: what it may do can change.
  bool known() const { return identity_ != nullptr; }
  const std::string& name() const { return peer_->name; }
  // Both showed the same certificate, or have the same secret.
  bool same_as(const Principal& other) const;
  // Its certificate's time is over.
  bool expired() const;
  Permissions permissions() const { return permissions_; }
  // kPermission where it may not. That is counted and logged.
  Status require(Permission wanted) const {
    return permissions_.contains({wanted}) ? Status() : refuse(wanted);
  }
  // kPermission if it would not be let in any more, or may do something else than when it was. This
  // is looked at after files were exchanged and every tls_recheck_s.
  Status recheck(int64_t now_ns);

 private:
  Status refuse(Permission wanted) const;

  std::shared_ptr<Identity> identity_;
  std::shared_ptr<const Credentials> checked_by_;
  std::shared_ptr<const PeerIdentity> peer_;
  bool limited_ = false;
  Permissions permissions_ = Permissions::all();
  int64_t checked_ns_ = 0;
};

}  // namespace te::tls
