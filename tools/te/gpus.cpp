#include "gpus.h"

#include <fmt/core.h>

#include <array>

#include "cuda_driver.h"

namespace te::tool {
namespace {

// Attributes of a GPU, and a value.
constexpr int kWritesOrdering = 118, kDmaBufSupported = 124, kOrderedForOwner = 100;

GpuInfo describe(const CudaDriver& driver, int ordinal) {
  GpuInfo info;
  info.location = fmt::format("cuda:{}", ordinal);
  int device = 0, dmabuf = 0, ordering = 0;
  std::array<char, 256> text{};
  if (driver.device(&device, ordinal) != 0) return info;
  if (driver.name(text.data(), text.size(), device) == 0) info.model = text.data();
  if (driver.pci(text.data(), text.size(), device) == 0) info.pci = text.data();
  size_t bytes = 0;
  if (driver.total_memory(&bytes, device) == 0) info.memory_bytes = bytes;
  (void)driver.attribute(&dmabuf, kDmaBufSupported, device);
  (void)driver.attribute(&ordering, kWritesOrdering, device);
  if (dmabuf == 0) {
    info.detail = "no dmabuf: that takes CUDA 11.7, Linux 5.12 and the open kernel modules";
  } else if (ordering < kOrderedForOwner) {
    info.detail = "it does not see writes of NICs without a flush";
  }
  return info;
}

}  // namespace

Gpus gpus() {
  Gpus result;
  const Result<CudaDriver> driver = open_cuda_driver();
  if (!driver.ok()) {
    result.reason = driver.status().message();
    return result;
  }
  int version = 0, count = 0;
  if (driver->version(&version) == 0) {
    result.driver = fmt::format("CUDA {}.{}", version / 1000, version % 1000 / 10);
  }
  if (driver->count(&count) != 0 || count == 0) result.reason = "the driver has no GPU";
  for (int i = 0; i < count; ++i) result.found.push_back(describe(*driver, i));
  return result;
}

}  // namespace te::tool
