#include "transport/tcp/attachment.h"

#include <algorithm>

namespace te::tcp {
namespace {

constexpr int64_t kFirstLeaseMs = 1;
constexpr int64_t kLongestLeaseMs = 8;

const void* this_thread() {
  static thread_local char mark;
  return &mark;
}

}  // namespace

void Attachment::caller_began() {
  caller_.store(this_thread(), std::memory_order_relaxed);
  ++calls_;
}

bool Attachment::detach(const std::shared_ptr<const Lanes>& lanes) {
  for (const std::shared_ptr<Lane>& lane : *lanes) lane->detach();
  detached_ = lanes;
  any_detached_.store(true);
  if (leased_) return false;
  lease_ms_.store(kFirstLeaseMs);
  leased_ = true;
  return true;
}

void Attachment::attach() {
  if (!any_detached_.load()) return;
  if (const std::shared_ptr<const Lanes> lanes = detached_.lock()) {
    for (const std::shared_ptr<Lane>& lane : *lanes) lane->attach();
  }
  detached_.reset();
  any_detached_.store(false);
}

bool Attachment::check_lease() {
  leased_ = calls_ != calls_at_check_;
  calls_at_check_ = calls_;
  lease_ms_.store(std::min(lease_ms_.load() * 2, kLongestLeaseMs));
  if (!leased_) attach();
  return leased_;
}

bool Attachment::detached_for_another_thread() const {
  return any_detached_.load() && caller_.load(std::memory_order_relaxed) != this_thread();
}

}  // namespace te::tcp
