// Links that go and come back, and wires that lose packets.
#include "rdma/pair.h"

namespace te::test {
namespace {

using Failover = RdmaPair;

const std::vector<std::string> kBoth = {"rxe0 rxe2", "rxe1 rxe3"};

// By what queues at the device, so far.
uint64_t dropped_packets(const std::string& device) {
  FILE* pipe = ::popen(("tc -s qdisc show dev " + device).c_str(), "r");
  if (pipe == nullptr) return 0;
  std::string text;
  char part[512];
  while (std::fgets(part, sizeof part, pipe) != nullptr) text += part;
  ::pclose(pipe);
  const size_t at = text.find("dropped ");
  return at == std::string::npos ? 0 : std::stoull(text.substr(at + 8));
}

TEST_F(Failover, ALinkOfEitherSideGoesInMidTransferTwentyTimes) {
  TE_NEEDS_RDMA_VM();
  begin();
  begin_load();
  ASSERT_TRUE(in_use(kBoth));
  longest_ns_ = 0;
  ASSERT_TRUE(goes_on(20));
  // A NIC notices a silent peer after half a second. Then what was lost is moved again, which takes
  // as long as this processor, an emulated one, needs for it.
  const int64_t most_ms = std::max<int64_t>(1'500, 1'000 + 5 * longest_ns_.load() / 1'000'000);
  for (int time = 0; time < 20; ++time) {
    const int device = time % 4;
    longest_ns_ = 0;
    set_link(device, false);
    ASSERT_TRUE(goes_on()) << "device " << device << " down, time " << time;
    set_link(device, true);
    ASSERT_TRUE(in_use(kBoth)) << "device " << device << " up again, time " << time;
    EXPECT_LT(longest_ns_.load() / 1'000'000, most_ms) << "device " << device << ", time " << time;
  }
  end_load();
  EXPECT_EQ(failures_.load(), 0);
}

TEST_F(Failover, WithoutAnyLinkTcpTakesOver) {
  TE_NEEDS_RDMA_VM();
  begin({"tcp", "rdma"});
  begin_load();
  ASSERT_TRUE(in_use(kBoth));
  const auto tcp_bytes = [this] {
    uint64_t bytes = 0;
    for (const PathInfo& path : initiator_->paths()) {
      if (path.transport == "tcp") bytes += path.completed_bytes;
    }
    return bytes;
  };
  EXPECT_EQ(tcp_bytes(), 0u);
  for (const int side : {0, 2}) {
    const uint64_t before = tcp_bytes();
    set_link(side, false);
    set_link(side + 1, false);
    ASSERT_TRUE(goes_on());
    EXPECT_TRUE(eventually([&] { return tcp_bytes() > before; }));
    set_link(side, true);
    set_link(side + 1, true);
    ASSERT_TRUE(in_use(kBoth)) << "the links are back";
  }
  end_load();
  EXPECT_EQ(failures_.load(), 0);
}

TEST_F(Failover, WithoutAnyLinkAndAnyOtherWayTasksTimeOutQuietly) {
  TE_NEEDS_RDMA_VM();
  begin();
  ASSERT_EQ(round(0, 1), "");
  for (const int side : {0, 2}) {
    set_link(side, false);
    set_link(side + 1, false);
    SubmitOptions options;
    options.timeout = std::chrono::milliseconds(2'500);
    const Stopwatch watch;
    std::vector<TransferRequest> requests;
    for (uint64_t at = 0; at < kPart; at += kPart / 8) {
      requests.push_back({Opcode::kRead, local_->data() + at, segment_, address() + at, kPart / 8});
    }
    const TransferStatus status = transfer(*initiator_, requests, options);
    EXPECT_EQ(status.state, TaskState::kTimeout);
    EXPECT_GE(watch.ms(), 2'400);
    EXPECT_LT(watch.ms(), 4'000);
    std::memset(local_->data(), 0x3C, kPart);
    set_link(side, true);
    set_link(side + 1, true);
    // Terminal: nothing touches the memory any more.
    for (int i = 0; i < 20; ++i) {
      ASSERT_EQ(other_than(local_->data(), kPart, std::byte{0x3C}), kSame);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ASSERT_EQ(round(0, 2), "") << "the links are back";
  }
}

TEST_F(Failover, WhatWaitsWhenTheLinkComesBackIsDone) {
  TE_NEEDS_RDMA_VM();
  begin();
  ASSERT_EQ(round(0, 1), "");
  set_link(0, false);
  set_link(1, false);
  std::thread waiting([this] { EXPECT_EQ(round(0, 2), ""); });
  std::this_thread::sleep_for(std::chrono::milliseconds(1'500));
  const Stopwatch watch;
  set_link(0, true);
  set_link(1, true);
  waiting.join();
  EXPECT_LT(watch.ms(), 5'000);
}

TEST_F(Failover, AWireThatLosesPacketsBringsTheRightBytes) {
  TE_NEEDS_RDMA_VM();
  begin();
  for (const char* device : {"eth0", "eth2", "eth3"}) {
    ASSERT_EQ(::system(fmt::format("tc qdisc add dev {} root netem loss 2%", device).c_str()), 0);
  }
  // Until some were lost indeed.
  for (uint64_t seed = 1; seed < 4 || (seed < 40 && dropped_packets("eth0") <= 10); ++seed) {
    ASSERT_EQ(round(0, seed), "") << seed;
  }
  EXPECT_GT(dropped_packets("eth0"), 10u);
  for (const char* device : {"eth0", "eth2", "eth3"}) {
    EXPECT_EQ(::system(fmt::format("tc qdisc del dev {} root", device).c_str()), 0);
  }
}

}  // namespace
}  // namespace te::test
