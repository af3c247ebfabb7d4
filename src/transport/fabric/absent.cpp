// In place of the libfabric transport, in a build without libfabric's headers.
#include "transport/fabric/fabric.h"
#include "transport/fabric/settings.h"

namespace te {
namespace {

constexpr std::string_view kWhy =
    "this build was made without libfabric's headers: install libfabric-dev and build again";

}  // namespace

constexpr TransportFactory kFabricFactory{
    .names = "efa, fabric:PROVIDER",
    .settings = fabric::kSettings,
    .makes = [](std::string_view name) { return name == "efa" || name.starts_with("fabric:"); },
    .make = [](const TransportSetup&) -> Result<std::unique_ptr<Transport>> {
      return Status(Code::kUnsupported, std::string(kWhy));
    },
    .describe = [](const Config&) -> std::vector<TransportInfo> {
      return {{"efa", false, false, std::string(kWhy)}};
    },
    .over_fabric = true};

}  // namespace te
