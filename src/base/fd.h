// An owned file descriptor.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

namespace te {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
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
