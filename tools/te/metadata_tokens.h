// The tokens of the metadata server: who may use it, and who owns what.
//
// Only hashes are kept. Threads: any; immutable once loaded.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "transfer_engine/status.h"

namespace te::tool {

class Tokens {
 public:
  // The number of a token, from 1. Nobody: no token, or one that is not known.
  using Owner = size_t;
  static constexpr Owner kNobody = 0;

  // One token a line, of 16 to 4096 bytes; empty lines and those that begin with # do not count.
  // An error never shows a token.
  static Result<Tokens> load(const std::string& path);

  // None were given: everybody may do everything.
  bool empty() const { return hashes_.empty(); }
  // Of an Authorization header: "Bearer TOKEN".
  Owner owner_of(std::string_view authorization) const;

 private:
  using Hash = std::array<uint8_t, 32>;
  static Hash hash(std::string_view token);

  std::vector<Hash> hashes_;
};

}  // namespace te::tool
