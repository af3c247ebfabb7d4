#include "engine/key_holders.h"

#include "base/log.h"

namespace te {

void KeyHolders::add(const tls::Principal& peer) {
  if (!peer.known()) return;
  MutexLock lock(mutex_);
  std::vector<tls::Principal>& shown = peers_[peer.name()];
  std::erase_if(shown, [&peer](const tls::Principal& each) { return each.same_as(peer); });
  if (shown.size() >= kMostCertificates) shown.erase(shown.begin());
  shown.push_back(peer);
}

bool KeyHolders::lost_one(std::vector<tls::Principal>& shown, int64_t now_ns) {
  bool lost = false;
  for (size_t i = 0; i < shown.size();) {
    const Status status = shown[i].recheck(now_ns);
    if (status.ok()) {
      ++i;
      continue;
    }
    // It was exchanged in time.
    const bool followed = shown[i].expired() && i + 1 < shown.size();
    if (!followed) {
      log_warning("the keys that '{}' knows end: {}", shown[i].name(), status.message());
      lost = true;
    }
    shown.erase(shown.begin() + static_cast<ptrdiff_t>(i));
  }
  return lost;
}

void KeyHolders::check(int64_t now_ns) {
  bool lost = false;
  {
    MutexLock lock(mutex_);
    for (auto& [name, shown] : peers_) lost = lost_one(shown, now_ns) || lost;
    std::erase_if(peers_, [](const auto& each) { return each.second.empty(); });
  }
  if (lost) pool_.run([this] { renew(); });
}

void KeyHolders::renew() {
  Status status;
  for (int i = 0; i < kAttempts; ++i) {
    status = renew_();
    if (status.ok()) return;
  }
  log_error("buffers keep keys that a peer knows who is not let in any more: {}", status.message());
}

}  // namespace te
