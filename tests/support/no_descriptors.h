// A lack of file descriptors, for as long as it lives: this process has none left, and gets none.
// Not while another test runs in the process.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <vector>

namespace te::test {

class NoDescriptors {
 public:
  NoDescriptors() {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    // A low limit keeps the number of copies low; descriptors beyond it stay as they are.
    const rlimit low{64, before_.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &low);
    for (int fd = 0; (fd = ::dup(0)) >= 0;) held_.push_back(fd);
  }
  ~NoDescriptors() {
    for (const int fd : held_) ::close(fd);
    ::setrlimit(RLIMIT_NOFILE, &before_);
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit before_{};
  std::vector<int> held_;
};

}  // namespace te::test
