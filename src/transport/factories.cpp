#include "transport/fabric/fabric.h"
#include "transport/factory.h"
#include "transport/local/local.h"
#include "transport/rdma/rdma.h"
#include "transport/shm/shm.h"
#include "transport/tcp/tcp.h"

namespace te {

std::span<const TransportFactory* const> transport_factories() {
  static constexpr const TransportFactory* kFactories[] = {
      &kLocalFactory, &kShmFactory, &kRdmaFactory, &kFabricFactory, &kTcpFactory,
  };
  return kFactories;
}

}  // namespace te
