// The retry queue in virtual time: no network, no thread, no clock.
#include "engine/recovery.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "engine/pair.h"
#include "support/virtual_time.h"
#include "transport/fakes.h"

namespace te::test {
namespace {

// Virtual time, and peers that answer when the test says so.
class VirtualHost final : public RecoveryHost, public VirtualTime {
 public:
  int64_t now_ns() override { return now_ms * kNsPerMs; }
  bool run_after(int64_t delay_ms, std::function<void()> task) override {
    run_at(now_ms + delay_ms, std::move(task));
    return true;
  }
  void refresh(const std::shared_ptr<Segment>& segment,
               std::function<void(Status)> refreshed) override {
    ++asked[segment->name];
    if (answers.contains(segment->name)) return refreshed(answers[segment->name]);
    open[segment->name].push_back(std::move(refreshed));
  }
  int64_t restarted_ns(const Segment&) override { return restarted_at_ns; }

  void answer(const std::string& name, const Status& status) {
    ASSERT_FALSE(open[name].empty()) << name << " was not asked";
    const std::function<void(Status)> refreshed = std::move(open[name].front());
    open[name].pop_front();
    refreshed(status);
  }

  int64_t restarted_at_ns = 0;
  std::map<std::string, int> asked;
  std::map<std::string, Status> answers;  // at once; else when answer() is called
  std::map<std::string, std::deque<std::function<void(Status)>>> open;
};

class RecordingOwner final : public SliceOwner {
 public:
  Outcome repost(Slice* slice, const std::shared_ptr<Segment>&, Status* why) override {
    if (outcome == Outcome::kPosted) {
      ++slice->attempts;
      posted.push_back(slice);
    } else {
      *why = Status(Code::kOutOfRange, "there is no such range");
    }
    return outcome;
  }
  void end(Slice* slice, Code code, const Status& why) override {
    EXPECT_TRUE(ended.emplace(slice, std::pair(code, why)).second) << "ended twice";
  }

  Outcome outcome = Outcome::kPosted;
  std::vector<Slice*> posted;
  std::map<Slice*, std::pair<Code, Status>> ended;
};

class RecoveryTest : public testing::Test {
 protected:
  struct Request {
    Submission submission;
    Task task;
  };

