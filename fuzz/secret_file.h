// A file with the secret that engines of a fuzzer share. Each process has its own, which goes with
// it: several may run at once.
#pragma once

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "require.h"
#include "tls/credentials.h"

inline te::tls::Files secret_file() {
  static const int fd = [] {
    const std::string line(64, 'a');
    const int made = ::memfd_create("secret", MFD_CLOEXEC);
    require(made >= 0 && ::fchmod(made, S_IRUSR | S_IWUSR) == 0);
    require(::write(made, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
    return made;
  }();
  te::tls::Files files;
  files.secret = "/proc/self/fd/" + std::to_string(fd);
  return files;
}
