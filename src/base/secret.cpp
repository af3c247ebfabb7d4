#include "base/secret.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/fd.h"
#include "base/log.h"

namespace te {
namespace {

// A terminal or a pipe would block, so only what is there is read.
Result<size_t> read_file(const std::string& path, char* into, size_t size) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return Status(Code::kInvalidArgument, errno_text(errno));
  size_t total = 0;
  while (total < size) {
    const ssize_t got = ::read(file.get(), into + total, size - total);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Status(Code::kInvalidArgument, errno_text(errno));
    if (got == 0) break;
    total += static_cast<size_t>(got);
  }
  return total;
}

}  // namespace

Secret::~Secret() {
  if (!bytes_.empty()) ::explicit_bzero(bytes_.data(), bytes_.size());
}

Result<Secret> read_secret(std::string_view setting, const std::string& path) {
  std::array<char, kMaxSecretBytes + 3> bytes;  // with "\r\n", and one more shows a longer file
  const Result<size_t> size = read_file(path, bytes.data(), bytes.size());
  if (!size.ok()) {
    return error(Code::kInvalidArgument, "cannot read the file '{}' of {}: {}", path, setting,
                 size.status().message());
  }
  std::string_view text(bytes.data(), *size);
  if (text.ends_with('\n')) text.remove_suffix(1);
  if (text.ends_with('\r')) text.remove_suffix(1);
  const bool one_line = text.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos;
  Secret secret(text.substr(0, kMaxSecretBytes));
  const bool fits = text.size() <= kMaxSecretBytes;
  ::explicit_bzero(bytes.data(), bytes.size());
  if (secret.empty()) {
    return error(Code::kInvalidArgument, "the file '{}' of {} is empty", path, setting);
  }
  if (!one_line || !fits) {
    return error(Code::kInvalidArgument,
                 "the file '{}' of {} must hold one line of text of at most {} bytes", path,
                 setting, kMaxSecretBytes);
  }
  return secret;
}

void cleanse(std::string& text) {
  if (!text.empty()) ::explicit_bzero(text.data(), text.size());
  text.clear();
}

}  // namespace te
