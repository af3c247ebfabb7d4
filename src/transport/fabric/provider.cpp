#include "transport/fabric/provider.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/log.h"
#include "base/socket.h"
#include "transport/fabric/settings.h"

namespace te::fabric {
namespace {

constexpr std::string_view kPrefix = "fabric:";
// What this transport copes with; a provider takes of it what it needs.
constexpr int kMrModes = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;

struct Wanted {
  std::string_view provider;  // empty: any
  int mr_modes = kMrModes;
  fi_threading threading = FI_THREAD_SAFE;
  bool device_memory = false;
};

Info make_hints(const Library& library, const Wanted& wanted) {
  Info hints = library.new_info();
  if (!hints) return hints;
  hints->caps = FI_MSG | FI_RMA;
  hints->mode = FI_CONTEXT | FI_CONTEXT2;
  hints->ep_attr->type = FI_EP_RDM;
  hints->domain_attr->mr_mode = wanted.mr_modes;
  hints->domain_attr->threading = wanted.threading;
  hints->domain_attr->resource_mgmt = FI_RM_ENABLED;
  // A WRITE is completed when it is in place.
  hints->tx_attr->op_flags = FI_DELIVERY_COMPLETE;
  if (wanted.device_memory) {
    hints->caps |= FI_HMEM;
    hints->domain_attr->mr_mode |= FI_MR_HMEM;
  }
  if (!wanted.provider.empty()) {
    hints->fabric_attr->prov_name = ::strdup(std::string(wanted.provider).c_str());
  }
  return hints;
}

// The best that there is: device memory where the provider has it, and its own locking.
Info find_best(const Library& library, std::string_view provider, const char* node, int* error) {
  Info found;
  for (const bool device_memory : {true, false}) {
    // Providers over sockets would stage it through the host; only the NICs reach it themselves.
    if (device_memory && provider != "efa" && provider != "cxi") continue;
    for (const fi_threading threading : {FI_THREAD_SAFE, FI_THREAD_DOMAIN}) {
      const Info hints = make_hints(library, {provider, kMrModes, threading, device_memory});
      if (!hints) return found;
      found = library.find(node, node == nullptr ? 0 : FI_SOURCE, *hints, error);
      if (found) return found;
    }
  }
  return found;
}

bool is_loopback(const fi_info& info) {
  const bool ip = info.addr_format == FI_SOCKADDR_IN || info.addr_format == FI_SOCKADDR_IN6;
  return ip && te::is_loopback(static_cast<const sockaddr*>(info.src_addr));
}

bool is_link_local(const fi_info& info) {
  return info.src_addr != nullptr && info.addr_format == FI_SOCKADDR_IN6 &&
         IN6_IS_ADDR_LINKLOCAL(&static_cast<const sockaddr_in6*>(info.src_addr)->sin6_addr);
}

std::string_view text_of(const char* text) { return text == nullptr ? "" : text; }

// One NIC of each domain; loopback only where there is nothing else.
std::vector<NicInfo> one_of_each_domain(const Library& library, const fi_info& list) {
  std::vector<NicInfo> result;
  for (const bool loopback : {false, true}) {
    for (const fi_info* each = &list; each != nullptr && (!loopback || result.empty());
         each = each->next) {
      const std::string device(text_of(each->domain_attr->name));
      const bool known = std::any_of(result.begin(), result.end(),
                                     [&](const NicInfo& nic) { return nic.device == device; });
      // A name may stand for several providers: the first is the best.
      const bool same = text_of(each->fabric_attr->prov_name) == list.fabric_attr->prov_name;
      if (known || !same || is_loopback(*each) != loopback || is_link_local(*each)) continue;
      if (Info copy = library.copy(*each)) result.push_back({std::move(copy), device});
    }
  }
  return result;
}

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

bool has_efa_interface() {
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/bus/pci/devices", failed)) {
    const std::string device = first_line(entry.path() / "device");
    if (first_line(entry.path() / "vendor") == "0x1d0f" && device.starts_with("0xefa")) return true;
  }
  return false;
}

bool has_verbs_device() {
  std::error_code failed;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/infiniband", failed)) {
    if (entry.path().filename().string().starts_with("uverbs")) return true;
  }
  return false;
}

// The first of the three that a NIC needs.
std::string what_efa_lacks() {
  std::error_code failed;
  if (!has_efa_interface()) {
    return "this machine has no EFA interface on its PCI bus (vendor 1d0f, device efa0 and on): "
           "take an instance type with EFA, and attach a network interface of that type";
  }
  if (!std::filesystem::exists("/sys/module/efa", failed)) {
    return "there is an EFA interface, but the kernel module efa is not loaded: run modprobe efa, "
           "or AWS's EFA installer";
  }
  if (!has_verbs_device()) {
    return "the kernel has an EFA interface, but there is no /dev/infiniband/uverbs*: in a "
           "container, pass /dev/infiniband in";
  }
  return "the interface, its kernel module and /dev/infiniband/uverbs* are there: see `fi_info -p "
         "efa` with FI_LOG_LEVEL=warn, and ulimit -l";
}

