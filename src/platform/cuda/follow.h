// To follow work of the application on a GPU without waiting for it.
//
// Threads: any.
#pragma once

#include <memory>

#include "platform/cuda/library.h"
#include "platform/memory_driver.h"

namespace te::cuda {

// See MemoryDriver::follow(). Both may be of any GPU and context.
Result<std::unique_ptr<DeviceWork>> follow(const Library& library, Event event, Stream stream);

}  // namespace te::cuda
