#include "base/waker.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

#include "base/per_thread.h"

namespace te {

namespace {

Fd make_event() { return Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)); }

}  // namespace

Waker::Waker() : fd_(make_event()) {}

Waker& Waker::of_this_thread() {
  Waker& waker = per_thread<Waker>();
  if (waker.generation_ != fork_generation()) [[unlikely]] {
    waker.fd_ = make_event();
    waker.generation_ = fork_generation();
  }
  return waker;
}

void Waker::wake() {
  const uint64_t one = 1;
  (void)!::write(fd_.get(), &one, sizeof one);
}

void Waker::clear() {
  uint64_t count = 0;
  (void)!::read(fd_.get(), &count, sizeof count);
}

}  // namespace te
