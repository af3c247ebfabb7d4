// Memory that the processor reads and writes: what no other kind claims.
#pragma once

#include "platform/memory_driver.h"

namespace te {

const MemoryDriver& host_memory();

}  // namespace te
