// The RDMA transport: InfiniBand and RoCE NICs, by libibverbs.
#pragma once

#include "transport/factory.h"

namespace te {

extern const TransportFactory kRdmaFactory;

}  // namespace te
