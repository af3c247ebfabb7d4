// An owned file descriptor. In a forked child the parent's are closed, and an Fd that came from
// there closes nothing: see fork.h.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "base/fork.h"

namespace te {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd), generation_(fork_generation()) { note_descriptor(fd); }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)), generation_(other.generation_) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
      generation_ = other.generation_;
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }
  // What `open` returns, such as a socket that no child may inherit. No fork happens meanwhile.
  template <typename Open>
  static Fd open(Open&& open) {
    const NoFork no_fork;
    return Fd(open());
  }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
  uint32_t generation_ = 0;
};

// The text of an errno, such as "Connection refused". Of a lack of file descriptors it says which
// limit is reached and how it is raised.
std::string errno_text(int error);
// Whether the process or the system has too little of something now, and so may have enough later:
// file descriptors, memory, buffers of the kernel.
bool is_shortage(int error);
// The number of file descriptors that this process may have, as it is now (RLIMIT_NOFILE).
uint64_t descriptor_limit();

}  // namespace te
