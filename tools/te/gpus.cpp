#include "gpus.h"

#include <fmt/core.h>

#include <array>
#include <filesystem>
#include <system_error>

#include "cuda_driver.h"

namespace te::tool {
namespace {

// Attributes of a GPU, and a value.
constexpr int kGpuDirectRdma = 116, kWritesOrdering = 118, kDmaBufSupported = 124;
constexpr int kOrderedForOwner = 100;
constexpr const char* kPeermem = "/sys/module/nvidia_peermem";

int attribute(const CudaDriver& driver, int which, int device) {
  int value = 0;
  return driver.attribute(&value, which, device) == 0 ? value : 0;
}

// As far as the driver and the kernel tell; whether a NIC takes part, only registration shows.
std::string way_of_nics(const CudaDriver& driver, int device) {
  std::error_code unknown;
  if (attribute(driver, kWritesOrdering, device) < kOrderedForOwner) {
    return "staged: it does not see writes of NICs without a flush";
  }
  if (attribute(driver, kDmaBufSupported, device) != 0) return "dmabuf";
  const std::string no_dmabuf =
      "staged: no dmabuf, which takes CUDA 11.7, Linux 5.12 and the open kernel modules; ";
  if (attribute(driver, kGpuDirectRdma, device) == 0) return no_dmabuf + "no GPUDirect RDMA";
  return std::filesystem::exists(kPeermem, unknown) ? "nvidia-peermem"
                                                    : no_dmabuf + "nvidia-peermem is not loaded";
}

GpuInfo describe(const CudaDriver& driver, int ordinal) {
  GpuInfo info;
  info.location = fmt::format("cuda:{}", ordinal);
  int device = 0;
  std::array<char, 256> text{};
  if (driver.device(&device, ordinal) != 0) return info;
  if (driver.name(text.data(), text.size(), device) == 0) info.model = text.data();
  if (driver.pci(text.data(), text.size(), device) == 0) info.pci = text.data();
  size_t bytes = 0;
  if (driver.total_memory(&bytes, device) == 0) info.memory_bytes = bytes;
  info.rdma = way_of_nics(driver, device);
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
