#include "engine/publication.h"

#include <optional>

#include "base/log.h"
#include "base/thread.h"

namespace te {
namespace {

// How long the end of an engine waits for the directory at most.
constexpr int64_t kLeaveMs = 80;

}  // namespace

Status Publication::publish(const Locator& locator,
                            const std::function<bool(const Locator&)>& alive) {
  TE_RETURN_IF_ERROR(directory_->publish(name_, locator, alive));
  published_.store(true);
  return {};
}

Status Publication::remove() {
  if (!published_.exchange(false)) {
    return error(Code::kNotFound, "segment '{}' is not published", name_);
  }
  return directory_->withdraw(name_);
}

void Publication::withdraw() {
  if (!published_.exchange(false)) return;
  if (Status status = directory_->withdraw(name_); !status.ok()) {
    log_info("withdrawing '{}': {}", name_, status.message());
  }
}

void Publication::begin_leave() {
  left_published_ = published_.exchange(false);
  left_ = std::make_shared<Answer<Status>>();
  const auto leave = [left = left_, directory = directory_] { left->set(directory->leave()); };
  // A server may be silent: it is asked on a thread of its own, where there can be one more.
  if (directory_->asks_a_server()) {
    if (Result<Thread> thread = Thread::start("te-withdraw", leave); thread.ok()) {
      thread->detach();
      return;
    }
  }
  leave();
}

void Publication::finish_leave() {
  const std::optional<Status> status = left_->get_until(now_ns() + kLeaveMs * kNsPerMs);
  if (!left_published_) return;
  if (!status) {
    log_warning("segment name '{}' stays in {} until its server answers, or its lease ends", name_,
                directory_->describe());
  } else if (!status->ok()) {
    log_warning("segment name '{}' stays in {} until its lease ends: {}", name_,
                directory_->describe(), status->message());
  }
}

}  // namespace te
