// Memory of NVIDIA's GPUs: that of one GPU, and managed memory, which the driver moves between GPUs
// and host memory.
#pragma once

#include "platform/memory_driver.h"

namespace te::cuda {

const MemoryDriver& cuda_memory();

}  // namespace te::cuda
