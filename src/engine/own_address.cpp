#include "engine/own_address.h"

#include <arpa/inet.h>
#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/log.h"

namespace te {
namespace {

constexpr size_t kMostNamed = 12;  // addresses in an error
constexpr size_t kMaxHostName = 253;

// A numeric address as the kernel writes it, with its zone; nothing if `text` is none.
std::optional<std::string> canonical(const std::string& text) {
  char buffer[INET6_ADDRSTRLEN] = "";
  in_addr v4{};
  if (::inet_pton(AF_INET, text.c_str(), &v4) == 1) {
    return ::inet_ntop(AF_INET, &v4, buffer, sizeof buffer);
  }
  const size_t percent = text.find('%');
  in6_addr v6{};
  if (::inet_pton(AF_INET6, text.substr(0, percent).c_str(), &v6) != 1) return std::nullopt;
  if (IN6_IS_ADDR_V4MAPPED(&v6)) {
    return ::inet_ntop(AF_INET, v6.s6_addr + 12, buffer, sizeof buffer);
  }
  std::string result = ::inet_ntop(AF_INET6, &v6, buffer, sizeof buffer);
  if (percent != std::string::npos && IN6_IS_ADDR_LINKLOCAL(&v6)) result += text.substr(percent);
  return result;
}

bool is_any(const std::string& address) { return address == "0.0.0.0" || address == "::"; }
bool is_ipv6(const std::string& address) { return address.find(':') != std::string::npos; }
bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}
bool is_link_local(const std::string& address) {
  in6_addr v6{};
  return ::inet_pton(AF_INET6, address.substr(0, address.find('%')).c_str(), &v6) == 1 &&
         IN6_IS_ADDR_LINKLOCAL(&v6);
}
bool has_zone(const std::string& address) { return address.find('%') != std::string::npos; }

bool is_own(const std::string& address, const Machine& machine) {
  return is_loopback(address) ||
         std::any_of(machine.interfaces.begin(), machine.interfaces.end(),
                     [&](const InterfaceAddress& each) { return each.address == address; });
}

std::string list_of(const Machine& machine) {
  std::string text;
  size_t count = 0;
  for (const InterfaceAddress& each : machine.interfaces) {
    if (!each.up || each.loopback) continue;
    if (++count > kMostNamed) return text + ", …";
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", each.address, each.interface);
  }
  return text.empty() ? "no address but its loopback's" : text;
}

// `what` and `given` are as the user knows them: host 'node7'.
Status not_ours(const char* what, const std::string& given, const std::string& found,
                const Machine& machine) {
  const char* const remedy =
      what == std::string_view("bind_address")
          ? "give one of these, or nothing to listen on all"
          : "give one of these, or nothing; to advertise another all the same (behind NAT, say), "
            "set advertise_address";
  return error(Code::kInvalidArgument,
               "{} '{}'{} is not an address of this machine, which has {}: {}", what, given,
               found.empty() ? "" : fmt::format(" is {}, which", found), list_of(machine), remedy);
}

Status without_zone(const char* what, const std::string& given, const std::string& address,
                    const Machine& machine) {
  std::string example = address + "%eth0";
  for (const InterfaceAddress& each : machine.interfaces) {
    if (each.address.starts_with(address + "%")) example = each.address;
  }
  return error(Code::kInvalidArgument,
               "{} '{}' is a link-local address, which says nothing without its interface: give it "
               "as {}, or give another address",
               what, given, example);
}

// A numeric address that has to be of this machine.
Result<std::string> own_numeric(const char* what, const std::string& given,
                                const std::string& address, const Machine& machine) {
  if (is_link_local(address) && !has_zone(address)) {
    return without_zone(what, given, address, machine);
  }
  if (!is_own(address, machine)) return not_ours(what, given, "", machine);
  return address;
}

// The best of this machine's addresses among `addresses`; empty if there is none.
std::string best_own(const std::vector<std::string>& addresses, const Machine& machine) {
  std::string best;
  for (const std::string& each : addresses) {
    const std::optional<std::string> address = canonical(each);
    if (!address || is_any(*address) || !is_own(*address, machine)) continue;
    if (best.empty() || (is_loopback(best) && !is_loopback(*address))) best = *address;
  }
  return best;
}

// What a text that can be nothing but an address stands for; empty: the whole machine.
Result<std::string> explicit_address(const char* what, const std::string& given,
                                     const Machine& machine) {
  Result<HostPort> parsed = parse_host_port(given);
  if (!parsed.ok()) return parsed.status().with_context(what);
  if (const std::optional<std::string> address = canonical(parsed->host)) {
    if (is_any(*address)) return std::string();
    return own_numeric(what, given, *address, machine);
  }
  const std::string& host = parsed->host;
  if (host == "localhost") return std::string("127.0.0.1");
  const Result<std::vector<std::string>> found = machine.resolve(host);
  if (!found.ok()) {
    return error(Code::kInvalidArgument,
                 "{} '{}' cannot be resolved ({}): give an address of this machine, which has {}, "
                 "or nothing; or set advertise_address",
                 what, given, found.status().message(), list_of(machine));
  }
  const std::string own = best_own(*found, machine);
  if (own.empty()) {
    return not_ours(what, given, found->empty() ? "nothing" : found->front(), machine);
  }
  // Debian's /etc/hosts has the machine's name at 127.0.1.1, which no peer could use.
  return is_loopback(own) ? std::string() : own;
}

// What a name stands for where it happens to be an address; empty: nothing.
Result<std::string> address_in_name(const AddressWish& wish, const Machine& machine) {
  const bool asked_for = wish.name_is_address || wish.host == wish.name;
  Result<HostPort> parsed = parse_host_port(wish.name);
  if (!parsed.ok()) {
    if (wish.name_is_address) return parsed.status().with_context("the engine's name");
    return std::string();
  }
  const std::string& host = parsed->host;
  if (const std::optional<std::string> address = canonical(host)) {
    if (is_any(*address)) return std::string();
    if (!asked_for && !is_own(*address, machine)) return std::string();
    return own_numeric("the engine's name", wish.name, *address, machine);
  }
  if (host == "localhost") return std::string("127.0.0.1");
  std::vector<std::string> found = machine.look_up_hosts_file(host);
  if (found.empty() && host == machine.name) {
    Result<std::vector<std::string>> resolved = machine.resolve(host);
    if (resolved.ok()) found = resolved.take();
  }
  const std::string own = best_own(found, machine);
  if (own.empty() && !found.empty() && wish.name_is_address) {
    return not_ours("the engine's name", wish.name, found.front(), machine);
  }
  return is_loopback(own) ? std::string() : own;
}

Result<std::string> checked_advertisement(const std::string& given, const Machine& machine) {
  Result<HostPort> parsed = parse_host_port(given);
  if (!parsed.ok()) return parsed.status().with_context("advertise_address");
  if (parsed->has_port) {
    return error(Code::kInvalidArgument,
                 "advertise_address '{}' has a port: give the address alone; the port is the one "
                 "that the engine listens on",
                 given);
  }
  const std::string& host = parsed->host;
  if (const std::optional<std::string> address = canonical(host)) {
    if (is_any(*address)) {
      return error(Code::kInvalidArgument,
                   "advertise_address '{}' is no address that a peer could use: give one, or "
                   "nothing to have it found out",
                   given);
    }
    if (is_link_local(*address) && !has_zone(*address)) {
      return without_zone("advertise_address", given, *address, machine);
    }
    return *address;
  }
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
  };
  const bool numbers = host.find_first_not_of("0123456789.") == std::string::npos;
  if (numbers || host.size() > kMaxHostName || host.starts_with('-') ||
      !std::all_of(host.begin(), host.end(), fits)) {
    return error(Code::kInvalidArgument,
                 "advertise_address '{}' is neither an address nor a host name", given);
  }
  return host;
}

