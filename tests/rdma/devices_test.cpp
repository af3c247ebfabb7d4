// What the engine finds out about a machine with RDMA devices and two memory nodes.
#include "rdma/devices.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "platform/memory.h"
#include "platform/topology.h"
#include "support/facts.h"

namespace te {
namespace {

TEST(Devices, AreInTheTopology) {
  TE_NEEDS_RDMA_VM();
  const Result<Topology> topology = read_topology();
  ASSERT_TRUE(topology.ok()) << topology.status().to_string();
  EXPECT_EQ(topology->nodes.size(), 2u);
  EXPECT_EQ(topology->latency, (std::vector<std::vector<uint64_t>>{{10, 20}, {20, 10}}));
  ASSERT_EQ(topology->nics.size(), static_cast<size_t>(test::vm_nics()));
  for (size_t i = 0; i < topology->nics.size(); ++i) {
    const Nic& nic = topology->nics[i];
    EXPECT_EQ(nic.name, fmt::format("rxe{}", i));
    EXPECT_EQ(nic.interface, fmt::format("eth{}", i));
    ASSERT_EQ(nic.ports.size(), 1u);
    EXPECT_EQ(nic.ports[0].state, "active");
    EXPECT_EQ(nic.ports[0].link_layer, "Ethernet");
    EXPECT_GT(nic.ports[0].bits_per_s, 0u);
    const std::string wanted = fmt::format("0000:0000:0000:0000:0000:ffff:0a4d:{:04x}", i + 1);
    const bool routable = std::any_of(
        nic.ports[0].gids.begin(), nic.ports[0].gids.end(),
        [&](const auto& gid) { return gid.address == wanted && gid.type == "RoCE v2"; });
    EXPECT_TRUE(routable) << nic.name << " has no GID " << wanted;
  }
}

TEST(Devices, ThatLoseTheirLinkAreNobodysFirstChoice) {
  TE_NEEDS_RDMA_VM();
  const auto preferred = [] {
    const Result<Topology> topology = read_topology();
    EXPECT_TRUE(topology.ok()) << topology.status().to_string();
    return topology.ok() ? make_nic_matrix(*topology).find("cpu:1")->preferred
                         : std::vector<std::string>();
  };
  ASSERT_EQ(::system("ip link set eth1 down"), 0);
  EXPECT_TRUE(test::eventually([&] { return preferred() == std::vector<std::string>{"rxe0"}; }));
  ASSERT_EQ(::system("ip link set eth1 up"), 0);
  EXPECT_TRUE(test::eventually([&] {
    return preferred() == std::vector<std::string>{"rxe0", "rxe1"};
  }));
}

TEST(Devices, OneBufferMayLieOnTwoNodes) {
  TE_NEEDS_RDMA_VM();
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t size = 64 * page;
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  char* const begin = static_cast<char*>(memory);
  const auto bind = [&](size_t from, size_t pages, unsigned long nodes) {
    ASSERT_EQ(::syscall(SYS_mbind, begin + from * page, pages * page, MPOL_BIND, &nodes, 64, 0), 0);
    std::memset(begin + from * page, 1, pages * page);
  };
  bind(0, 24, 1);
  bind(24, 32, 2);
  bind(56, 8, 1);
  const auto address = reinterpret_cast<uint64_t>(begin);
  const std::vector<NodeRange> ranges = memory_nodes_of(address + 100, size - 100);
  ASSERT_EQ(ranges.size(), 3u);
  EXPECT_EQ(ranges[0].address, address + 100);
  EXPECT_EQ(ranges[1].address, address + 24 * page);
  EXPECT_EQ(ranges[2].address, address + 56 * page);
  EXPECT_EQ(ranges[0].node, 0u);
  EXPECT_EQ(ranges[1].node, 1u);
  EXPECT_EQ(ranges[2].node, 0u);
  ::munmap(memory, size);
}

TEST(Devices, InterleavedMemoryIsNowhereInParticular) {
  TE_NEEDS_RDMA_VM();
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t size = 2 * kMaxNodeRanges * page;
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  (void)::madvise(memory, size, MADV_NOHUGEPAGE);
  unsigned long both = 3;
  ASSERT_EQ(::syscall(SYS_mbind, memory, size, MPOL_INTERLEAVE, &both, 64, 0), 0);
  std::memset(memory, 1, size);
  EXPECT_TRUE(memory_nodes_of(reinterpret_cast<uint64_t>(memory), size).empty());
  EXPECT_EQ(memory_nodes_of(reinterpret_cast<uint64_t>(memory), 4 * page).size(), 4u);
  ::munmap(memory, size);
}

}  // namespace
}  // namespace te
