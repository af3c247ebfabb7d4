// Which NICs serve what memory.
#include "core/nic_affinity.h"

#include <gtest/gtest.h>

namespace te {
namespace {

const NicMatrix kMatrix{{{"cpu:0", {"mlx5_0"}, {"mlx5_2", "mlx5_1"}},
                         {"cpu:1", {"mlx5_1", "mlx5_2"}, {"mlx5_0"}},
                         {"cuda:0", {"mlx5_2"}, {}}}};
const std::vector<std::string> kNics = {"mlx5_0", "mlx5_1", "mlx5_2"};

std::map<uint64_t, NicAffinity::Nics> places_of(const NicAffinity& nearness, const char* location) {
  Buffer buffer;
  buffer.address = 0x10000;
  buffer.length = 0x8000;
  buffer.location = location;
  return nearness.of(buffer);
}

TEST(NicAffinity, IsAsTheMatrixSays) {
  const NicAffinity nearness(kMatrix, kNics, {});
  EXPECT_EQ(nearness.of("cpu:0").near, 0b001u);
  EXPECT_EQ(nearness.of("cpu:0").all, 0b111u);
  EXPECT_EQ(nearness.of("cpu:1").near, 0b110u);
  EXPECT_EQ(nearness.of("cuda:0").all, 0b100u) << "no other NIC may serve it";
  EXPECT_EQ(nearness.of("cuda:7").all, 0b111u) << "nothing is said of it";
  EXPECT_EQ(nearness.of("cuda:7").near, 0u);
}

class Device final : public DeviceMemory {
 public:
  explicit Device(const char* pci) : pci_(pci) {}
  MemoryKind kind() const override { return MemoryKind::kCuda; }
  std::string pci_address() const override { return pci_; }
  Result<std::unique_ptr<PendingCopies>> start(std::span<const MemoryCopy>) const override {
    return Status(Code::kUnsupported, "");
  }