  RecoveryTest() { recovery_.set_owner(owner_); }
  ~RecoveryTest() override {
    recovery_.stop();
    host_.advance(100'000);
  }

  std::shared_ptr<Segment> segment(const std::string& name) {
    return std::make_shared<Segment>(name, *loop_, nullptr);
  }
  Slice* request() {
    requests_.push_back(std::make_unique<Request>());
    Request& made = *requests_.back();
    made.task.submission = &made.submission;
    made.task.slices_left = 1;
    made.task.first.task = &made.task;
    made.task.first.path = &path_;
    return &made.task.first;
  }
  void cancel(Slice* slice, Code code = Code::kTimeout) { slice->task->submission->cancel = code; }
  Code code_of(Slice* slice) {
    return owner_.ended.contains(slice) ? owner_.ended[slice].first : Code::kOk;
  }

  const std::unique_ptr<EventLoop> loop_ = EventLoop::create("te-test").take();  // never started
  NullTransport transport_;
  Path path_{transport_, "", "", "the peer"};
  Config config_;
  VirtualHost host_;
  RecordingOwner owner_;
  Recovery recovery_{config_, host_};
  std::vector<std::unique_ptr<Request>> requests_;
  const std::shared_ptr<Segment> a_ = segment("a"), b_ = segment("b");
  const Status away_{Code::kUnavailable, "nobody is there"};
};

TEST_F(RecoveryTest, APeerThatAnswersGetsItsSlicesAgainAtOnce) {
  host_.answers["a"] = {};
  Slice* slice = request();
  recovery_.add(a_, slice, Code::kUnavailable);
  EXPECT_TRUE(owner_.posted.empty()) << "add() asks nobody itself";
  host_.advance(0);
  EXPECT_EQ(owner_.posted, std::vector<Slice*>{slice});
  // What is lost again is not hurried.
  recovery_.add(a_, slice, Code::kUnavailable);
  host_.advance(5);
  EXPECT_EQ(owner_.posted.size(), 1u);
  host_.advance(10);
  EXPECT_EQ(owner_.posted.size(), 2u);
  EXPECT_TRUE(owner_.ended.empty());
}

// Each attempt takes as long as a connection that is refused over and over.
TEST_F(RecoveryTest, APeerThatAnswersAndTakesNothingIsTriedForOneWindow) {
  constexpr int64_t kConnectMs = 2'000;
  host_.answers["a"] = {};
  Slice* slice = request();
  path_.set_error(error(Code::kUnavailable, "it is busy"));
  host_.advance(kConnectMs);
  for (int i = 0; i < 8 && owner_.ended.empty(); ++i) {
    recovery_.add(a_, slice, Code::kUnavailable);
    host_.advance(kConnectMs);
  }
  EXPECT_TRUE(fails_with(owner_.ended[slice].second, Code::kUnavailable, "it is busy"));
  EXPECT_LE(host_.now_ms, static_cast<int64_t>(config_.retry_window_ms) + 3 * kConnectMs);
}

TEST_F(RecoveryTest, APeerThatWasAwayMeanwhileIsTriedOn) {
  host_.answers["a"] = {};
  Slice* slice = request();
  recovery_.add(a_, slice, Code::kUnavailable);
  host_.advance(2'000);
  for (int i = 0; i < 3; ++i) {
    host_.answers["a"] = away_;
    recovery_.add(a_, slice, Code::kUnavailable);
    host_.advance(2'500);
    host_.answers["a"] = {};
    host_.advance(300);
    EXPECT_TRUE(owner_.ended.empty()) << i;
  }
  EXPECT_EQ(owner_.posted.size(), 4u);
}

TEST_F(RecoveryTest, ATaskOfWhichSomethingGotThroughIsTriedOn) {
  host_.answers["a"] = {};
  Slice* slice = request();
  for (uint64_t i = 0; i < 7; ++i) {
    recovery_.add(a_, slice, Code::kUnavailable);
    host_.advance(2'000);
    slice->task->transferred = i + 1;
    EXPECT_TRUE(owner_.ended.empty()) << i;
  }
  EXPECT_EQ(owner_.posted.size(), 7u);
}

TEST_F(RecoveryTest, APeerThatStaysAwayIsAskedAgainUntilTheWindowIsOver) {
  host_.answers["a"] = away_;
  Slice* slice = request();
  recovery_.add(a_, slice, Code::kUnavailable);
  host_.advance(static_cast<int64_t>(config_.retry_window_ms) - 1);
  EXPECT_TRUE(owner_.ended.empty());
  EXPECT_GE(host_.asked["a"], 12);
  EXPECT_LE(host_.asked["a"], 30);
  host_.advance(1);
  EXPECT_TRUE(fails_with(owner_.ended[slice].second, Code::kUnavailable, "segment 'a': nobody"));
  const int asked = host_.asked["a"];
  host_.advance(10'000);
  EXPECT_EQ(host_.asked["a"], asked) << "nobody waits for it any more";
}

// The second question has no answer when the window ends.
TEST_F(RecoveryTest, APeerThatIsSilentIsNotWaitedForBeyondTheWindow) {
  Slice* slice = request();
  recovery_.add(a_, slice, Code::kUnavailable);
  host_.advance(2'000);
  host_.answer("a", away_);
  host_.advance(999);
  EXPECT_EQ(host_.asked["a"], 2);
  EXPECT_TRUE(owner_.ended.empty());
  host_.advance(1);
  EXPECT_EQ(code_of(slice), Code::kUnavailable);
  host_.answer("a", {});
  EXPECT_TRUE(owner_.posted.empty());
}

TEST_F(RecoveryTest, SlicesThatAreWantedBackLeaveWhileThePeerIsSilent) {
  Slice *overdue = request(), *cancelled = request(), *patient = request();
  for (Slice* slice : {overdue, cancelled, patient}) {
    recovery_.add(a_, slice, Code::kUnavailable);
  }
  host_.advance(10);
  EXPECT_EQ(host_.asked["a"], 1) << "once for all";
  cancel(overdue);
  cancel(cancelled, Code::kCancelled);
  recovery_.sweep();
  EXPECT_EQ(owner_.ended.size(), 2u);
  EXPECT_EQ(code_of(overdue), Code::kCancelled);
  EXPECT_EQ(code_of(cancelled), Code::kCancelled);
  recovery_.sweep();
  host_.answer("a", {});
  EXPECT_EQ(owner_.posted, std::vector<Slice*>{patient});
}

TEST_F(RecoveryTest, SilentPeersDelayNoOther) {
  host_.answers["b"] = {};
  for (int i = 0; i < 256; ++i) {
    recovery_.add(segment("silent " + std::to_string(i)), request(), Code::kUnavailable);
  }
  host_.advance(1);
  Slice* healthy = request();
  recovery_.add(b_, healthy, Code::kUnavailable);
  host_.advance(0);
  EXPECT_EQ(owner_.posted, std::vector<Slice*>{healthy});
}

TEST_F(RecoveryTest, WhatTheSegmentDoesNotOfferFailsOnceItsEngineSaidSo) {
  host_.answers["a"] = {};
  owner_.outcome = SliceOwner::Outcome::kNotOffered;
  Slice* slice = request();
  recovery_.add(a_, slice, Code::kStale);
  host_.advance(0);
  EXPECT_TRUE(fails_with(owner_.ended[slice].second, Code::kOutOfRange, "no such range"));
}

// A peer that offers something new while an older question is under way.
TEST_F(RecoveryTest, WhatCameAfterTheQuestionIsAskedForAnew) {
  Slice* first = request();
  recovery_.add(a_, first, Code::kOutOfRange);
  host_.advance(0);
  Slice* later = request();
  recovery_.add(a_, later, Code::kOutOfRange);
  owner_.outcome = SliceOwner::Outcome::kNotOffered;
  host_.answer("a", {});
  EXPECT_EQ(code_of(first), Code::kOutOfRange);
  EXPECT_EQ(code_of(later), Code::kOk) << "ended by an answer from before it came";
  host_.advance(0);
  EXPECT_EQ(host_.asked["a"], 2) << "at once";
  owner_.outcome = SliceOwner::Outcome::kPosted;
  host_.answer("a", {});
  EXPECT_EQ(owner_.posted, std::vector<Slice*>{later});
}

TEST_F(RecoveryTest, WhatCameAfterTheQuestionLeavesWhenItIsWantedBack) {
  Slice* first = request();
  recovery_.add(a_, first, Code::kUnavailable);
  host_.advance(0);
  Slice* later = request();
  recovery_.add(a_, later, Code::kUnavailable);
  cancel(first);
  cancel(later);
  recovery_.sweep();
  EXPECT_EQ(code_of(first), Code::kCancelled);
  EXPECT_EQ(code_of(later), Code::kCancelled);
}

TEST_F(RecoveryTest, WhatCameAfterTheQuestionIsNotWaitedForBeyondTheWindow) {
  host_.answers["a"] = away_;
  Slice* first = request();
  recovery_.add(a_, first, Code::kUnavailable);
  host_.advance(0);
  host_.answers.clear();  // silent from here on
  host_.advance(10);
  Slice* later = request();
  recovery_.add(a_, later, Code::kUnavailable);
  host_.advance(static_cast<int64_t>(config_.retry_window_ms));
  EXPECT_EQ(code_of(first), Code::kUnavailable);
  EXPECT_EQ(code_of(later), Code::kUnavailable);
}

TEST_F(RecoveryTest, ARestartedPeerIsGivenTheWindowToOfferItAgain) {
  host_.answers["a"] = {};
  host_.restarted_at_ns = host_.now_ns() - 500 * kNsPerMs;
  owner_.outcome = SliceOwner::Outcome::kNotOffered;
  Slice *early = request(), *late = request();
  recovery_.add(a_, early, Code::kStale);
  host_.advance(1'000);
  EXPECT_TRUE(owner_.ended.empty());
  EXPECT_GE(host_.asked["a"], 10) << "so it is soon noticed";
  owner_.outcome = SliceOwner::Outcome::kPosted;
  host_.advance(50);
  EXPECT_EQ(owner_.posted, std::vector<Slice*>{early});
  owner_.outcome = SliceOwner::Outcome::kNotOffered;
  recovery_.add(a_, late, Code::kStale);
  host_.advance(1'400);
  EXPECT_TRUE(owner_.ended.empty());
  host_.advance(200);
  EXPECT_EQ(code_of(late), Code::kOutOfRange);
}

TEST_F(RecoveryTest, APathThatBreaksAgainAndAgainIsGivenUp) {
  host_.answers["a"] = {};
  Slice* slice = request();
  size_t rounds = 0;
  while (owner_.ended.empty() && rounds < 100) {
    recovery_.add(a_, slice, Code::kUnavailable);
    host_.advance(300);
    ++rounds;
  }
  EXPECT_EQ(owner_.posted.size(), 8u);
  EXPECT_EQ(code_of(slice), Code::kUnavailable);
}

TEST_F(RecoveryTest, NoWindowMeansToAskOnce) {
  config_.retry_window_ms = 0;
  Slice *found = request(), *lost = request();
  recovery_.add(a_, found, Code::kUnavailable);
  recovery_.add(b_, lost, Code::kUnavailable);
  host_.advance(1'000);
  EXPECT_TRUE(owner_.ended.empty()) << "nobody answered yet";
  host_.answer("a", {});
  host_.answer("b", away_);
  EXPECT_EQ(owner_.posted, std::vector<Slice*>{found});
  EXPECT_EQ(code_of(lost), Code::kUnavailable);
}

TEST_F(RecoveryTest, TheEndOfTheEngineEndsEverything) {
  Slice *before = request(), *after = request();
  recovery_.add(a_, before, Code::kUnavailable);
  host_.advance(1);
  recovery_.stop();
  EXPECT_EQ(code_of(before), Code::kCancelled);
  recovery_.add(b_, after, Code::kUnavailable);
  EXPECT_EQ(code_of(after), Code::kCancelled);
  host_.answer("a", {});
  EXPECT_TRUE(owner_.posted.empty());
}

}  // namespace
}  // namespace te::test
