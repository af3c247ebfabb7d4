#include "transport/rdma/devices.h"

#include <algorithm>
#include <cerrno>

#include "base/log.h"

namespace te::rdma {
namespace {

constexpr std::string_view kNone =
    "libibverbs ({}) finds no RDMA device: the kernel's driver for the NIC has to be loaded "
    "(/sys/class/infiniband shows them), and its ibverbs provider installed (ibverbs-providers)";

struct List {
  explicit List(const Library& from)
      : library(from), devices(from.devices.get_device_list(&count)) {}
  ~List() {
    if (devices != nullptr) library.devices.free_device_list(devices);
  }
  List(const List&) = delete;
  List& operator=(const List&) = delete;

  const Library& library;
  int count = 0;
  ibv_device** devices;
};

std::string joined(const std::vector<std::string>& texts) {
  std::string result;
  for (const std::string& text : texts) result += (result.empty() ? "" : ", ") + text;
  return result;
}

Status none_usable(const std::vector<std::string>& found, const std::vector<std::string>& others) {
  if (!found.empty()) {
    return error(Code::kUnsupported,
                 "no RDMA device has an active port ({}): bring the link up (ip link set DEV up; "
                 "InfiniBand also takes a subnet manager)",
                 joined(found));
  }
  return error(Code::kUnsupported,
               "the RDMA devices here ({}) are not those that the setting nics "
               "or the given NIC priority matrix allows",
               joined(others));
}

}  // namespace

Result<std::vector<std::unique_ptr<VerbsNic>>> open_nics(const Library& library,
                                                         const std::vector<std::string>& allowed) {
  const List list(library);
  if (list.count == 0) return error(Code::kUnsupported, kNone, library.path());
  std::vector<std::unique_ptr<VerbsNic>> nics;
  std::vector<std::string> found, others;
  for (int i = 0; i < list.count; ++i) {
    const std::string name = library.devices.get_device_name(list.devices[i]);
    if (std::find(allowed.begin(), allowed.end(), name) == allowed.end()) {
      others.push_back(name);
      continue;
    }
    Result<std::unique_ptr<VerbsNic>> nic = VerbsNic::open(library, list.devices[i]);
    if (!nic.ok()) {
      log_info("rdma: {}", nic.status().message());
      found.push_back(nic.status().message());
      continue;
    }
    found.push_back((*nic)->state_text());
    nics.push_back(nic.take());
  }
  const bool any = std::any_of(nics.begin(), nics.end(),
                               [](const std::unique_ptr<VerbsNic>& nic) { return nic->active(); });
  if (!any) return none_usable(found, others);
  std::sort(nics.begin(), nics.end(), [&allowed](const auto& a, const auto& b) {
    return std::find(allowed.begin(), allowed.end(), a->device()) <
           std::find(allowed.begin(), allowed.end(), b->device());
  });
  if (nics.size() > rails::Key::kMaxNics) nics.resize(rails::Key::kMaxNics);
  return nics;
}

std::string describe_devices(const Library& library, bool* any) {
  *any = false;
  const List list(library);
  if (list.count == 0) return fmt::format(kNone, library.path());
  std::vector<std::string> found;
  for (int i = 0; i < list.count; ++i) {
    const Result<std::unique_ptr<VerbsNic>> nic = VerbsNic::open(library, list.devices[i]);
    *any = *any || (nic.ok() && (*nic)->active());
    found.push_back(nic.ok() ? (*nic)->state_text() : nic.status().message());
  }
  return joined(found) + fmt::format("; {}", library.path());
}

}  // namespace te::rdma
