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

struct Number {
  uint64_t Config::*member;
  uint64_t min;
  uint64_t max;
};
struct Text {
  std::string Config::*member;
  std::vector<std::string_view> accepted;  // empty: anything
};
struct Setting {
  std::string_view name;
  std::string_view unit;
  std::string_view help;
  std::variant<Number, Text> kind;
};

constexpr std::string_view kGuardedCopiesHelp =
    "handler or kernel: how copies survive inaccessible memory: by a handler of SIGSEGV and "
    "SIGBUS, or by copying in the kernel, which is slower and needs no handler";
constexpr std::string_view kNicsHelp =
    "NICs to use, separated by commas; a name may end in *; ^ first: all except these";
constexpr uint64_t kDayMs = 86'400'000;
constexpr uint64_t kMostInbound = 4'096;
constexpr uint64_t kMostPending = 256;

// Of single transports.
std::vector<Setting> transport_settings() {
  return {
      {"tcp_connections", "", "TCP connections per peer; 0: by the number of cores",
       Number{&Config::tcp_connections, 0, 64}},
      {"tcp_threads", "", "threads that serve TCP connections; 0: by the number of cores",
       Number{&Config::tcp_threads, 0, 64}},
      {"tcp_spin_us", "us", "maximum time to busy-poll before sleeping",
       Number{&Config::tcp_spin_us, 0, 1'000'000}},
      {"tcp_zero_copy", "",
       "off, auto or on: zero-copy sends (MSG_ZEROCOPY) for large WRITEs; such tasks may end 2 s "
       "after their deadlines while this machine's own queues hold packets",
       Text{&Config::tcp_zero_copy, {"off", "auto", "on"}}},
      {"copy_threads", "", "copy threads of local, and as many of shm; callers copy too",
       Number{&Config::copy_threads, 1, 64}},
      {"guarded_copies", "", kGuardedCopiesHelp,
       Text{&Config::guarded_copies, {"handler", "kernel"}}},
      {"fabric_library", "",
       "path of libfabric.so.1; empty: that of AWS if installed, else the system's",
       Text{&Config::fabric_library, {}}},
      {"fabric_addresses", "",
       "local addresses for libfabric, separated by commas; empty: all; over sockets (tcp): the "
       "address that the engine was given",
       Text{&Config::fabric_addresses, {}}},
      {"fabric_spin_us", "us", "as tcp_spin_us, for completion queues of libfabric",
       Number{&Config::fabric_spin_us, 0, 1'000'000}},
      {"fabric_max_registration", "bytes",
       "larger buffers are registered with libfabric in several regions; 0: only where required",
       Number{&Config::fabric_max_registration, 0, uint64_t{1} << 48}},
      {"fabric_max_operation", "bytes",
       "larger slices are split for libfabric; 0: only where required",
       Number{&Config::fabric_max_operation, 0, uint64_t{1} << 48}},
      {"rdma_library", "", "path of libibverbs.so.1; empty: the system's",
       Text{&Config::rdma_library, {}}},
      {"rdma_endpoints", "",
       "queue pairs to NICs of peers, alive at once; a new one replaces an idle one",
       Number{&Config::rdma_endpoints, 1, 1'000'000}},
      {"rdma_inbound_endpoints", "", "queue pairs that peers connect to; more are refused",
       Number{&Config::rdma_inbound_endpoints, 1, 1'000'000}},
      {"rdma_spin_us", "us", "as tcp_spin_us, for completion queues of RDMA NICs",
       Number{&Config::rdma_spin_us, 0, 1'000'000}},
      {"rdma_max_registration", "bytes",
       "larger buffers are registered with RDMA NICs in several regions; 0: only where required",
       Number{&Config::rdma_max_registration, 0, uint64_t{1} << 48}},
  };
}