// Whether an engine that listens on `bind` is reached at `address`.
bool listens_on(const std::string& bind, const std::string& address) {
  if (bind.empty() || bind == "::" || bind == address) return true;
  return bind == "0.0.0.0" && !is_ipv6(address);
}

std::string found_out(const std::string& bind, const Machine& machine) {
  if (!machine.towards_directory.empty() && listens_on(bind, machine.towards_directory)) {
    return machine.towards_directory;
  }
  // IPv4 first: most peers speak it.
  for (const bool ipv6 : {false, true}) {
    for (const InterfaceAddress& each : machine.interfaces) {
      const bool usable = each.up && !each.loopback && !is_link_local(each.address);
      if (usable && is_ipv6(each.address) == ipv6 && listens_on(bind, each.address)) {
        return each.address;
      }
    }
  }
  return "127.0.0.1";
}

Result<std::string> address_to_bind(const std::string& given, const Machine& machine) {
  if (given.empty()) return given;
  Result<HostPort> parsed = parse_host_port(given);
  if (parsed.ok() && parsed->has_port) {
    return error(Code::kInvalidArgument,
                 "bind_address '{}' has a port: give the address alone, and the port to the engine",
                 given);
  }
  if (parsed.ok()) {
    const std::optional<std::string> address = canonical(parsed->host);
    if (address && is_any(*address)) return *address;
  }
  Result<std::string> own = explicit_address("bind_address", given, machine);
  // A name of the loopback alone.
  if (own.ok() && own->empty()) return std::string("127.0.0.1");
  return own;
}

