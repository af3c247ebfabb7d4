#include "base/random.h"

#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace te {
namespace {

// A kernel call per key would dominate the registration of many buffers, so each thread draws a
// block at a time. A forked child must not repeat its parent's numbers: the block names its
// process.
struct Block {
  std::array<uint8_t, 256> bytes;
  size_t used = 256;
  pid_t pid = 0;
};

void fill(void* out, size_t length) {
  thread_local Block block;
  const pid_t pid = getpid();
  if (block.used + length > block.bytes.size() || block.pid != pid) {
    // Up to 256 bytes are never cut short; failure means a kernel without getrandom.
    ssize_t got;
    do {
      got = getrandom(block.bytes.data(), block.bytes.size(), 0);
    } while (got < 0 && errno == EINTR);
    if (got != static_cast<ssize_t>(block.bytes.size())) std::abort();
    block.used = 0;
    block.pid = pid;
  }
  std::memcpy(out, block.bytes.data() + block.used, length);
  std::memset(block.bytes.data() + block.used, 0, length);
  block.used += length;
}

}  // namespace

uint64_t random_u64() {
  uint64_t value;
  fill(&value, sizeof value);
  return value;
}

std::array<uint8_t, 16> random_bytes16() {
  std::array<uint8_t, 16> value;
  fill(value.data(), value.size());
  return value;
}

}  // namespace te