std::vector<Setting> general_settings() {
  return {
      {"addressing", "",
       "auto, offset or address: how target_offset is read unless the call states it; not set: "
       "auto for C, offset for C++ and Rust",
       Text{&Config::addressing, {"auto", "offset", "address"}}},
      {"advertise_address", "",
       "address or host name that peers should use; empty: chosen by the engine",
       Text{&Config::advertise_address, {}}},
      {"bind_address", "",
       "address to listen on and to advertise; empty: all addresses, IPv4 and IPv6",
       Text{&Config::bind_address, {}}},
      {"transfer_timeout_ms", "ms", "time a submission may take before its tasks end in TIMEOUT",
       Number{&Config::transfer_timeout_ms, 1, kDayMs}},
      {"retry_window_ms", "ms",
       "time a lost peer is tried again before tasks end in FAILED; with 0 a task also fails if "
       "its target closes the idle connection at that moment",
       Number{&Config::retry_window_ms, 0, kDayMs}},
      {"connect_timeout_ms", "ms", "time to connect to a peer",
       Number{&Config::connect_timeout_ms, 1, kDayMs}},
      {"hello_timeout_ms", "ms", "time in which a new connection must send its hello",
       Number{&Config::hello_timeout_ms, 1, kDayMs}},
      {"stall_timeout_ms", "ms", "time a peer may stop in the middle of a frame",
       Number{&Config::stall_timeout_ms, 1, kDayMs}},
      {"unregister_timeout_ms", "ms", "time for which unregistering waits for a stopped process",
       Number{&Config::unregister_timeout_ms, 1, kDayMs}},
      {"directory_timeout_ms", "ms", "maximum time of one call to the metadata server",
       Number{&Config::directory_timeout_ms, 1, kDayMs}},
      {"directory_lease_s", "s", "time after which the name of a crashed engine disappears",
       Number{&Config::directory_lease_s, 1, 3'600}},
      {"slice_bytes", "bytes", "larger requests are split into slices of this size",
       Number{&Config::slice_bytes, 4'096, 1 << 30}},
      {"nics", "", kNicsHelp, Text{&Config::nics, {}}},
      {"max_inbound_connections", "",
       "limit on connections from peers; 0: derived from `ulimit -n`, at most 4096",
       Number{&Config::max_inbound_connections, 0, 1'000'000}},
      {"max_pending_connections", "",
       "limit on connections without a hello; 0: derived from `ulimit -n`, at most 256",
       Number{&Config::max_pending_connections, 0, 100'000}},
      {"max_notifications", "", "limit on received notifications not taken yet; more are refused",
       Number{&Config::max_notifications, 1, 10'000'000}},
      {"log_level", "", "error, warning, info or debug",
       Text{&Config::log_level, {"error", "warning", "info", "debug"}}},
  };
}

// Never destroyed: engines are made until the process ends.
const std::vector<Setting>& table() {
  static const auto& settings = *new std::vector<Setting>([] {
    std::vector<Setting> all = general_settings();
    for (Setting& setting : transport_settings()) all.push_back(std::move(setting));
    return all;
  }());
  return settings;
}

constexpr std::string_view kPrefix = "TRANSFER_ENGINE_";
constexpr std::string_view kOlderPrefix = "TE_";
// Variables with our prefix that other programs of the project read.
constexpr std::string_view kBuildVariables[] = {"TRANSFER_ENGINE_LIB_DIR",
                                                "TRANSFER_ENGINE_USE_INSTALLED"};

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

std::string variable_name(std::string_view name) { return std::string(kPrefix) + upper(name); }

Status assign(const Setting& setting, std::string_view shown, std::string_view value,
              Config& config) {
  if (const Text* text = std::get_if<Text>(&setting.kind)) {
    bool known = text->accepted.empty();
    for (const std::string_view accepted : text->accepted) known = known || accepted == value;
    if (!known) {
      return error(Code::kInvalidArgument, "{}='{}' is not understood: give {}", shown, value,
                   setting.help);
    }
    config.*text->member = value;
    return {};
  }
  const Number& number = std::get<Number>(setting.kind);
  uint64_t parsed = 0;
  const auto [end, ec] = std::from_chars(value.data(), value.data() + value.size(), parsed);
  if (ec != std::errc() || end != value.data() + value.size() || parsed < number.min ||
      parsed > number.max) {
    return error(Code::kInvalidArgument,
                 "{}='{}' is not understood: give a whole number{}{} from {} to {} ({})", shown,
                 value, setting.unit.empty() ? "" : " of ", setting.unit, number.min, number.max,
                 setting.help);
  }
  config.*number.member = parsed;
  return {};
}

std::string shown_value(const Setting& setting, const Config& config) {
  if (const Text* text = std::get_if<Text>(&setting.kind)) return config.*text->member;
  return std::to_string(config.*std::get<Number>(setting.kind).member);
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

// The setting that was meant: one whose name is near, or has all of `name` in it. Null: none.
const Setting* nearest_setting(std::string_view name) {
  const Setting* nearest = nullptr;
  size_t least = name.size() / 3 + 1;  // a third of it may be wrong
  for (const Setting& setting : table()) {
    constexpr size_t kWord = 4;  // shorter ones are in many names
    const bool part = name.size() >= kWord && setting.name.find(name) != std::string_view::npos;
    const size_t distance = part ? 0 : edit_distance(setting.name, name);
    if (distance >= least) continue;
    least = distance;
    nearest = &setting;
  }
  return nearest;
}

// ": did you mean 'tcp_threads'?" for what is near to a setting's name.
template <typename Shown>
std::string hint(std::string_view name, Shown&& shown) {
  const Setting* nearest = nearest_setting(lower(name));
  return nearest == nullptr ? std::string() : fmt::format(": did you mean {}?", shown(*nearest));
}

const Setting* find_setting(std::string_view name) {
  for (const Setting& setting : table()) {
    if (setting.name == name) return &setting;
  }
  return nullptr;
}

// What one variable sets, and under which spelling.
struct Variable {
  std::string_view name;
  std::string_view value;
};
using Variables = std::map<const Setting*, Variable>;

// The variables that begin with `prefix`, by the setting of the rest of their name. Those without a
// setting go to `others`.
Variables variables_of(const char* const* environment, std::string_view prefix,
                       std::vector<std::string_view>& others) {
  Variables result;
  for (; *environment != nullptr; ++environment) {
    const std::string_view entry = *environment;
    const size_t equals = entry.find('=');
    if (!entry.starts_with(prefix) || equals == std::string_view::npos) continue;
    const std::string_view name = entry.substr(0, equals);
    const std::string_view rest = name.substr(prefix.size());
    const Setting* setting = upper(rest) == rest ? find_setting(lower(rest)) : nullptr;
    if (setting == nullptr) {
      others.push_back(name);
    } else {
      result.insert_or_assign(setting, Variable{name, entry.substr(equals + 1)});
    }
  }
  return result;
}

Status read_environment(const char* const* environment, Config& config) {
  std::vector<std::string_view> unknown, foreign;
  const Variables ours = variables_of(environment, kPrefix, unknown);
  const Variables older = variables_of(environment, kOlderPrefix, foreign);
  // The older spelling first, so that ours has the last word. Both have to be understood.
  for (const Variables* variables : {&older, &ours}) {
    for (const auto& [setting, variable] : *variables) {
      TE_RETURN_IF_ERROR(assign(*setting, variable.name, variable.value, config));
      config.origins[std::string(setting->name)] = "environment";
    }
  }
  for (const auto& [setting, variable] : older) {
    const auto also = ours.find(setting);
    if (also == ours.end() || also->second.value == variable.value) continue;
    config.warnings.push_back(fmt::format("{}='{}' has no effect: {}='{}' is set too, and counts",
                                          variable.name, variable.value, also->second.name,
                                          also->second.value));
  }
  for (const std::string_view name : unknown) {
    if (std::ranges::count(kBuildVariables, name) > 0) continue;
    const std::string meant = hint(name.substr(kPrefix.size()), [](const Setting& setting) {
      return variable_name(setting.name);
    });
    config.warnings.push_back(
        fmt::format("the variable {} has no effect{} (`te info` lists them)", name, meant));
  }
  return {};
}

}  // namespace

Result<Config> Config::load(const std::map<std::string, std::string>& settings) {
  return load(settings, environ);
}

Result<Config> Config::load(const std::map<std::string, std::string>& settings,
                            const char* const* environment) {
  Config config;
  TE_RETURN_IF_ERROR(read_environment(environment, config));
  for (const auto& [name, value] : settings) {
    const Setting* setting = find_setting(name);
    if (setting == nullptr) {
      const std::string meant =
          hint(name, [](const Setting& nearest) { return fmt::format("'{}'", nearest.name); });
      return error(Code::kInvalidArgument, "there is no setting '{}'{} (`te info` lists them)",
                   name, meant);
    }
    TE_RETURN_IF_ERROR(assign(*setting, name, value, config));
    config.origins[name] = "engine";
  }
  return config;
}

uint64_t Config::inbound_limit() const {
  if (max_inbound_connections != 0) return max_inbound_connections;
  return std::clamp<uint64_t>(descriptor_limit() / 8 * 3, 1, kMostInbound);
}

uint64_t Config::pending_limit() const {
  if (max_pending_connections != 0) return max_pending_connections;
  return std::clamp<uint64_t>(descriptor_limit() / 8, 1, kMostPending);
}

uint64_t Config::local_inbound_limit() const {
  if (max_inbound_connections != 0) return max_inbound_connections;
  return std::clamp<uint64_t>(descriptor_limit() / 16 * 3, 1, kMostInbound);
}

std::vector<std::string> Config::limits_without_descriptors() const {
  std::vector<std::string> result;
  const uint64_t most = descriptor_limit();
  for (const char* name : {"max_inbound_connections", "max_pending_connections"}) {
    const uint64_t wanted = this->*std::get<Number>(find_setting(name)->kind).member;
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
  for (const Setting& setting : table()) {
    const auto origin = origins.find(std::string(setting.name));
    rows.push_back({{"name", setting.name},
                    {"value", shown_value(setting, *this)},
                    {"default", shown_value(setting, defaults)},
                    {"unit", setting.unit},
                    {"variable", variable_name(setting.name)},
                    {"origin", origin == origins.end() ? "default" : origin->second},
                    {"help", setting.help}});
  }
  return rows.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace te
