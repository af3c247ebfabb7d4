#include "base/fd.h"

#include <unistd.h>

#include <system_error>

namespace te {

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::string errno_text(int error) { return std::generic_category().message(error); }

}  // namespace te
