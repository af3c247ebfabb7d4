#include <algorithm>

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

std::vector<const Setting*> transport_settings() {
  std::vector<const Setting*> all;
  for (const TransportFactory* factory : transport_factories()) {
    for (const Setting* setting : factory->settings) {
      if (std::find(all.begin(), all.end(), setting) == all.end()) all.push_back(setting);
    }
  }
  return all;
}

}  // namespace te
