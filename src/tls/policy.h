// What a peer may do here, by the names that it has shown: a file with a line for each pattern of
// names.
//
// Threads: any; read-only.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "transfer_engine/status.h"

namespace te::tls {

enum class Permission : uint8_t {
  kOpen = 1,    // learn which buffers there are
  kRead = 2,    // READ from them
  kWrite = 4,   // WRITE to them
  kNotify = 8,  // send notifications
  kWatch = 16,  // see this engine's links and their load
};

class Permissions {
 public:
  constexpr Permissions() = default;
  constexpr Permissions(std::initializer_list<Permission> permissions) {
    for (const Permission each : permissions) bits_ |= static_cast<uint8_t>(each);
  }
  static constexpr Permissions all() {
    return {Permission::kOpen, Permission::kRead, Permission::kWrite, Permission::kNotify,
            Permission::kWatch};
  }
  constexpr void add(Permissions others) { bits_ |= others.bits_; }
  constexpr bool contains(Permissions others) const {
    return (bits_ & others.bits_) == others.bits_;
  }
  constexpr bool operator==(const Permissions&) const = default;
  // "open, read", or "none".
  std::string to_string() const;

 private:
  uint8_t bits_ = 0;
};

std::string_view permission_name(Permission permission);

class Policy {
 public:
  // Without a file every peer may do everything.
  Policy() = default;
  // kInvalidArgument, with the line, where the text is not a policy.
  static Result<Policy> parse(std::string_view text);
  // Also where the file cannot be read, or is larger than 1 MiB.
  static Result<Policy> load(const std::string& file);

  // Of the first line that matches one of the names. Who is in no line may do nothing.
  Permissions of(const std::vector<std::string>& names) const;

 private:
  struct Rule {
    std::string pattern;
    Permissions permissions;
  };

  bool everything_ = true;
  std::vector<Rule> rules_;
};

}  // namespace te::tls
