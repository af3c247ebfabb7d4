// In place of the RDMA transport, in a build without libibverbs' headers.
#include "transport/rdma/rdma.h"
#include "transport/rdma/settings.h"

namespace te {
namespace {

constexpr std::string_view kWhy =
    "this build was made without libibverbs' headers: install libibverbs-dev and build again";

}  // namespace

constexpr TransportFactory kRdmaFactory{
    .names = "rdma",
    .settings = rdma::kSettings,
    .makes = [](std::string_view name) { return name == "rdma"; },
    .make = [](const TransportSetup&) -> Result<std::unique_ptr<Transport>> {
      return Status(Code::kUnsupported, std::string(kWhy));
    },
    .describe = [](const Config&) -> std::vector<TransportInfo> {
      return {{"rdma", false, false, std::string(kWhy)}};
    },
    .over_fabric = true};

}  // namespace te