Status nothing_found(const Library& library, std::string_view provider, int error_number) {
  int raw_error = 0;
  Wanted raw{provider, kMrModes | FI_MR_RAW, FI_THREAD_DOMAIN, false};
  const Info hints = make_hints(library, raw);
  if (hints && library.find(nullptr, 0, *hints, &raw_error)) {
    return error(Code::kUnsupported,
                 "provider {} needs raw memory keys (FI_MR_RAW), which this transport has not",
                 provider);
  }
  // Peers have an endpoint each here, and memory is registered once for all of them.
  const Wanted bound{provider, kMrModes | FI_MR_ENDPOINT, FI_THREAD_DOMAIN, false};
  const Info bound_hints = make_hints(library, bound);
  if (bound_hints && library.find(nullptr, 0, *bound_hints, &raw_error)) {
    return error(Code::kUnsupported,
                 "provider {} registers memory with each endpoint (FI_MR_ENDPOINT), which this "
                 "transport does not",
                 provider);
  }
  const std::string why = library.text(error_number);
  if (provider == "efa") {
    return error(Code::kUnsupported, "{} finds no EFA NIC ({}): {}", library.description(), why,
                 what_efa_lacks());
  }
  return error(Code::kUnsupported,
               "{} has no provider {} with reliable datagram endpoints and remote memory access "
               "here ({}); `te info` lists those it has",
               library.description(), provider, why);
}

// At an address of this machine; null: anywhere.
Result<Info> find_at(const Library& library, std::string_view provider, const char* address) {
  int error_number = 0;
  Info list = find_best(library, provider, address, &error_number);
  if (!list) return nothing_found(library, provider, error_number);
  return list;
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> result;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    if (comma > 0) result.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return result;
}

std::string list_of(const std::vector<NicInfo>& nics) {
  std::string names;
  for (const NicInfo& nic : nics) names += (names.empty() ? "" : ", ") + nic.device;
  return names;
}

// Whose devices are network interfaces with their IP addresses.
bool uses_sockets(std::string_view provider) {
  const std::string_view core = provider.substr(0, provider.find(';'));
  return core == "tcp" || core == "sockets" || core == "udp" || core == "net";
}

}  // namespace

std::string_view provider_of(std::string_view transport) {
  if (transport == "efa") return transport;
  return transport.starts_with(kPrefix) ? transport.substr(kPrefix.size()) : std::string_view();
}

bool survives_lost_memory(std::string_view provider) {
  return provider == "tcp" || provider.starts_with("tcp;");
}

Result<std::vector<NicInfo>> find_nics(const Library& library, std::string_view provider,
                                       const Config& config, const std::string& asked_address) {
  const bool given = !config.text(kAddresses).empty();
  const bool asked = !given && !asked_address.empty() && uses_sockets(provider);
  std::vector<NicInfo> nics;
  if (!given && !asked) {
    const Result<Info> list = find_at(library, provider, nullptr);
    if (!list.ok()) return list.status();
    nics = one_of_each_domain(library, **list);
  }
  for (const std::string& address : split(asked ? asked_address : config.text(kAddresses))) {
    const Result<Info> list = find_at(library, provider, address.c_str());
    if (!list.ok()) {
      return list.status().with_context(
          asked ? fmt::format("the engine's address is {}, and fabric_addresses names no other for "
                              "libfabric",
                              address)
                : fmt::format("fabric_addresses: {}", address));
    }
    const std::string device(asked ? text_of((**list).domain_attr->name) : address);
    if (Info copy = library.copy(**list)) nics.push_back({std::move(copy), device});
  }
  if (nics.empty()) return nothing_found(library, provider, -FI_ENODATA);
  return nics;
}

std::vector<TransportInfo> describe(const Config& config) {
  TransportInfo efa{"efa", false, false, {}};
  const Result<const Library*> opened = Library::open(config.text(kLibrary));
  if (!opened.ok()) {
    efa.detail = opened.status().message();
    return {efa};
  }
  const Library& library = **opened;
  Config all = config;
  all.set(kAddresses, "");
  const Result<std::vector<NicInfo>> nics = find_nics(library, "efa", all);
  efa.available = nics.ok();
  efa.detail = nics.ok() ? fmt::format("{}; NICs {}", library.description(), list_of(*nics))
                         : nics.status().message();
  std::vector<TransportInfo> result{efa};
  int error_number = 0;
  const Info hints = make_hints(library, {{}, kMrModes, FI_THREAD_DOMAIN, false});
  const Info list = hints ? library.find(nullptr, 0, *hints, &error_number) : Info();
  std::map<std::string, std::vector<std::string>> domains;
  std::map<std::string, bool> in_software;
  for (const fi_info* each = list.get(); each != nullptr; each = each->next) {
    const std::string_view full = text_of(each->fabric_attr->prov_name);
    const std::string provider(full.substr(0, full.find(';')));
    std::vector<std::string>& names = domains[provider];
    in_software[provider] = (each->domain_attr->mr_mode & FI_MR_LOCAL) == 0;
    const std::string device(text_of(each->domain_attr->name));
    if (std::find(names.begin(), names.end(), device) == names.end()) names.push_back(device);
  }
  domains.erase("efa");
  for (const auto& [provider, names] : domains) {
    std::string text;
    for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
    const bool warns = in_software[provider] && !survives_lost_memory(provider);
    result.push_back({std::string(kPrefix) + provider, true, false,
                      fmt::format("{}; devices {}{}", library.description(), text,
                                  warns ? "; does not survive memory that is unmapped while it is "
                                          "registered"
                                        : "")});
  }
  return result;
}

}  // namespace te::fabric
