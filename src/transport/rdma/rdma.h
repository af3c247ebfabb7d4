// The RDMA transport: InfiniBand and RoCE cards, by libibverbs.
#pragma once

#include "transport/factory.h"

namespace te {

extern const TransportFactory kRdmaFactory;

}  // namespace te
