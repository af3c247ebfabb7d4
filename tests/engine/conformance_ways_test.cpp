// The transports that the cases of conformance_test.cpp run over.
#include "engine/conformance.h"

namespace te::test {
namespace {

INSTANTIATE_TEST_SUITE_P(
    Transports, Conformance,
    testing::Values(
        Way{"local", nullptr}, Way{"shm", "shm"},
        Way{"shm_allocated", "shm", {}, false, allocated_memory, allocated_memory},
        Way{"tcp", "tcp"}, Way{"tcp_without_copy", "tcp", {{"tcp_zero_copy", "on"}}},
        Way{"rdma_one_device", "rdma", {{"nics", "rxe0"}}, true},
        Way{"rdma_two_devices", "rdma", {{"nics", "rxe0,rxe1"}}, true},
        Way{"rdma_four_devices", "rdma", {}, true},
        Way{"fabric_tcp", "fabric:tcp", {{"fabric_addresses", "127.0.0.1"}}},
        Way{"fabric_tcp_two_nics", "fabric:tcp", {{"fabric_addresses", "127.0.0.1,127.0.0.2"}}},
        Way{"fabric_verbs", "fabric:verbs", {{"fabric_addresses", "10.77.0.1"}}, true},
        Way{"fabric_verbs_two_nics", "fabric:verbs", {}, true}),
    [](const auto& way) { return std::string(way.param.title); });

}  // namespace
}  // namespace te::test
