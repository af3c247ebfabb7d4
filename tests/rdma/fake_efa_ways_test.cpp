// The cases of ../engine/conformance_test.cpp over efa, whose provider reaches memory of GPUs:
// there are neither.
#include <gtest/gtest.h>

#include "cuda/gpu_ways.h"
#include "support/fake_efa.h"

namespace te::test {
namespace {

// Before each test, whichever ran before it.
class Provider : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override {
    fake_efa::reset();
    fake_efa::reach_gpus(true);
  }
};
[[maybe_unused]] const bool installed = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new Provider);
  return true;
}();

constexpr MakeMemory kGpu0 = gpu_memory_of_nics<0>;
constexpr MakeMemory kGpu1 = gpu_memory_of_nics<1>;

Way over(const char* title, MakeMemory local, MakeMemory remote) {
  return {title, "efa", {{"fabric_library", TE_FAKE_EFA}}, false, local, remote};
}

INSTANTIATE_TEST_SUITE_P(Efa, Conformance,
                         testing::Values(over("efa_from_gpu", kGpu0, host_memory),
                                         over("efa_to_gpu", host_memory, kGpu0),
                                         over("efa_between_gpus", kGpu0, kGpu1)),
                         [](const auto& way) { return std::string(way.param.title); });

}  // namespace
}  // namespace te::test
