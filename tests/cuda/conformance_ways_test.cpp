// Which memory of GPUs the cases of ../engine/conformance_test.cpp move, and how.
#include "cuda/gpu_ways.h"

namespace te::test {
namespace {

constexpr MakeMemory kGpu0 = gpu_memory<0>;
constexpr MakeMemory kGpu1 = gpu_memory<1>;
constexpr MakeMemory kChunks = gpu_memory<0, GpuMemory::Kind::kChunks>;
constexpr MakeMemory kManaged = gpu_memory<1, GpuMemory::Kind::kManaged>;

INSTANTIATE_TEST_SUITE_P(
    Gpus, Conformance,
    testing::Values(Way{"local_from_gpu", nullptr, {}, false, kGpu0, host_memory},
                    Way{"local_to_gpu", nullptr, {}, false, host_memory, kGpu0},
                    Way{"local_between_gpus", nullptr, {}, false, kGpu0, kGpu1},
                    Way{"local_in_a_gpu", nullptr, {}, false, kGpu0, kGpu0},
                    Way{"tcp_from_gpu", "tcp", {}, false, kGpu0, host_memory},
                    Way{"tcp_to_gpu", "tcp", {}, false, host_memory, kGpu0},
                    Way{"tcp_between_gpus", "tcp", {}, false, kGpu0, kGpu1},
                    Way{"tcp_between_chunks_and_managed", "tcp", {}, false, kChunks, kManaged},
                    Way{"shm_from_gpu", "shm", {}, false, kGpu0, host_memory},
                    Way{"shm_to_gpu", "shm", {}, false, host_memory, kGpu0},
                    Way{"shm_between_gpus", "shm", {}, false, kGpu0, kGpu1},
                    Way{"shm_in_a_gpu", "shm", {}, false, kGpu0, kGpu0},
                    Way{"shm_between_chunks", "shm", {}, false, kChunks, kChunks},
                    Way{"shm_to_managed", "shm", {}, false, kGpu0, kManaged},
                    Way{"fabric_tcp_from_gpu",
                        "fabric:tcp",
                        {{"fabric_addresses", "127.0.0.1"}},
                        false,
                        kGpu0,
                        host_memory},
                    Way{"fabric_tcp_to_gpu",
                        "fabric:tcp",
                        {{"fabric_addresses", "127.0.0.1"}},
                        false,
                        host_memory,
                        kGpu0},
                    Way{"fabric_tcp_between_gpus",
                        "fabric:tcp",
                        {{"fabric_addresses", "127.0.0.1"}},
                        false,
                        kGpu0,
                        kGpu1}),
    [](const auto& way) { return std::string(way.param.title); });

}  // namespace
}  // namespace te::test
