// Registered memory of GPUs for the cases of ../engine/conformance_test.cpp.
#pragma once

#include "engine/conformance.h"
#include "support/gpu_memory.h"

namespace te::test {

struct RegisteredGpuMemory {
  RegisteredGpuMemory(Engine& its_engine, int gpu, size_t length, GpuMemory::Kind kind)
      : engine(its_engine), memory(gpu, length, kind) {
    const Status status = engine.register_memory(memory.data(), length, "*");
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  ~RegisteredGpuMemory() { EXPECT_TRUE(engine.unregister_memory(memory.data()).ok()); }

  Engine& engine;
  GpuMemory memory;
};

template <int kGpu, GpuMemory::Kind kKind = GpuMemory::Kind::kWhole>
SomeMemory gpu_memory(Engine& engine, size_t length) {
  const auto owner = std::make_shared<RegisteredGpuMemory>(engine, kGpu, length, kKind);
  return {owner, owner->memory.data(), owner->memory.view(), length};
}

// Memory that NICs reach: no byte of it is copied by the driver.
template <int kGpu, GpuMemory::Kind kKind = GpuMemory::Kind::kWhole>
SomeMemory gpu_memory_of_nics(Engine& engine, size_t length) {
  const SomeMemory memory = gpu_memory<kGpu, kKind>(engine, length);
  const std::shared_ptr<void> owner(nullptr, [memory, before = fake_cuda::copies()](void*) {
    EXPECT_EQ(fake_cuda::copies(), before) << "it was staged";
  });
  return {owner, memory.at(), memory.data(), length};
}

}  // namespace te::test
