// Passwords, tokens and keys in memory: overwritten before their memory is given back.
//
// Threads: as std::string. Copies that libcurl, the kernel or the environment keep are beyond
// reach.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "transfer_engine/status.h"

namespace te {

inline constexpr size_t kMaxSecretBytes = 4096;

class Secret {
 public:
  Secret() = default;
  explicit Secret(size_t size) : bytes_(size) {}
  explicit Secret(std::string_view text) : bytes_(as_bytes(text).begin(), as_bytes(text).end()) {}
  ~Secret();
  Secret(const Secret&) = default;
  Secret(Secret&&) noexcept = default;
  Secret& operator=(Secret other) noexcept {
    bytes_.swap(other.bytes_);
    return *this;
  }

  bool empty() const { return bytes_.empty(); }
  size_t size() const { return bytes_.size(); }
  std::byte* data() { return bytes_.data(); }
  const std::byte* data() const { return bytes_.data(); }
  std::string_view view() const {
    return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
  }

 private:
  std::vector<std::byte> bytes_;  // unlike a string, it keeps nothing inside the object
};

// The first line of the file at `path`, without its end. kInvalidArgument, naming `setting` and the
// path, where the file cannot be read, is empty, or is more than one line or kMaxSecretBytes long.
Result<Secret> read_secret(std::string_view setting, const std::string& path);

// The whole file. kInvalidArgument where it cannot be read or has more than `most` bytes.
Result<Secret> read_secret_file(std::string_view setting, const std::string& path, size_t most);

// Overwrites `text` and leaves it empty.
void cleanse(std::string& text);

}  // namespace te
