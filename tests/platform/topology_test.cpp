// Recorded machines, each with its matrix as one would draw it up by hand.
#include "platform/topology.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace te {
namespace {

namespace fs = std::filesystem;

Topology recorded(const std::string& name) {
  Result<Topology> topology = read_topology({std::string(TE_FIXTURES) + "/" + name + ".xml"});
  EXPECT_TRUE(topology.ok()) << topology.status().to_string();
  return topology.ok() ? topology.take() : Topology();
}

void expect_matrix(const Topology& topology, const std::string& wanted) {
  EXPECT_EQ(nlohmann::ordered_json::parse(make_nic_matrix(topology).to_json()),
            nlohmann::ordered_json::parse(wanted));
}

TEST(ReadTopology, TwoSocketsEightGpusEightNics) {
  const Topology topology = recorded("two_sockets_8_gpus_8_nics");
  EXPECT_EQ(topology.latency, (std::vector<std::vector<uint64_t>>{{10, 21}, {21, 10}}));
  ASSERT_EQ(topology.gpus.size(), 8u);
  // CUDA counts the second socket's backwards.
  EXPECT_EQ(topology.gpus[4].place.pci_address, "0000:c4:00.0");
  EXPECT_EQ(topology.gpus[4].model, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(topology.gpus[4].place.bridges,
            (std::vector<std::string>{"0000:c0", "0000:c0:01.0", "0000:c1:00.0", "0000:c2:01.0"}));
  expect_matrix(topology, R"({
    "cpu:0": [["mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3"], ["mlx5_4", "mlx5_5", "mlx5_8", "mlx5_9"]],
    "cpu:1": [["mlx5_4", "mlx5_5", "mlx5_8", "mlx5_9"], ["mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3"]],
    "cuda:0": [["mlx5_0"],
               ["mlx5_1", "mlx5_2", "mlx5_3", "mlx5_4", "mlx5_5", "mlx5_8", "mlx5_9"]],
    "cuda:1": [["mlx5_1"],
               ["mlx5_0", "mlx5_2", "mlx5_3", "mlx5_4", "mlx5_5", "mlx5_8", "mlx5_9"]],
    "cuda:2": [["mlx5_2"],
               ["mlx5_0", "mlx5_1", "mlx5_3", "mlx5_4", "mlx5_5", "mlx5_8", "mlx5_9"]],
    "cuda:3": [["mlx5_3"],
               ["mlx5_0", "mlx5_1", "mlx5_2", "mlx5_4", "mlx5_5", "mlx5_8", "mlx5_9"]],
    "cuda:4": [["mlx5_9"],
               ["mlx5_4", "mlx5_5", "mlx5_8", "mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3"]],
    "cuda:5": [["mlx5_8"],
               ["mlx5_4", "mlx5_5", "mlx5_9", "mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3"]],
    "cuda:6": [["mlx5_5"],
               ["mlx5_4", "mlx5_8", "mlx5_9", "mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3"]],
    "cuda:7": [["mlx5_4"],
               ["mlx5_5", "mlx5_8", "mlx5_9", "mlx5_0", "mlx5_1", "mlx5_2", "mlx5_3"]]})");
}

TEST(ReadTopology, NodesWithoutANicUseTheirPackages) {
  const Topology topology = recorded("four_nodes_2_nics");
  ASSERT_EQ(topology.nodes.size(), 4u);
  EXPECT_EQ(topology.nodes[1].package, 0u);
  EXPECT_EQ(topology.nodes[2].package, 1u);
  EXPECT_EQ(topology.nodes[2].bytes, 256ull << 30);
  expect_matrix(topology, R"({
    "cpu:0": [["mlx5_0"], ["mlx5_1"]], "cpu:1": [["mlx5_0"], ["mlx5_1"]],
    "cpu:2": [["mlx5_1"], ["mlx5_0"]], "cpu:3": [["mlx5_1"], ["mlx5_0"]],
    "cuda:0": [["mlx5_0"], ["mlx5_1"]], "cuda:1": [["mlx5_0"], ["mlx5_1"]],
    "cuda:2": [["mlx5_1"], ["mlx5_0"]], "cuda:3": [["mlx5_1"], ["mlx5_0"]]})");
  const Nic& nic = *topology.find_nic("mlx5_0");
  EXPECT_EQ(distance(topology, "cpu:0", nic), (Distance{Proximity::kPackage, 12}));
  EXPECT_EQ(distance(topology, "cpu:1", nic), (Distance{Proximity::kNode, 0}));
  EXPECT_EQ(distance(topology, "cpu:3", nic), (Distance{Proximity::kMachine, 32}));
  EXPECT_EQ(distance(topology, "cuda:1", nic), (Distance{Proximity::kHostBridge, 0}));
}

TEST(ReadTopology, NoNicAtAll) {
  const Topology topology = recorded("no_nic");
  EXPECT_TRUE(topology.nics.empty());
  expect_matrix(topology, R"({"cpu:0": [[], []]})");
}

TEST(ReadTopology, ANicThatIsDownIsNobodysFirstChoice) {
  const Topology topology = recorded("mixed_links");
  // mlx5_3 hangs at the machine itself: no node is nearer to it than another.
  expect_matrix(topology, R"({
    "cpu:0": [["mlx5_0", "mlx5_1", "mlx5_3"], ["mlx5_10", "mlx5_2"]],
    "cpu:1": [["mlx5_3", "mlx5_10"], ["mlx5_0", "mlx5_1", "mlx5_2"]]})");
  const Nic& down = *topology.find_nic("mlx5_2");
  EXPECT_FALSE(down.usable());
  EXPECT_EQ(down.ports.at(0).state, "down");
  const Nic& roce = *topology.find_nic("mlx5_10");
  EXPECT_EQ(roce.interface, "ens1f1");
  EXPECT_EQ(roce.ports.at(0).link_layer, "Ethernet");
  ASSERT_EQ(roce.ports.at(0).gids.size(), 2u);
  EXPECT_EQ(roce.ports.at(0).gids[1].address, "0000:0000:0000:0000:0000:ffff:0a02:1601");
  EXPECT_EQ(topology.find_nic("mlx5_1")->ports.at(0).link_layer, "InfiniBand");
}

