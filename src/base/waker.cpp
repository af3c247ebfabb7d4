#include "base/waker.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

namespace te {

Waker::Waker() : fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {}

Waker& Waker::of_this_thread() {
  static thread_local Waker waker;
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
