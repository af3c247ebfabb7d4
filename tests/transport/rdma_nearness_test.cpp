// Which cards serve what memory.
#include <gtest/gtest.h>

#include "transport/rdma/memories.h"

namespace te::rdma {
namespace {

const NicMatrix kMatrix{{{"cpu:0", {"mlx5_0"}, {"mlx5_2", "mlx5_1"}},
                         {"cpu:1", {"mlx5_1", "mlx5_2"}, {"mlx5_0"}},
                         {"cuda:0", {"mlx5_2"}, {}}}};
const std::vector<std::string> kCards = {"mlx5_0", "mlx5_1", "mlx5_2"};

std::map<uint64_t, Nearness::Cards> places_of(const Nearness& nearness, const char* location) {
  Buffer buffer;
  buffer.address = 0x10000;
  buffer.length = 0x8000;
  buffer.location = location;
  return nearness.of(buffer);
}

TEST(RdmaNearness, IsAsTheMatrixSays) {
  const Nearness nearness(kMatrix, kCards, {});
  EXPECT_EQ(nearness.of("cpu:0").near, 0b001u);
  EXPECT_EQ(nearness.of("cpu:0").all, 0b111u);
  EXPECT_EQ(nearness.of("cpu:1").near, 0b110u);
  EXPECT_EQ(nearness.of("cuda:0").all, 0b100u) << "no other card may serve it";
  EXPECT_EQ(nearness.of("cuda:7").all, 0b111u) << "nothing is said of it";
  EXPECT_EQ(nearness.of("cuda:7").near, 0u);
}

TEST(RdmaNearness, ARowForAllOthers) {
  NicMatrix matrix = kMatrix;
  matrix.rows.push_back({"*", {"mlx5_1"}, {}});
  const Nearness nearness(matrix, kCards, {});
  EXPECT_EQ(nearness.of("cuda:7").all, 0b010u);
  EXPECT_EQ(nearness.of("cpu:0").all, 0b111u);
}

TEST(RdmaNearness, CardsThatAreNotThereServeNothing) {
  const Nearness nearness(kMatrix, {"mlx5_1"}, {});
  EXPECT_EQ(nearness.of("cpu:0").near, 0u);
  EXPECT_EQ(nearness.of("cpu:0").all, 0b1u);
  EXPECT_EQ(nearness.of("cuda:0").all, 0u);
}

TEST(RdmaNearness, MemoryThatSpansNodesHasPlacesOfItsOwn) {
  using Parts = std::vector<std::pair<uint64_t, uint32_t>>;
  const Nearness nearness(kMatrix, kCards, [](uint64_t address, uint64_t length) {
    EXPECT_EQ(length, 0x8000u);
    return Parts{{address, 0}, {address + 0x4000, 1}};
  });
  const auto places = places_of(nearness, "*");
  ASSERT_EQ(places.size(), 2u);
  EXPECT_EQ(places.at(0x10000).near, 0b001u);
  EXPECT_EQ(places.at(0x14000).near, 0b110u);
  EXPECT_EQ(places_of(nearness, "cpu:1").at(0x10000).near, 0b110u) << "nobody looks";
}

TEST(RdmaNearness, MemoryOfWhichNothingIsKnownIsNearNobody) {
  const Nearness nearness(kMatrix, kCards, [](uint64_t, uint64_t) {
    return std::vector<std::pair<uint64_t, uint32_t>>();
  });
  const auto places = places_of(nearness, "*");
  ASSERT_EQ(places.size(), 1u);
  EXPECT_EQ(places.at(0x10000).near, 0u);
  EXPECT_EQ(places.at(0x10000).all, 0b111u);
}

}  // namespace
}  // namespace te::rdma
