// Calls that wait for a peer end when their thread is interrupted.
#include <gtest/gtest.h>

#include <functional>

#include "base/clock.h"
#include "base/socket.h"
#include "engine/pair.h"

namespace te::test {
namespace {

class Interrupt : public testing::Test {
 protected:
  Interrupt() {
    Result<Fd> fd = listen_tcp("127.0.0.1", 0, 64);
    EXPECT_TRUE(fd.ok());
    silent_ = fd.take();
  }
  std::string silent() const { return local_address(silent_.get()).to_string(); }

  const std::unique_ptr<Engine> engine_ = make_engine({{"connect_timeout_ms", "60000"}});

 private:
  Fd silent_;  // accepts, by the kernel, and never answers
};

TEST_F(Interrupt, ACallThatWaitsForASilentPeerEnds) {
  const std::function<Status()> calls[] = {
      [this] { return engine_->open_segment(silent()).status(); },
      [this] { return engine_->open_segment_no_cache(silent()).status(); },
      [this] { return engine_->probe(silent(), 1).status(); },
      [this] { return engine_->paths_of(silent()).status(); },
  };
  for (const auto& call : calls) {
    int asked = 0;
    const Interruptible interruptible([&] { return ++asked == 3; });
    const int64_t begin_ns = now_ns();
    EXPECT_TRUE(fails_with(call(), Code::kCancelled, "interrupted"));
    EXPECT_EQ(asked, 3);
    EXPECT_LT(now_ns() - begin_ns, 5'000 * kNsPerMs);
    // It stays interrupted, and nothing is asked again.
    EXPECT_TRUE(fails_with(call(), Code::kCancelled, "interrupted"));
    EXPECT_EQ(asked, 3);
  }
}

TEST_F(Interrupt, TheInnermostIsAsked) {
  bool outer_asked = false;
  const Interruptible outer([&] { return outer_asked = true; });
  {
    const Interruptible inner([] { return true; });
    EXPECT_TRUE(fails_with(engine_->open_segment(silent()), Code::kCancelled, "interrupted"));
    EXPECT_FALSE(outer_asked);
  }
  EXPECT_TRUE(fails_with(engine_->open_segment(silent()), Code::kCancelled, "interrupted"));
  EXPECT_TRUE(outer_asked);
}

TEST_F(Interrupt, ThoseThatAreAnsweredDoNotNotice) {
  const std::unique_ptr<Engine> target = make_engine({});
  const Interruptible interruptible([] { return false; });
  const Result<SegmentId> segment = engine_->open_segment(target->local_endpoint());
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  EXPECT_TRUE(engine_->describe_segment(*segment).ok());
  EXPECT_TRUE(engine_->sync_segment_cache().ok());
  EXPECT_TRUE(engine_->notify(*segment, {"name", "message"}).ok());
  EXPECT_EQ(target->take_notifications().size(), 1u);
}

}  // namespace
}  // namespace te::test
