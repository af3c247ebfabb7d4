// What an engine knows of the segments it has open, while their engines come and go.
#include <gtest/gtest.h>

#include "engine/pair.h"
#include "support/peer.h"

namespace te::test {
namespace {

// The paths are made anew while nobody can be asked where the peer is.
TEST(Segments, ATransportIsExchangedWhileTheControlConnectionIsLost) {
  PeerProcess peer({});
  ASSERT_TRUE(peer.running());
  std::unique_ptr<Engine> engine =
      make_engine({{"connect_timeout_ms", "300"}, {"retry_window_ms", "2000"}});
  Registered local(*engine, 4096);
  const Result<SegmentId> segment = engine->open_segment(peer.segment());
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  stamp(local.data(), local.size(), 1);
  const TransferRequest request{Opcode::kWrite, local.data(), *segment, 0, local.size()};
  ASSERT_EQ(transfer(*engine, {request}).state, TaskState::kCompleted);
  const auto address = [&] {
    std::string result;
    for (const PathInfo& path : engine->paths()) {
      if (path.segment == peer.segment()) result = path.remote_address;
    }
    return result;
  };
  const std::string before = address();

  peer.stop();
  EXPECT_TRUE(fails_with(engine->describe_segment(*segment), Code::kUnavailable, peer.segment()));
  ASSERT_TRUE(engine->uninstall_transport("tcp").ok());
  ASSERT_TRUE(engine->install_transport("tcp").ok());
  EXPECT_EQ(address(), before);
  peer.signal(SIGCONT);
  stamp(local.data(), local.size(), 2);
  EXPECT_EQ(transfer(*engine, {request}).state, TaskState::kCompleted);
  EXPECT_EQ(peer.ask("check 2 0 4096"), "same");
}

}  // namespace
}  // namespace te::test