std::vector<std::string> look_up_hosts_file(const std::string& name) {
  std::vector<std::string> result;
  std::ifstream file("/etc/hosts");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string address, alias;
    words >> address;
    while (words >> alias) {
      if (::strcasecmp(alias.c_str(), name.c_str()) == 0) result.push_back(address);
    }
  }
  return result;
}

Result<std::vector<std::string>> resolve_to_text(const std::string& host) {
  const Result<std::vector<SocketAddress>> addresses = resolve_host(host, 0);
  if (!addresses.ok()) return addresses.status();
  std::vector<std::string> result;
  for (const SocketAddress& each : *addresses) result.push_back(each.host());
  return result;
}

}  // namespace

Machine this_machine(std::string towards_directory) {
  Machine machine;
  machine.interfaces = all_interface_addresses();
  char name[256] = "";
  if (::gethostname(name, sizeof name - 1) == 0) machine.name = name;
  machine.towards_directory = std::move(towards_directory);
  machine.resolve = resolve_to_text;
  machine.look_up_hosts_file = look_up_hosts_file;
  return machine;
}

Result<OwnAddress> choose_own_address(const AddressWish& wish, const Machine& machine) {
  OwnAddress result;
  Result<std::string> bind = address_to_bind(wish.bind_address, machine);
  if (!bind.ok()) return bind.status();
  result.bind = *bind;
  if (!bind->empty() && !is_any(*bind)) result.asked = *bind;
  if (!wish.advertise_address.empty()) {
    Result<std::string> advertised = checked_advertisement(wish.advertise_address, machine);
    if (!advertised.ok()) return advertised.status();
    result.advertised = advertised.take();
    return result;
  }
  const bool host_given = !wish.host.empty() && wish.host != wish.name;
  Result<std::string> wanted = host_given          ? explicit_address("host", wish.host, machine)
                               : wish.name.empty() ? Result<std::string>(std::string())
                                                   : address_in_name(wish, machine);
  if (!wanted.ok()) return wanted.status();
  const bool asked_for = host_given || wish.name_is_address || wish.host == wish.name;
  if (!wanted->empty() && asked_for && !listens_on(*bind, *wanted)) {
    return error(Code::kInvalidArgument,
                 "{} '{}' and bind_address '{}' exclude each other: peers would look for the "
                 "engine where it does not listen; give one of them alone, or set "
                 "advertise_address",
                 host_given ? "host" : "the engine's name", host_given ? wish.host : wish.name,
                 wish.bind_address);
  }
  if (asked_for && result.asked.empty()) result.asked = *wanted;
  if (!bind->empty() && !is_any(*bind)) {
    result.advertised = *bind;
  } else {
    result.advertised = wanted->empty() ? found_out(*bind, machine) : wanted.take();
  }
  return result;
}

}  // namespace te