TEST(ReadTopology, AFileThatIsNoMachineIsAnError) {
  const Result<Topology> absent = read_topology({"/nonexistent/machine.xml"});
  ASSERT_EQ(absent.code(), Code::kInvalidArgument);
  EXPECT_NE(absent.status().message().find("/nonexistent/machine.xml"), std::string::npos);
  const Result<Topology> other = read_topology({__FILE__});
  EXPECT_FALSE(other.ok());
}

// A directory like /sys/class/infiniband, with one device that has no hardware behind it.
class LiveDevices : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "te-topology-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& name, const std::string& line) {
    fs::create_directories((root_ / name).parent_path());
    std::ofstream(root_ / name) << line << "\n";
  }

  fs::path root_;
};

TEST_F(LiveDevices, AreReadAsTheyAreNow) {
  const std::string port = "soft0/ports/1/";
  write(port + "state", "4: ACTIVE");
  write(port + "link_layer", "Ethernet");
  write(port + "rate", "2.5 Gb/sec (1X SDR)");
  write(port + "gids/0", "fe80:0000:0000:0000:ba59:9fff:fe1e:ff9a");
  write(port + "gids/1", "0000:0000:0000:0000:0000:ffff:0a4d:0001");
  write(port + "gids/2", "0000:0000:0000:0000:0000:0000:0000:0000");
  write(port + "gid_attrs/types/1", "RoCE v2");
  write(port + "gid_attrs/ndevs/1", "eth7");
  write("soft0/ports/2/state", "1: DOWN");
  const Result<Topology> topology = read_topology({"", root_.string()});
  ASSERT_TRUE(topology.ok()) << topology.status().to_string();
  const Nic* nic = topology->find_nic("soft0");
  ASSERT_NE(nic, nullptr);
  EXPECT_EQ(nic->interface, "eth7");
  ASSERT_EQ(nic->ports.size(), 2u);
  EXPECT_EQ(nic->ports[0].state, "active");
  EXPECT_EQ(nic->ports[0].link_layer, "Ethernet");
  EXPECT_EQ(nic->ports[0].bits_per_s, 2'500'000'000u);
  ASSERT_EQ(nic->ports[0].gids.size(), 2u);
  EXPECT_EQ(nic->ports[0].gids[1].index, 1u);
  EXPECT_EQ(nic->ports[0].gids[1].type, "RoCE v2");
  EXPECT_EQ(nic->ports[1].state, "down");
  // Near to every node, as nothing says where it is.
  for (const NicMatrix::Row& row : make_nic_matrix(*topology).rows) {
    if (!row.location.starts_with("cpu:")) continue;
    EXPECT_NE(std::find(row.preferred.begin(), row.preferred.end(), "soft0"), row.preferred.end())
        << row.location;
  }
}

// What the kernel shows of a machine with two nodes and a NIC beside the second.
TEST_F(LiveDevices, WithoutHwlocTheKernelTellsOfNodesAndNics) {
  const fs::path nodes = root_ / "nodes";
  for (const std::string name : {"node0", "node1", "has_cpu"}) {
    fs::create_directories(nodes / name);
    std::ofstream(nodes / name / "meminfo")
        << "Node 1 MemTotal:       2048 kB\nNode 1 MemFree: 1\n";
  }
  fs::create_directories(root_ / "infiniband" / "mlx5_0" / "ports" / "1");
  fs::create_directories(root_ / "devices" / "0000:43:00.0");
  std::ofstream(root_ / "devices" / "0000:43:00.0" / "numa_node") << "1\n";
  fs::create_directory_symlink("../../devices/0000:43:00.0",
                               root_ / "infiniband" / "mlx5_0" / "device");
  TopologyOrigin origin;
  origin.infiniband = (root_ / "infiniband").string();
  origin.nodes = nodes.string();
  origin.hwloc = "/nonexistent/libhwloc.so";
  const Result<Topology> topology = read_topology(origin);
  ASSERT_TRUE(topology.ok()) << topology.status().to_string();
  ASSERT_EQ(topology->nodes.size(), 2u);
  EXPECT_EQ(topology->nodes[1].index, 1u);
  EXPECT_EQ(topology->nodes[1].bytes, 2u << 20);
  ASSERT_EQ(topology->nics.size(), 1u);
  EXPECT_EQ(topology->nics[0].place.pci_address, "0000:43:00.0");
  EXPECT_EQ(topology->nics[0].place.nodes, std::vector<uint32_t>{1});
  // A recorded machine takes hwloc.
  origin.xml_file = std::string(TE_FIXTURES) + "/no_nic.xml";
  const Status recorded_one = read_topology(origin).status();
  EXPECT_EQ(recorded_one.code(), Code::kUnsupported);
  EXPECT_NE(recorded_one.message().find("libhwloc15"), std::string::npos);
}

TEST(ReadTopology, ThisMachineHasItsMemory) {
  const Result<Topology> topology = read_topology();
  ASSERT_TRUE(topology.ok()) << topology.status().to_string();
  ASSERT_FALSE(topology->nodes.empty());
  EXPECT_GT(topology->nodes[0].bytes, 0u);
}

}  // namespace
}  // namespace te
