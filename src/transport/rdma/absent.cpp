// In place of the RDMA transport, in a build without libibverbs' headers.
#include "transport/rdma/rdma.h"

namespace te {
namespace {

constexpr std::string_view kWhy =
    "this build was made without libibverbs' headers: install libibverbs-dev and build again";

}  // namespace

// NOLINTNEXTLINE(performance-unnecessary-value-param): where there are cards it is moved from.
Result<std::unique_ptr<Transport>> make_rdma_transport(TransportHost&, const Config&, RdmaPlaces) {
  return Status(Code::kUnsupported, std::string(kWhy));
}

TransportInfo describe_rdma_transport(const Config&) {
  return {"rdma", false, false, std::string(kWhy)};
}

}  // namespace te
