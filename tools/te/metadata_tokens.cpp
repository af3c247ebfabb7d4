#include "metadata_tokens.h"

#include <fmt/core.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace te::tool {
namespace {

constexpr size_t kLeastBytes = 16;
constexpr size_t kMostBytes = 4096;
constexpr std::string_view kScheme = "Bearer ";

// Read line by line into one buffer, which is overwritten in the end.
class Lines {
 public:
  explicit Lines(const std::string& path) : file_(std::fopen(path.c_str(), "re")) {
    if (file_ != nullptr) std::setvbuf(file_, buffer_, _IOFBF, sizeof buffer_);
  }
  ~Lines() {
    if (file_ != nullptr) std::fclose(file_);
    OPENSSL_cleanse(buffer_, sizeof buffer_);
    if (line_ != nullptr) OPENSSL_cleanse(line_, size_);
    std::free(line_);
  }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;

  bool open() const { return file_ != nullptr; }
  bool next(std::string_view& line) {
    const ssize_t got = ::getline(&line_, &size_, file_);
    if (got < 0) return false;
    line = std::string_view(line_, static_cast<size_t>(got));
    while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
    return true;
  }

 private:
  std::FILE* const file_;
  char buffer_[4096];
  char* line_ = nullptr;
  size_t size_ = 0;
};

Status refused(const std::string& path, const std::string& why) {
  return Status(Code::kInvalidArgument, fmt::format("the token file '{}' {}", path, why));
}

}  // namespace

Tokens::Hash Tokens::hash(std::string_view token) {
  Hash hash{};
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), hash.data());
  return hash;
}

Result<Tokens> Tokens::load(const std::string& path) {
  Lines lines(path);
  if (!lines.open()) return refused(path, fmt::format("cannot be read: {}", std::strerror(errno)));
  Tokens tokens;
  size_t number = 0;
  for (std::string_view line; lines.next(line);) {
    ++number;
    if (line.empty() || line.front() == '#') continue;
    if (line.size() < kLeastBytes || line.size() > kMostBytes ||
        line.find_first_of(std::string_view(" \t\0", 3)) != std::string_view::npos) {
      return refused(path, fmt::format("has no token in line {}: one is {} to {} bytes without "
                                       "spaces, such as `openssl rand -hex 32` prints",
                                       number, kLeastBytes, kMostBytes));
    }
    tokens.hashes_.push_back(hash(line));
  }
  if (tokens.empty()) return refused(path, "has no token");
  return tokens;
}

Tokens::Owner Tokens::owner_of(std::string_view authorization) const {
  if (!authorization.starts_with(kScheme)) return kNobody;
  const Hash presented = hash(authorization.substr(kScheme.size()));
  Owner owner = kNobody;
  for (size_t i = 0; i < hashes_.size(); ++i) {
    if (CRYPTO_memcmp(hashes_[i].data(), presented.data(), presented.size()) == 0) owner = i + 1;
  }
  return owner;
}

}  // namespace te::tool
