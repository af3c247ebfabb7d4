// In place of the libfabric transport, in a build without libfabric's headers.
#include "transport/fabric/fabric.h"

namespace te {
namespace {

constexpr std::string_view kWhy =
    "this build was made without libfabric's headers: install libfabric-dev and build again";

}  // namespace

bool is_fabric_transport(std::string_view name) {
  return name == "efa" || name.starts_with("fabric:");
}

Result<std::unique_ptr<Transport>> make_fabric_transport(TransportHost&, const Config&,
                                                         std::string_view, const NicMatrix&) {
  return Status(Code::kUnsupported, std::string(kWhy));
}

std::vector<TransportInfo> describe_fabric_transports(const Config&) {
  return {{"efa", false, false, std::string(kWhy)}};
}

}  // namespace te
