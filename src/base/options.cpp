#include "base/options.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <variant>

#include "base/fd.h"
#include "base/log.h"

namespace te {
namespace {

// One that is a member of Config.
struct Member {
  Setting setting;
  std::variant<uint64_t Config::*, std::string Config::*, Secret Config::*> place;
};

constexpr std::string_view kGuardedCopiesHelp =
    "handler or kernel: how copies survive inaccessible memory: by a handler of SIGSEGV and "
    "SIGBUS, or by copying in the kernel, which is slower and needs no handler";
constexpr std::string_view kNicsHelp =
    "NICs to use, separated by commas; a name may end in *; ^ first: all except these";
constexpr uint64_t kDayMs = 86'400'000;
constexpr uint64_t kMostInbound = 4'096;
constexpr uint64_t kMostPending = 256;

Member number(std::string_view name, std::string_view unit, std::string_view help,
              uint64_t Config::*place, uint64_t min, uint64_t max) {
  return {{name, unit, help, Setting::Number{Config().*place, min, max}}, place};
}

Member text(std::string_view name, std::string_view help, std::string Config::*place,
            std::span<const std::string_view> accepted = {}) {
  return {{name, "", help, Setting::Text{{}, accepted}}, place};
}

Member hidden(std::string_view name, std::string_view help, Secret Config::*place) {
  return {{name, "", help, Setting::Hidden{}}, place};
}

std::string upper(std::string_view name) {
  std::string result(name);
  for (char& c : result) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return result;
}

std::string lower(std::string_view name) {
  std::string result(name);
  for (char& c : result) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return result;
}

constexpr std::string_view kAddressings[] = {"auto", "offset", "address"};
constexpr std::string_view kGuards[] = {"handler", "kernel"};
constexpr std::string_view kSecurity[] = {"off", "tls"};
constexpr std::string_view kBooleans[] = {"false", "true"};
constexpr std::string_view kLogLevels[] = {"error", "warning", "info", "debug"};

// Never destroyed: engines are made until the process ends.
const std::vector<Member>& members() {
  static const auto& all = *new std::vector<Member>({
      text("addressing",
           "auto, offset or address: how target_offset is read unless the call states it; not set: "
           "auto for C, offset for C++ and Rust",
           &Config::addressing, kAddressings),
      text("advertise_address",
           "address or host name that peers should use; empty: chosen by the engine",
           &Config::advertise_address),
      text("bind_address",
           "address to listen on and to advertise; empty: all addresses, IPv4 and IPv6",
           &Config::bind_address),
      number("transfer_timeout_ms", "ms",
             "time a submission may take before its tasks end in TIMEOUT",
             &Config::transfer_timeout_ms, 1, kDayMs),
      number("retry_window_ms", "ms",
             "time a peer that is lost or takes nothing is tried again before tasks end in FAILED; "
             "with 0 a task also fails if "
             "its target closes the idle connection at that moment",
             &Config::retry_window_ms, 0, kDayMs),
      number("connect_timeout_ms", "ms", "time to connect to a peer", &Config::connect_timeout_ms,
             1, kDayMs),
      number("hello_timeout_ms", "ms", "time in which a new connection must send its hello",
             &Config::hello_timeout_ms, 1, kDayMs),
      number("stall_timeout_ms", "ms", "time a peer may stop in the middle of a frame",
             &Config::stall_timeout_ms, 1, kDayMs),
      number("unregister_timeout_ms", "ms",
             "time for which unregistering waits for a stopped process",
             &Config::unregister_timeout_ms, 1, kDayMs),
      number("directory_timeout_ms", "ms", "maximum time of one call to the metadata server",
             &Config::directory_timeout_ms, 1, kDayMs),
      number("directory_lease_s", "s", "time after which the name of a crashed engine disappears",
             &Config::directory_lease_s, 1, 3'600),
      text("directory_tls_ca",
           "PEM file of the authorities that the metadata server's certificate may be from; empty: "
           "those of the system",
           &Config::directory_tls_ca),
      text("directory_tls_cert",
           "PEM file of the certificate that the engine shows the metadata server",
           &Config::directory_tls_cert),
      text("directory_tls_key", "PEM file of its private key; empty: directory_tls_cert has it",
           &Config::directory_tls_key),
      text("directory_user", "user name for the metadata server", &Config::directory_user),
      hidden("directory_password", "password for the metadata server; its value is not shown",
             &Config::directory_password),
      text("directory_password_file", "file with the password, read at each login",
           &Config::directory_password_file),
      hidden("directory_token", "token for an HTTP metadata server; its value is not shown",
             &Config::directory_token),
      text("directory_token_file", "file with the token, read at each request",
           &Config::directory_token_file),
      number("slice_bytes", "bytes", "larger requests are split into slices of this size",
             &Config::slice_bytes, 4'096, 1 << 30),
      number("staging_part_bytes", "bytes",
             "bytes that are copied at once where no transport reaches the memory",
             &Config::staging_part_bytes, 4'096, 64 << 20),
      number("staging_bytes", "bytes",
             "limit on host memory that peers lease to stage copies of this engine's memory",
             &Config::staging_bytes, 0, uint64_t{1} << 40),
      text("nics", kNicsHelp, &Config::nics),
      number("max_inbound_connections", "",
             "limit on connections from peers; 0: derived from `ulimit -n`, at most 4096",
             &Config::max_inbound_connections, 0, 1'000'000),
      number("max_pending_connections", "",
             "limit on connections without a hello; 0: derived from `ulimit -n`, at most 256",
             &Config::max_pending_connections, 0, 100'000),
      number("max_notifications", "",
             "limit on received notifications not taken yet; more are refused",
             &Config::max_notifications, 1, 10'000'000),
      text("log_level", "error, warning, info or debug", &Config::log_level, kLogLevels),
      text("guarded_copies", kGuardedCopiesHelp, &Config::guarded_copies, kGuards),
      text("security",
           "off or tls: with tls all bytes on the engine's port are inside TLS 1.3, and only peers "
           "with a valid identity are talked to",
           &Config::security, kSecurity),
      text("tls_cert", "PEM file of this engine's certificate, then those up to the authority's",
           &Config::tls_cert),
      text("tls_key", "PEM file of its key, without a password", &Config::tls_key),
      text("tls_ca", "PEM file of the authorities whose peers are let in", &Config::tls_ca),
      text("tls_crl", "PEM file of lists of revoked certificates; empty: none", &Config::tls_crl),
      text("tls_psk_file",
           "file with a secret that all engines share, instead of certificates; further lines: "
           "secrets that peers may still have",
           &Config::tls_psk_file),
      text("tls_allow",
           "names of certificates that are let in, separated by commas; * for a part of a name; "
           "empty: all of the authorities",
           &Config::tls_allow),
      text("tls_policy",
           "file of what peers may do: lines with a name, as in tls_allow, and some of open, read, "
           "write, notify, watch; the first line that fits decides; empty: everything",
           &Config::tls_policy),
      number("tls_recheck_s", "s", "how often the identities of connected peers are checked again",
             &Config::tls_recheck_s, 1, 86'400),
      text("tls_allow_plaintext_fabrics",
           "true or false: whether transports over NICs may be used beside TLS, which does not "
           "protect what they move",
           &Config::tls_allow_plaintext_fabrics, kBooleans),
  });
  return all;
}

// A setting as it is looked up.
struct Known {
  const Setting* setting = nullptr;
  const Member* member = nullptr;  // null: it is declared elsewhere
};

class Table {
 public:
  explicit Table(const std::vector<const Setting*>& more) {
    for (const Member& member : members()) all_.push_back({&member.setting, &member});
    for (const Setting* setting : more) all_.push_back({setting, nullptr});
  }

  const std::vector<Known>& all() const { return all_; }
  const Known* find(std::string_view name) const {
    const auto found = std::find_if(
        all_.begin(), all_.end(), [name](const Known& each) { return each.setting->name == name; });
    return found == all_.end() ? nullptr : &*found;
  }
  // ": did you mean 'tcp_threads'?" for what is near to a setting's name.
  template <typename Shown>
  std::string hint(std::string_view name, Shown&& shown) const {
    const Setting* nearest = nearest_to(lower(name));
    return nearest == nullptr ? std::string() : fmt::format(": did you mean {}?", shown(*nearest));
  }

 private:
  const Setting* nearest_to(std::string_view name) const;

  std::vector<Known> all_;
};

constexpr std::string_view kPrefix = "TRANSFER_ENGINE_";
constexpr std::string_view kOlderPrefix = "TE_";
constexpr std::string_view kMask = "***";
// Variables with our prefix that other programs of the project read.
constexpr std::string_view kBuildVariables[] = {"TRANSFER_ENGINE_LIB_DIR",
                                                "TRANSFER_ENGINE_USE_INSTALLED"};

std::string variable_name(std::string_view name) { return std::string(kPrefix) + upper(name); }

bool is_hidden(const Setting& setting) {
  return std::holds_alternative<Setting::Hidden>(setting.kind);
}

// A value as a person may see it.
std::string_view masked(const Setting& setting, std::string_view value) {
  return is_hidden(setting) && !value.empty() ? kMask : value;
}

Status parse(const Setting& setting, std::string_view shown, std::string_view value,
             std::variant<uint64_t, std::string>& parsed) {
  if (const auto* text = std::get_if<Setting::Text>(&setting.kind)) {
    const bool known = text->accepted.empty() || std::ranges::count(text->accepted, value) > 0;
    if (!known) {
      return error(Code::kInvalidArgument, "{}='{}' is not understood: give {}", shown, value,
                   setting.help);
    }
    parsed = std::string(value);
    return {};
  }
  const auto& number = std::get<Setting::Number>(setting.kind);
  uint64_t result = 0;
  const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (ec != std::errc() || end != value.data() + value.size() || result < number.min ||
      result > number.max) {
    return error(Code::kInvalidArgument,
                 "{}='{}' is not understood: give a whole number{}{} from {} to {} ({})", shown,
                 value, setting.unit.empty() ? "" : " of ", setting.unit, number.min, number.max,
                 setting.help);
  }
  parsed = result;
  return {};
}

// `shown`: the name in messages. `origin`: of the value.
Status assign(const Known& known, std::string_view shown, std::string_view value,
              std::string_view origin, Config& config) {
  const std::string name(known.setting->name);
  if (is_hidden(*known.setting)) {
    config.*std::get<Secret Config::*>(known.member->place) = Secret(value);
    // Its origin alone tells that it is set, and an empty one is not.
    if (value.empty()) {
      config.origins.erase(name);
    } else {
      config.origins[name] = origin;
    }
    return {};
  }
  std::variant<uint64_t, std::string> parsed;
  TE_RETURN_IF_ERROR(parse(*known.setting, shown, value, parsed));
  if (known.member == nullptr) {
    config.set(*known.setting, std::move(parsed));
  } else if (const auto* place = std::get_if<uint64_t Config::*>(&known.member->place)) {
    config.** place = std::get<uint64_t>(parsed);
  } else {
    config.*std::get<std::string Config::*>(known.member->place) = std::get<std::string>(parsed);
  }
  config.origins[name] = origin;
  return {};
}

std::string shown_value(const Known& known, const Config& config) {
  if (is_hidden(*known.setting)) {
    return config.origins.contains(std::string(known.setting->name)) ? std::string(kMask) : "";
  }
  const bool is_number = std::holds_alternative<Setting::Number>(known.setting->kind);
  if (known.member == nullptr) {
    return is_number ? std::to_string(config.number(*known.setting)) : config.text(*known.setting);
  }
  if (is_number) return std::to_string(config.*std::get<uint64_t Config::*>(known.member->place));
  return config.*std::get<std::string Config::*>(known.member->place);
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

// The one that was meant: whose name is near, or has all of `name` in it. Null: none.
const Setting* Table::nearest_to(std::string_view name) const {
  const Setting* nearest = nullptr;
  size_t least = name.size() / 3 + 1;  // a third of it may be wrong
  for (const Known& known : all_) {
    constexpr size_t kWord = 4;  // shorter ones are in many names
    const Setting& setting = *known.setting;
    const bool part = name.size() >= kWord && setting.name.find(name) != std::string_view::npos;
    const size_t distance = part ? 0 : edit_distance(setting.name, name);
    if (distance >= least) continue;
    least = distance;
    nearest = &setting;
  }
  return nearest;
}

// What one variable sets, and under which spelling.
struct Variable {
  std::string_view name;
  std::string_view value;
};
using Variables = std::map<const Known*, Variable>;

// The variables that begin with `prefix`, by the setting of the rest of their name. Those without a
// setting go to `others`.
Variables variables_of(const char* const* environment, const Table& table, std::string_view prefix,
                       std::vector<std::string_view>& others) {
  Variables result;
  for (; *environment != nullptr; ++environment) {
    const std::string_view entry = *environment;
    const size_t equals = entry.find('=');
    if (!entry.starts_with(prefix) || equals == std::string_view::npos) continue;
    const std::string_view name = entry.substr(0, equals);
    const std::string_view rest = name.substr(prefix.size());
    const Known* known = upper(rest) == rest ? table.find(lower(rest)) : nullptr;
    if (known == nullptr) {
      others.push_back(name);
    } else {
      result.insert_or_assign(known, Variable{name, entry.substr(equals + 1)});
    }
  }
  return result;
}

Status read_environment(const char* const* environment, const Table& table, Config& config) {
  std::vector<std::string_view> unknown, foreign;
  const Variables ours = variables_of(environment, table, kPrefix, unknown);
  const Variables older = variables_of(environment, table, kOlderPrefix, foreign);
  // The older spelling first, so that ours has the last word. Both have to be understood.
  for (const Variables* variables : {&older, &ours}) {
    for (const auto& [known, variable] : *variables) {
      TE_RETURN_IF_ERROR(assign(*known, variable.name, variable.value, "environment", config));
    }
  }
  for (const auto& [known, variable] : older) {
    const auto also = ours.find(known);
    if (also == ours.end() || also->second.value == variable.value) continue;
    const Setting& setting = *known->setting;
    config.warnings.push_back(fmt::format("{}='{}' has no effect: {}='{}' is set too, and counts",
                                          variable.name, masked(setting, variable.value),
                                          also->second.name, masked(setting, also->second.value)));
  }
  for (const std::string_view name : unknown) {
    if (std::ranges::count(kBuildVariables, name) > 0) continue;
    const std::string meant = table.hint(name.substr(kPrefix.size()), [](const Setting& setting) {
      return variable_name(setting.name);
    });
    config.warnings.push_back(
        fmt::format("the variable {} has no effect{} (`te info` lists them)", name, meant));
  }
  return {};
}

}  // namespace

Result<Config> Config::load(const std::map<std::string, std::string>& settings,
                            std::vector<const Setting*> more) {
  return load(settings, std::move(more), environ);
}

Result<Config> Config::load(const std::map<std::string, std::string>& settings,
                            std::vector<const Setting*> more, const char* const* environment) {
  Config config;
  config.declare(std::move(more));
  const Table table(config.declared());
  TE_RETURN_IF_ERROR(read_environment(environment, table, config));
  for (const auto& [name, value] : settings) {
    const Known* known = table.find(name);
    if (known == nullptr) {
      const std::string meant = table.hint(
          name, [](const Setting& nearest) { return fmt::format("'{}'", nearest.name); });
      return error(Code::kInvalidArgument, "there is no setting '{}'{} (`te info` lists them)",
                   name, meant);
    }
    TE_RETURN_IF_ERROR(assign(*known, name, value, "engine", config));
  }
  return config;
}

uint64_t DeclaredSettings::number(const Setting& setting) const {
  const auto found = values_.find(setting.name);
  if (found != values_.end()) return std::get<uint64_t>(found->second);
  return std::get<Setting::Number>(setting.kind).standard;
}

std::string DeclaredSettings::text(const Setting& setting) const {
  const auto found = values_.find(setting.name);
  if (found != values_.end()) return std::get<std::string>(found->second);
  return std::string(std::get<Setting::Text>(setting.kind).standard);
}

void DeclaredSettings::set(const Setting& setting, std::variant<uint64_t, std::string> value) {
  values_[setting.name] = std::move(value);
}

uint64_t ConnectionLimits::inbound_limit() const {
  if (max_inbound_connections != 0) return max_inbound_connections;
  return std::clamp<uint64_t>(descriptor_limit() / 8 * 3, 1, kMostInbound);
}

uint64_t ConnectionLimits::pending_limit() const {
  if (max_pending_connections != 0) return max_pending_connections;
  return std::clamp<uint64_t>(descriptor_limit() / 8, 1, kMostPending);
}

uint64_t ConnectionLimits::local_inbound_limit() const {
  if (max_inbound_connections != 0) return max_inbound_connections;
  return std::clamp<uint64_t>(descriptor_limit() / 16 * 3, 1, kMostInbound);
}

std::vector<std::string> ConnectionLimits::limits_without_descriptors() const {
  std::vector<std::string> result;
  const uint64_t most = descriptor_limit();
  const std::pair<const char*, uint64_t> limits[] = {
      {"max_inbound_connections", max_inbound_connections},
      {"max_pending_connections", max_pending_connections}};
  for (const auto& [name, wanted] : limits) {
    if (wanted < most) continue;
    result.push_back(
        fmt::format("{}={} is more than this process can have: RLIMIT_NOFILE is {}; raise it with "
                    "`ulimit -n`, or give 0 to go by it",
                    name, wanted, most));
  }
  return result;
}

std::string Config::to_json() const {
  const Config defaults;
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  const Table table(declared());
  for (const Known& known : table.all()) {
    const Setting& setting = *known.setting;
    const auto origin = origins.find(std::string(setting.name));
    rows.push_back({{"name", setting.name},
                    {"value", shown_value(known, *this)},
                    {"default", shown_value(known, defaults)},
                    {"unit", setting.unit},
                    {"variable", variable_name(setting.name)},
                    {"origin", origin == origins.end() ? "default" : origin->second},
                    {"help", setting.help}});
  }
  return rows.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace te
