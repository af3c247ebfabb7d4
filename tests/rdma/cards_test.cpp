// Memory and load of several cards.
#include "rdma/pair.h"

namespace te::test {
namespace {

using Cards = RdmaPair;

TEST_F(Cards, ABufferTooLargeForOneRegistrationIsRegisteredInPieces) {
  TE_NEEDS_RDMA_VM();
  begin({"rdma"}, {{"rdma_max_registration", "524288"}});
  EXPECT_EQ(round(0, 1), "");
  // Across every border, from an odd place.
  constexpr uint64_t kLength = kSize - 200;
  stamp(local_->data() + 100, kLength, 7);
  ASSERT_EQ(transfer(*initiator_, {write(100, kLength)}).state, TaskState::kCompleted);
  EXPECT_EQ(difference(remote_->data() + 100, kLength, 7), kSame);
  std::vector<std::byte> large(5 << 20);
  const Status refused = initiator_->register_memory(large.data(), large.size());
  EXPECT_EQ(refused.code(), Code::kResource);
  EXPECT_NE(refused.message().find("8 registrations of 524288 bytes"), std::string::npos)
      << refused.message();
}

TEST_F(Cards, TheLoadOfEachIsTold) {
  TE_NEEDS_RDMA_VM();
  begin();
  (void)initiator_->device_loads();
  begin_load();
  ASSERT_TRUE(in_use({"rxe0 rxe2", "rxe1 rxe3"}));
  std::map<std::string, double> bandwidth;
  for (const DeviceLoad& load : initiator_->device_loads()) {
    bandwidth[load.device] = load.bandwidth_bytes_per_s;
  }
  end_load();
  EXPECT_GT(bandwidth["rxe0"], 0);
  EXPECT_GT(bandwidth["rxe1"], 0);
  EXPECT_FALSE(bandwidth.contains("rxe2")) << "the peer's";
  EXPECT_TRUE(eventually([this] {
    for (const DeviceLoad& load : initiator_->device_loads()) {
      if (load.inflight_bytes != 0) return false;
    }
    return true;
  }));
}

TEST_F(Cards, WarmUpConnectsEveryPair) {
  TE_NEEDS_RDMA_VM();
  begin();
  // No card knows the way to another: the kernel takes up to a second to find each.
  ASSERT_EQ(::system("ip neigh flush all"), 0);
  const Status warm = initiator_->warmup_segment(target_->local_endpoint());
  ASSERT_TRUE(warm.ok()) << warm.to_string();
  const std::map<std::string, PathInfo> paths = rdma_paths(*initiator_);
  EXPECT_EQ(paths.size(), 4u);
  for (const auto& [name, path] : paths) EXPECT_EQ(path.state, "ready") << name;
}

TEST_F(Cards, AnEngineThatIsIdleSleeps) {
  TE_NEEDS_RDMA_VM();
  begin();
  ASSERT_EQ(round(0, 1), "");
  EXPECT_TRUE(eventually([] {
    const int64_t before = cpu_ms();
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    return cpu_ms() - before < 100;
  }));
}

}  // namespace
}  // namespace te::test
