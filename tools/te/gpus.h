// The GPUs of this machine, as their driver tells. Pure questions; one thread at a time. Asking
// initializes the driver, and makes no context on a GPU.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace te::tool {

struct GpuInfo {
  std::string location;  // "cuda:0", as memory of it is registered
  std::string model;
  std::string pci;
  uint64_t memory_bytes = 0;
  std::string rdma;  // how NICs reach it: "dmabuf", "nvidia-peermem", or "staged: " and why
};

struct Gpus {
  std::vector<GpuInfo> found;
  std::string driver;  // "CUDA 12.4"; empty: none
  std::string reason;  // why there are none
};

Gpus gpus();

}  // namespace te::tool
