#include "tls/principal.h"

#include <openssl/x509.h>

#include <utility>

#include "base/log.h"

namespace te::tls {

Principal::Principal(std::shared_ptr<Identity> identity,
                     std::shared_ptr<const Credentials> credentials, PeerIdentity peer,
                     bool limited)
    : identity_(std::move(identity)),
      checked_by_(std::move(credentials)),
      peer_(std::make_shared<const PeerIdentity>(std::move(peer))),
      limited_(limited) {
  if (limited_) permissions_ = checked_by_->permissions(*peer_);
}

Principal::Principal(std::string name, Permissions permissions)
    : peer_(std::make_shared<const PeerIdentity>(PeerIdentity{std::move(name)})),
      permissions_(permissions) {}

bool Principal::same_as(const Principal& other) const {
  X509* const mine = peer_->certificate.get();
  X509* const others = other.peer_->certificate.get();
  if (mine == nullptr || others == nullptr) return mine == others && name() == other.name();
  return X509_cmp(mine, others) == 0;
}

bool Principal::expired() const {
  X509* const certificate = peer_->certificate.get();
  return certificate != nullptr && X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0;
}

Status Principal::recheck(int64_t now_ns) {
  if (!identity_) return {};
  if (checked_ns_ == 0) checked_ns_ = now_ns;
  std::shared_ptr<const Credentials> current = identity_->current();
  if (current == checked_by_ && now_ns - checked_ns_ < identity_->recheck_ns()) return {};
  checked_by_ = std::move(current);
  checked_ns_ = now_ns;
  TE_RETURN_IF_ERROR(checked_by_->check(*peer_));
  if (!limited_) return {};
  const Permissions permissions = checked_by_->permissions(*peer_);
  if (permissions == permissions_) return {};
  return error(Code::kPermission, "the rights of '{}' were changed to: {}", peer_->name,
               permissions.to_string());
}

Status Principal::refuse(Permission wanted) const {
  if (identity_) identity_->count_refusal(peer_->name, wanted);
  return error(Code::kPermission, "the engine's tls_policy does not let '{}' {}: it may {}",
               peer_->name, permission_name(wanted), permissions_.to_string());
}

}  // namespace te::tls
