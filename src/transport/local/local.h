// Copies inside one engine: the source and the target are both its own.
#pragma once

#include "transport/factory.h"

namespace te {

extern const TransportFactory kLocalFactory;

}  // namespace te
