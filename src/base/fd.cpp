#include "base/fd.h"

#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace te {

void Fd::reset() {
  const int fd = std::exchange(fd_, -1);
  if (fd < 0 || generation_ != fork_generation()) return;
  const NoFork no_fork;
  forget_descriptor(fd);
  ::close(fd);
}

std::string errno_text(int error) {
  std::string text = std::generic_category().message(error);
  if (error == EMFILE) {
    text += " (RLIMIT_NOFILE is " + std::to_string(descriptor_limit()) +
            " in this process; raise it with `ulimit -n`)";
  }
  if (error == ENFILE) text += " (in the whole system; raise it with `sysctl fs.file-max`)";
  return text;
}

bool is_shortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

uint64_t descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1'024;
  return limit.rlim_cur;
}

}  // namespace te
