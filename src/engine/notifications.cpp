#include "engine/notifications.h"

#include "base/log.h"

namespace te {

Status Notifications::deliver(wire::NotifyBody body) {
  MutexLock lock(mutex_);
  auto [entry, fresh] = senders_.try_emplace(body.sender);
  if (fresh) {
    sender_order_.push_back(body.sender);
    if (sender_order_.size() > kMaxSenders) {
      senders_.erase(sender_order_.front());
      sender_order_.pop_front();
    }
  }
  Sender& sender = entry->second;
  if (sender.seen.contains(body.sequence)) return {};
  const uint64_t bytes = body.notification.name.size() + body.notification.message.size();
  if (waiting_.size() >= max_waiting_ || waiting_bytes_ + bytes > kMaxBytes) {
    return error(
        Code::kBusy,
        "{} notifications wait at the target, more than it holds: take them there, or raise "
        "max_notifications",
        waiting_.size());
  }
  sender.seen.insert(body.sequence);
  sender.order.push_back(body.sequence);
  if (sender.order.size() > kRemembered) {
    sender.seen.erase(sender.order.front());
    sender.order.pop_front();
  }
  waiting_bytes_ += bytes;
  waiting_.push_back(std::move(body.notification));
  return {};
}

std::vector<Notification> Notifications::take() {
  MutexLock lock(mutex_);
  std::vector<Notification> result;
  result.swap(waiting_);
  waiting_bytes_ = 0;
  return result;
}

}  // namespace te