 private:
  const std::string pci_;
};

NicAffinity::Nics of_gpu(const NicMatrix& matrix, const char* pci) {
  Buffer buffer;
  buffer.location = "cuda:0";  // by the driver's number
  buffer.device = std::make_shared<Device>(pci);
  return NicAffinity(matrix, kNics, {}).of(buffer).begin()->second;
}

TEST(NicAffinity, GpusAreKnownByTheirPciAddresses) {
  NicMatrix matrix = kMatrix;
  matrix.rows.push_back({"cuda:3", {"mlx5_1"}, {"mlx5_0"}});
  EXPECT_EQ(of_gpu(matrix, "0000:4b:00.0").near, 0b100u) << "the topology has no GPUs";
  matrix.gpus = {{"0000:1a:00.0", "cuda:0"}, {"0000:4b:00.0", "cuda:3"}};
  EXPECT_EQ(of_gpu(matrix, "0000:4b:00.0").near, 0b010u);
  EXPECT_EQ(of_gpu(matrix, "0000:1a:00.0").near, 0b100u);
  EXPECT_EQ(of_gpu(matrix, "").near, 0b100u) << "the driver does not say";
  EXPECT_EQ(of_gpu(matrix, "0000:ff:00.0").near, 0u) << "the topology does not have it";
  EXPECT_EQ(of_gpu(matrix, "0000:ff:00.0").all, 0b111u);
}

TEST(NicAffinity, ARowForAllOthers) {
  NicMatrix matrix = kMatrix;
  matrix.rows.push_back({"*", {"mlx5_1"}, {}});
  const NicAffinity nearness(matrix, kNics, {});
  EXPECT_EQ(nearness.of("cuda:7").all, 0b010u);
  EXPECT_EQ(nearness.of("cpu:0").all, 0b111u);
}

TEST(NicAffinity, NicsThatAreNotThereServeNothing) {
  const NicAffinity nearness(kMatrix, {"mlx5_1"}, {});
  EXPECT_EQ(nearness.of("cpu:0").near, 0u);
  EXPECT_EQ(nearness.of("cpu:0").all, 0b1u);
  EXPECT_EQ(nearness.of("cuda:0").all, 0u);
}

TEST(NicAffinity, MemoryThatSpansNodesHasPlacesOfItsOwn) {
  using Parts = std::vector<std::pair<uint64_t, uint32_t>>;
  const NicAffinity nearness(kMatrix, kNics, [](uint64_t address, uint64_t length) {
    EXPECT_EQ(length, 0x8000u);
    return Parts{{address, 0}, {address + 0x4000, 1}};
  });
  const auto places = places_of(nearness, "*");
  ASSERT_EQ(places.size(), 2u);
  EXPECT_EQ(places.at(0x10000).near, 0b001u);
  EXPECT_EQ(places.at(0x14000).near, 0b110u);
  EXPECT_EQ(places_of(nearness, "cpu:1").at(0x10000).near, 0b110u) << "nobody looks";
}

TEST(NicAffinity, MemoryOfWhichNothingIsKnownIsNearNobody) {
  const NicAffinity nearness(kMatrix, kNics, [](uint64_t, uint64_t) {
    return std::vector<std::pair<uint64_t, uint32_t>>();
  });
  const auto places = places_of(nearness, "*");
  ASSERT_EQ(places.size(), 1u);
  EXPECT_EQ(places.at(0x10000).near, 0u);
  EXPECT_EQ(places.at(0x10000).all, 0b111u);
}

Nic nic(const std::string& name, uint32_t node, std::vector<std::string> bridges) {
  Nic made;
  made.name = name;
  made.place = {"", std::move(bridges), {node}};
  made.ports.resize(1);
  made.ports[0].state = "active";
  return made;
}

// Two nodes, each with a GPU and two NICs behind a switch, and one more NIC elsewhere.
Topology gpus_behind_switches() {
  Topology topology;
  topology.nodes = {{0, 0, 1 << 30}, {1, 1, 1 << 30}};
  topology.gpus = {{0, "", {"0000:10:00.0", {"0000:0a", "0000:0b:00.0", "0000:0c:02.0"}, {0}}},
                   {1, "", {"0000:90:00.0", {"0000:8a", "0000:8b:00.0", "0000:8c:02.0"}, {1}}}};
  for (uint32_t node : {0u, 1u}) {
    const std::string bus = node == 0 ? "0000:0" : "0000:8";
    for (const char* number : {"0", "1"}) {
      topology.nics.push_back(nic("rdmap" + std::to_string(node) + "s" + number, node,
                                  {bus + "a", bus + "b:00.0", bus + "c:0" + number + ".0"}));
    }
  }
  topology.nics.push_back(nic("rdmap2s0", 1, {"0000:c0", "0000:c1:00.0"}));
  return topology;
}

TEST(NicAffinity, DeviceMemoryIsRegisteredWithItsNearNicsAndHostMemoryWithAll) {
  const NicMatrix matrix = make_nic_matrix(gpus_behind_switches());
  const NicAffinity nearness(matrix, {"rdmap0s0", "rdmap0s1", "rdmap1s0", "rdmap1s1", "rdmap2s0"},
                             {});
  EXPECT_EQ(nearness.to_register("cuda:0"), 0b00011u);
  EXPECT_EQ(nearness.to_register("cuda:1"), 0b01100u);
  for (const char* host : {"cpu:0", "cpu:1", "*"}) {
    EXPECT_EQ(nearness.to_register(host), 0b11111u) << host;
  }
}

TEST(NicAffinity, DeviceMemoryWithoutANearNicIsRegisteredWithAll) {
  const NicMatrix matrix = make_nic_matrix(gpus_behind_switches());
  // The provider has other NICs than the machine's nearest.
  const NicAffinity far(matrix, {"rdmap2s0"}, {});
  EXPECT_EQ(far.to_register("cuda:0"), 0b1u);
  EXPECT_EQ(NicAffinity({}, {"127.0.0.1", "127.0.0.2"}, {}).to_register("cuda:0"), 0b11u);
}

TEST(NicAffinity, NicsThatTheMatrixDoesNotNameServeAllMemory) {
  const NicAffinity nearness(kMatrix, {"mlx5_0", "eth7"}, {});
  EXPECT_EQ(nearness.to_register("cpu:0"), 0b11u);
  EXPECT_EQ(nearness.to_register("cuda:0"), 0b10u);
  EXPECT_EQ(nearness.of("cpu:0").near, 0b01u);
}

}  // namespace
}  // namespace te
