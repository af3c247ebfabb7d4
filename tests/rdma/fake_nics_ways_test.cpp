// The cases of ../engine/conformance_test.cpp over NICs that reach memory of GPUs: there are
// neither.
#include <gtest/gtest.h>

#include <cstdlib>

#include "cuda/gpu_ways.h"
#include "support/fake_verbs.h"

namespace te::test {
namespace {

// Before each test, whichever ran before it.
class Nics : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override {
    ASSERT_EQ(::setenv("HWLOC_XMLFILE", TE_MACHINE, 1), 0);
    fake_verbs::reset();
  }
};
[[maybe_unused]] const bool installed = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new Nics);
  return true;
}();

constexpr MakeMemory kGpu0 = gpu_memory_of_nics<0>;
constexpr MakeMemory kGpu1 = gpu_memory_of_nics<1>;
constexpr MakeMemory kChunks = gpu_memory<0, GpuMemory::Kind::kChunks>;
constexpr MakeMemory kManaged = gpu_memory<1, GpuMemory::Kind::kManaged>;

Way over(const char* title, MakeMemory local, MakeMemory remote) {
  return {title, "rdma", {{"rdma_library", TE_FAKE_VERBS}, {"nics", "mlx5_4,mlx5_5"}},
          false, local,  remote};
}

// The last one is staged at the target, since managed memory moves.
INSTANTIATE_TEST_SUITE_P(Nics, Conformance,
                         testing::Values(over("nics_from_gpu", kGpu0, host_memory),
                                         over("nics_to_gpu", host_memory, kGpu0),
                                         over("nics_between_gpus", kGpu0, kGpu1),
                                         over("nics_from_chunks_to_managed", kChunks, kManaged)),
                         [](const auto& way) { return std::string(way.param.title); });

}  // namespace
}  // namespace te::test
