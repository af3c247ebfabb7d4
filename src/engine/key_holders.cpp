#include "engine/key_holders.h"

#include "base/log.h"

namespace te {

void KeyHolders::add(const tls::Visitor& peer) {
  if (!peer.known()) return;
  MutexLock lock(mutex_);
  peers_.insert_or_assign(peer.name(), peer);
}

void KeyHolders::check(int64_t now_ns) {
  bool lost = false;
  {
    MutexLock lock(mutex_);
    for (auto each = peers_.begin(); each != peers_.end();) {
      const Status status = each->second.recheck(now_ns);
      if (status.ok()) {
        ++each;
        continue;
      }
      log_warning("the keys that '{}' knows end: {}", each->first, status.message());
      lost = true;
      each = peers_.erase(each);
    }
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
