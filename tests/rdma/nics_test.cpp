// Memory and load of several NICs.
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "rdma/pair.h"

namespace te::test {
namespace {

using Nics = RdmaPair;

TEST_F(Nics, ABufferTooLargeForOneRegistrationIsRegisteredInPieces) {
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
  EXPECT_NE(refused.message().find("8 memory regions of 524288 bytes"), std::string::npos)
      << refused.message();
}

// Whether this thread, and those that it starts, may lock as much memory as they like.
bool set_lock_capability(bool may) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  if (::syscall(SYS_capget, &header, sets) != 0) return false;
  constexpr uint32_t kBit = 1u << CAP_IPC_LOCK;
  sets[0].effective = may ? sets[0].effective | kBit : sets[0].effective & ~kBit;
  return ::syscall(SYS_capset, &header, sets) == 0;
}

TEST_F(Nics, WhoMayNotLockMemoryIsToldTheLimitAndWhatToDo) {
  TE_NEEDS_RDMA_VM();
  begin();
  std::vector<std::byte> large(4 << 20);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &limit), 0);
  limit.rlim_cur = 64 << 10;
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &limit), 0);
  ASSERT_TRUE(set_lock_capability(false));
  const Status refused = initiator_->register_memory(large.data(), large.size());
  ASSERT_TRUE(set_lock_capability(true));
  EXPECT_EQ(refused.code(), Code::kResource);
  for (const char* told : {"rxe0", "4194304 bytes", "Cannot allocate memory", "ulimit -l is 64 KiB",
                           "max_mr_size", "Raise ulimit -l", "CAP_IPC_LOCK"}) {
    EXPECT_NE(refused.message().find(told), std::string::npos) << told << ": " << refused.message();
  }
  limit.rlim_cur = limit.rlim_max = RLIM_INFINITY;
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &limit), 0);
  const Status again = initiator_->register_memory(large.data(), large.size());
  EXPECT_TRUE(again.ok()) << again.to_string();
  EXPECT_TRUE(initiator_->unregister_memory(large.data()).ok());
  EXPECT_EQ(round(0, 1), "");
}

TEST_F(Nics, TheLoadOfEachIsTold) {
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

TEST_F(Nics, WarmUpConnectsEveryPair) {
  TE_NEEDS_RDMA_VM();
  begin();
  // No NIC knows the way to another: the kernel takes up to a second to find each.
  ASSERT_EQ(::system("ip neigh flush all"), 0);
  const Status warm = initiator_->warmup_segment(target_->local_endpoint());
  ASSERT_TRUE(warm.ok()) << warm.to_string();
  const std::map<std::string, PathInfo> paths = rdma_paths(*initiator_);
  EXPECT_EQ(paths.size(), 4u);
  for (const auto& [name, path] : paths) EXPECT_EQ(path.state, "ready") << name;
}

TEST_F(Nics, AnEngineThatIsIdleSleeps) {
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
