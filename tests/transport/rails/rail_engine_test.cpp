#include "transport/rails/rail_engine.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "base/socket.h"
#include "transport/fakes.h"

namespace te::rails {
namespace {

// A NIC that has room for so many slices on all rails together, and does what it is told to.
class FakeEngine final : public RailEngine {
 public:
  explicit FakeEngine(TransportHost& host) : RailEngine(host, 0, [] {}) {}

  NicSpeed speed() override { return {rate_, 1'000'000'000, 16}; }
  // Commands and completions, as the progress thread.
  void look() {
    Look found;
    progress_.look(false, found);
  }
  // What is posted ends so.
  void end_posted(Code code) {
    code_ = code;
    look();
    code_ = Code::kInternal;
    look();
  }
  // What a library finds out.
  void came_up(Rail& rail) {
    progress_.run([&]() TE_REQUIRES(progress_.lock) {
      rail.wanted = false;
      ready = true;
      rail_ready(rail);
      activate(rail);
    });
  }
  void went_down(Rail& rail) {
    progress_.run([&]() TE_REQUIRES(progress_.lock) {
      ready = rail.wanted = false;
      if (rail.rails()) hand_back(rail);
      rail_failed(rail, Code::kUnavailable);
    });
  }

  bool ready = false;
  size_t room = 16;
  std::vector<Slice*> posted;
  int connects = 0, doubts = 0, sweeps = 0, resets = 0;

 private:
  bool poll() override {
    if (code_ == Code::kInternal || posted.empty()) return false;
    for (Slice* slice : posted) {
      return_slice(*static_cast<Rail*>(slice->path), slice, code_, 1);
    }
    posted.clear();
    return true;
  }
  int64_t watch(int64_t now) override { return now + 1'000'000; }
  bool needs_thread() const override { return false; }
  Arming arm(bool) override { return {}; }
  bool advance_rail(Rail& rail, int64_t) override {
    if (!ready) {
      if (rail.wanted) ++connects;
      rail.wanted = false;
      return !rail.queue.empty();
    }
    while (!rail.queue.empty() && posted.size() < room) posted.push_back(rail.queue.pop());
    return !rail.queue.empty();
  }
  void sweep_under_way(Rail&) override { ++sweeps; }
  void reset_connection(Rail&, const Status&) override { ++resets; }
  void doubt_now(Rail&) override { ++doubts; }
  void retire_now(Rail& rail) override {
    rail.retired = true;
    forget(rail);
  }

  RateEstimator rate_;
  Code code_ = Code::kInternal;  // with which poll() ends slices; this one: with none
};

class RailEngineTest : public testing::Test {
 protected:
  RailEngineTest() {
    peer_.address = resolve_host("127.0.0.1", 1)->front();
    auto offer = std::make_shared<Advertisement>();
    offer->nics.resize(2, {"there", 0, {}});
    offer_ = offer;
    Key key;
    key.piece_bytes = 1 << 20;
    key.nics = 0b11;
    key.keys = {1, 2};
    key_ = key.encode();
    for (Slice& slice : slices_) {
      slice.task = &task_;
      slice.length = 1000;
      slice.key = as_bytes(key_).data();
    }
    task_.submission = &submission_;
  }

  std::shared_ptr<Rail> make_rail(FakeEngine& engine, size_t nic) {
    return std::make_shared<Rail>(transport_, engine, "here", offer_, peer_, nic, nic);
  }
  SliceList list(Rail& rail, size_t first, size_t count) {
    SliceList result;
    for (size_t i = first; i < first + count; ++i) {
      slices_[i].path = &rail;
      rail.inflight_bytes += slices_[i].length;
      result.push(&slices_[i]);
    }
    return result;
  }
  std::vector<Slice*> pointers(std::initializer_list<size_t> numbers) {
    std::vector<Slice*> result;
    for (const size_t each : numbers) result.push_back(&slices_[each]);
    return result;
  }

  test::NullTransport transport_;
  test::RecordingHost host_;
  Peer peer_;
  std::shared_ptr<const Advertisement> offer_;
  Bytes key_;
  Submission submission_;
  Task task_;
  std::array<Slice, 12> slices_;
  FakeEngine a_{host_}, b_{host_};
};

TEST_F(RailEngineTest, RailsShareTheRoomInTurn) {
  a_.ready = true;
  a_.room = 2;
  const std::array rails{make_rail(a_, 0), make_rail(a_, 0), make_rail(a_, 0)};
  for (size_t i = 0; i < 3; ++i) a_.progress().submit(list(*rails[i], 4 * i, 4));
  EXPECT_EQ(a_.posted, pointers({0, 1}));
  a_.end_posted(Code::kOk);
  const std::vector<Slice*> second = a_.posted;
  a_.end_posted(Code::kOk);
  const std::vector<Slice*> third = a_.posted;
  ASSERT_EQ(second.size(), 2u);
  ASSERT_EQ(third.size(), 2u);
  EXPECT_NE(second[0]->path, third[0]->path) << "another one goes first next time";
  for (int i = 0; i < 6; ++i) a_.end_posted(Code::kOk);
  EXPECT_EQ(host_.count(), 12u);
}

TEST_F(RailEngineTest, CancelledSlicesComeBackAndOthersStay) {
  const auto rail = make_rail(a_, 0);
  Submission other;
  Task cancelled;
  cancelled.submission = &other;
  other.cancel.store(Code::kCancelled);
  slices_[1].task = &cancelled;
  a_.progress().submit(list(*rail, 0, 3));
  a_.sweep(*rail);
  a_.look();
  EXPECT_EQ(host_.count(), 1u);
  EXPECT_EQ(host_.code_of(&slices_[1]), Code::kCancelled);
  EXPECT_EQ(a_.sweeps, 1);
  a_.ready = true;
  a_.look();
  EXPECT_EQ(a_.posted, pointers({0, 2})) << "in their order";
}

TEST_F(RailEngineTest, AResetReturnsWhatWaitsAndSaysWhy) {
  const auto rail = make_rail(a_, 0);
  a_.progress().submit(list(*rail, 0, 2));
  a_.reset(*rail);
  a_.look();
  EXPECT_EQ(host_.code_of(&slices_[0]), Code::kUnavailable);
  EXPECT_EQ(host_.code_of(&slices_[1]), Code::kUnavailable);
  EXPECT_EQ(a_.resets, 1);
  EXPECT_NE(rail->last_error().message().find("127.0.0.1"), std::string::npos);
}

TEST_F(RailEngineTest, ARetiredRailIsNotConnectedAnyMore) {
  const auto rail = make_rail(a_, 0);
  a_.connect(*rail);
  a_.look();
  EXPECT_EQ(a_.connects, 1);
  a_.retire(*rail);
  a_.connect(*rail);
  a_.look();
  EXPECT_EQ(a_.connects, 1);
  EXPECT_EQ(rail.use_count(), 1) << "the engine holds it no more";
}

// Two NICs here, each with a rail to one of the peer's.
class TwoRails : public RailEngineTest {
 protected:
  void SetUp() override {
    for (size_t i = 0; i < 2; ++i) {
      rails_[i]->join(together_, i);
      together_->add(rails_[i], rails_[i]->engine.speed(), true);
    }
  }
  void TearDown() override {
    SliceList rest = together_->close();
    EXPECT_TRUE(rest.empty());
  }
  Code submit(size_t first, size_t count) {
    SliceList slices = list(*rails_[0], first, count);
    return together_->submit(slices);
  }

  std::array<std::shared_ptr<Rail>, 2> rails_{make_rail(a_, 0), make_rail(b_, 1)};
  std::shared_ptr<PeerRails> together_ = std::make_shared<PeerRails>(PeerRailsOptions{});
};

TEST_F(TwoRails, OneIsConnectedFirstAndTheOtherForWhatStillWaits) {
  ASSERT_EQ(submit(0, 12), Code::kOk);
  a_.look();
  b_.look();
  EXPECT_EQ(a_.connects + b_.connects, 1);
  FakeEngine& first = a_.connects == 1 ? a_ : b_;
  first.came_up(*rails_[a_.connects == 1 ? 0 : 1]);
  EXPECT_FALSE(first.posted.empty());
  for (int i = 0; i < 3; ++i) {
    first.end_posted(Code::kOk);
  }
  EXPECT_EQ(host_.count(), 12u);
}

TEST_F(TwoRails, WhatWaitsOnARailThatFailsGoesByTheOther) {
  a_.room = 0;
  b_.room = 12;
  a_.connect(*rails_[0]);
  b_.connect(*rails_[1]);
  a_.came_up(*rails_[0]);
  ASSERT_EQ(submit(0, 4), Code::kOk);  // to the only one that is there
  EXPECT_TRUE(b_.posted.empty());
  b_.came_up(*rails_[1]);
  a_.went_down(*rails_[0]);
  EXPECT_EQ(host_.count(), 0u) << "nothing failed";
  EXPECT_EQ(b_.posted, pointers({0, 1, 2, 3})) << "in their order";
  for (const Slice* slice : b_.posted) EXPECT_EQ(slice->path, rails_[1].get());
  EXPECT_EQ(rails_[0]->inflight_bytes.load(), 0u);
  b_.end_posted(Code::kOk);
  EXPECT_EQ(host_.count(), 4u);
  EXPECT_EQ(host_.code_of(&slices_[3]), Code::kOk);
}

TEST_F(TwoRails, WithoutAnyRailLeftTheyComeBack) {
  ASSERT_EQ(submit(0, 2), Code::kOk);
  a_.look();
  b_.look();
  a_.went_down(*rails_[0]);
  b_.look();  // it is tried, now that the first one failed
  EXPECT_EQ(host_.count(), 0u);
  EXPECT_EQ(b_.connects, 1);
  b_.went_down(*rails_[1]);
  EXPECT_EQ(host_.count(), 2u);
  EXPECT_EQ(host_.code_of(&slices_[0]), Code::kUnavailable);
  EXPECT_EQ(rails_[1]->state.load(), PathState::kFailed);
}

TEST_F(TwoRails, NothingGoesToARunOfThePeerThatIsGone) {
  ASSERT_EQ(submit(0, 2), Code::kOk);
  SliceList back = together_->end(Code::kStale);
  EXPECT_EQ(back.pop(), &slices_[0]);
  EXPECT_EQ(back.pop(), &slices_[1]);
  EXPECT_TRUE(back.empty());
  EXPECT_EQ(submit(2, 1), Code::kStale);
  EXPECT_TRUE(rails_[0]->over());
}

}  // namespace
}  // namespace te::rails
