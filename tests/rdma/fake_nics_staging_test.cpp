// Memory that no transport reaches, over NICs that are none.
#include <gtest/gtest.h>

#include <cstdlib>

#include "engine/staged_pair.h"
#include "support/fake_verbs.h"

namespace te::test {
namespace {

class FakeNicsStaging : public testing::TestWithParam<StagedPair::Ends> {
 protected:
  static void SetUpTestSuite() { ASSERT_EQ(::setenv("HWLOC_XMLFILE", TE_MACHINE, 1), 0); }
  void SetUp() override { fake_verbs::reset(); }

  static std::map<std::string, std::string> with(const char* nics) {
    return {{"rdma_library", TE_FAKE_VERBS}, {"nics", nics}};
  }
};

TEST_P(FakeNicsStaging, MovesEveryByteInBothDirections) {
  {
    StagedPair pair("rdma", GetParam(), with("mlx5_0,mlx5_1"), with("mlx5_4,mlx5_5"));
    for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
      for (const uint64_t length : {uint64_t{1}, StagedPair::kPart + 1, StagedPair::kSize - 8}) {
        EXPECT_TRUE(pair.moves(opcode, 8, length)) << length;
      }
    }
    EXPECT_GT(pair.driver.copies.load(), 0u);
  }
  for (int device = 0; device < fake_verbs::kDevices; ++device) {
    EXPECT_EQ(fake_verbs::registered(device), 0) << "of mlx5_" << device;
  }
}

TEST_P(FakeNicsStaging, MemoryOfThatKindIsNotRegisteredWithTheNics) {
  StagedPair pair("rdma", GetParam(), with("mlx5_0"), with("mlx5_4"));
  EXPECT_EQ(fake_verbs::registrations(0, pair.local_memory()), GetParam().local ? 0 : 1);
  EXPECT_EQ(fake_verbs::registrations(4, pair.remote_memory()), GetParam().remote ? 0 : 1);
}

TEST_P(FakeNicsStaging, ACancelledWriteIsFollowedByAnotherOne) {
  StagedPair pair("rdma", GetParam(), with("mlx5_0"), with("mlx5_4"));
  pair.driver.takes_ms = 10;
  const BatchId batch =
      submit_new(pair.initiator(), {pair.request(Opcode::kWrite, 0, StagedPair::kSize)});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  ASSERT_TRUE(pair.initiator().cancel(batch).ok());
  ASSERT_TRUE(pair.initiator().wait(batch, std::chrono::seconds(20)).ok());
  EXPECT_EQ(pair.initiator().batch_status(batch)->state, TaskState::kCancelled);
  ASSERT_TRUE(pair.initiator().free_batch(batch).ok());
  pair.driver.takes_ms = 0;
  EXPECT_TRUE(pair.moves(Opcode::kWrite, 0, StagedPair::kSize));
}

INSTANTIATE_TEST_SUITE_P(Ends, FakeNicsStaging, testing::ValuesIn(kAllEnds),
                         [](const auto& each) { return ends_name(each.param); });

}  // namespace
}  // namespace te::test
