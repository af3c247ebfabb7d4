#include "engine/interrupt.h"

#include <functional>
#include <utility>

#include "base/clock.h"
#include "transfer_engine/engine.h"

namespace te {

struct Interruptible::State {
  const std::function<bool()> ask;
  State* const outer;  // of the same thread
  bool interrupted = false;
};

namespace {

constexpr int64_t kAskMs = 50;
thread_local Interruptible::State* innermost = nullptr;

}  // namespace

Interruptible::Interruptible(std::function<bool()> interrupted)
    : state_(new State{std::move(interrupted), innermost}) {
  innermost = state_.get();
}

Interruptible::~Interruptible() { innermost = state_->outer; }

std::optional<Status> get_unless_interrupted(Answer<Status>& answer) {
  Interruptible::State* const state = innermost;
  if (state == nullptr) return answer.get();
  for (;;) {
    // Once interrupted it stays so: a call that waits for several peers ends at once.
    const int64_t patience_ms = state->interrupted ? 0 : kAskMs;
    std::optional<Status> status = answer.get_until(deadline_after_ms(now_ns(), patience_ms));
    if (status) return status;
    if (!state->interrupted) state->interrupted = state->ask();
    if (state->interrupted) return std::nullopt;
  }
}

Status interrupted_call() { return Status(Code::kCancelled, "the call was interrupted"); }

}  // namespace te
