#include "tls/policy.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>

#include "base/fd.h"
#include "base/log.h"
#include "tls/credentials.h"

namespace te::tls {
namespace {

constexpr size_t kLargestPolicy = 1 << 20;
constexpr Permission kPermissions[] = {Permission::kOpen, Permission::kRead, Permission::kWrite,
                                       Permission::kNotify, Permission::kWatch};

// The text up to a blank or comma; takes it, and what is between it and the next one, away.
std::string_view next_word(std::string_view& rest) {
  constexpr std::string_view kBetween = " \t\r,";
  rest.remove_prefix(std::min(rest.find_first_not_of(kBetween), rest.size()));
  const std::string_view word = rest.substr(0, rest.find_first_of(kBetween));
  rest.remove_prefix(word.size());
  return word;
}

bool is_control(char each) {
  return static_cast<unsigned char>(each) < ' ' && each != '\t' && each != '\r';
}

// False: there is no such word.
bool add_named(std::string_view word, Permissions& to) {
  if (word == "all") to = Permissions::all();
  if (word == "all" || word == "none") return true;
  for (const Permission each : kPermissions) {
    if (word != permission_name(each)) continue;
    to.add({each});
    return true;
  }
  return false;
}

}  // namespace

std::string_view permission_name(Permission permission) {
  switch (permission) {
    case Permission::kOpen:
      return "open";
    case Permission::kRead:
      return "read";
    case Permission::kWrite:
      return "write";
    case Permission::kNotify:
      return "notify";
    case Permission::kWatch:
      return "watch";
  }
  return "?";
}

std::string Permissions::to_string() const {
  std::string result;
  for (const Permission each : kPermissions) {
    if (!contains({each})) continue;
    result += (result.empty() ? "" : ", ") + std::string(permission_name(each));
  }
  return result.empty() ? "none" : result;
}

Result<Policy> Policy::parse(std::string_view text) {
  Policy policy;
  policy.everything_ = false;
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (std::any_of(line.begin(), line.end(), is_control)) {
      return error(Code::kInvalidArgument, "line {} has a control character", number);
    }
    line = line.substr(0, line.find('#'));
    const std::string_view pattern = next_word(line);
    if (pattern.empty()) continue;
    Rule rule{std::string(pattern), {}};
    bool alone = false;  // there was a word that takes no others beside it
    std::string_view word = next_word(line);
    if (word.empty()) {
      return error(Code::kInvalidArgument, "line {}: '{}' has no rights: give some of {}, or none",
                   number, pattern, Permissions::all().to_string());
    }
    for (; !word.empty(); word = next_word(line)) {
      const bool first = rule.permissions == Permissions() && !alone;
      alone = alone || word == "all" || word == "none";
      if (alone && !first) {
        return error(Code::kInvalidArgument,
                     "line {}: all and none stand alone, without other rights", number);
      }
      if (add_named(word, rule.permissions)) continue;
      return error(Code::kInvalidArgument,
                   "line {}: there is no right '{}': give some of {}, or all, or none", number,
                   word, Permissions::all().to_string());
    }
    policy.rules_.push_back(std::move(rule));
  }
  return policy;
}

Result<Policy> Policy::load(const std::string& file) {
  std::ifstream in(file);
  if (!in) {
    return error(Code::kInvalidArgument, "tls_policy: cannot read '{}': {}", file,
                 errno_text(errno));
  }
  std::string text(kLargestPolicy + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kLargestPolicy) {
    return error(Code::kInvalidArgument, "tls_policy: '{}' is larger than {} bytes", file,
                 kLargestPolicy);
  }
  Result<Policy> policy = parse(text);
  if (policy.ok()) return policy;
  return error(Code::kInvalidArgument, "tls_policy: '{}', {}", file, policy.status().message());
}

Permissions Policy::of(const std::vector<std::string>& names) const {
  if (everything_) return Permissions::all();
  for (const Rule& rule : rules_) {
    const bool anyone = rule.pattern == "*";
    const bool named = std::any_of(names.begin(), names.end(), [&rule](const std::string& name) {
      return matches(rule.pattern, name);
    });
    if (anyone || named) return rule.permissions;
  }
  return {};
}

}  // namespace te::tls
