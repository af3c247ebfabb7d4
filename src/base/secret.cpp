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
Result<size_t> read_file(std::string_view setting, const std::string& path, void* into,
                         size_t size) {
  const auto failed = [&] {
    return error(Code::kInvalidArgument, "cannot read the file '{}' of {}: {}", path, setting,
                 errno_text(errno));
  };
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return failed();
  size_t total = 0;
  while (total < size) {
    const ssize_t got = ::read(file.get(), static_cast<char*>(into) + total, size - total);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed();
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
  const Result<size_t> size = read_file(setting, path, bytes.data(), bytes.size());
  if (!size.ok()) return size.status();
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

Result<Secret> read_secret_file(std::string_view setting, const std::string& path, size_t most) {
  Secret bytes(most + 1);
  const Result<size_t> size = read_file(setting, path, bytes.data(), bytes.size());
  if (!size.ok()) return size.status();
  if (*size <= most) return Secret(bytes.view().substr(0, *size));
  return error(Code::kInvalidArgument, "the file '{}' of {} is larger than {} bytes", path, setting,
               most);
}

void cleanse(std::string& text) {
  if (!text.empty()) ::explicit_bzero(text.data(), text.size());
  text.clear();
}

}  // namespace te
