// Notifications in virtual time: no network, no thread, no clock.
#include "engine/notifier.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>

#include "base/clock.h"
#include "engine/pair.h"
#include "support/virtual_time.h"

namespace te::test {
namespace {

constexpr uint64_t kInstance = 77;

// A connection that keeps what is sent until the test answers.
class FakeChannel final : public ControlChannel {
 public:
  void call(wire::ControlType type, std::string_view body, int64_t, Answered answered) override {
    EXPECT_EQ(type, wire::ControlType::kNotify);
    if (!up) return answered(Status(Code::kUnavailable, "closed"));
    Result<wire::NotifyBody> decoded = wire::NotifyBody::decode(body);
    ASSERT_TRUE(decoded.ok());
    sent.push_back(decoded.take());
    open.push_back(std::move(answered));
  }
  void close(const Status& why) override {
    up = false;
    ++closed;
    std::deque<Answered> ended;
    ended.swap(open);
    for (const Answered& each : ended) each(why);
  }
  bool usable() const override { return up; }
  uint64_t peer_instance() const override { return instance; }
  const SocketAddress& address() const override { return address_; }

  void answer(const Result<Bytes>& answer) {
    ASSERT_FALSE(open.empty());
    const Answered answered = std::move(open.front());
    open.pop_front();
    answered(answer);
  }

  bool up = true;
  int closed = 0;
  uint64_t instance = kInstance;
  std::vector<wire::NotifyBody> sent;
  std::deque<Answered> open;

 private:
  SocketAddress address_;
};

class FakeHost final : public NotifierHost, public VirtualTime {
 public:
  int64_t now_ns() override { return now_ms * kNsPerMs; }
  bool run_after(int64_t delay_ms, std::function<void()> task) override {
    if (ended) return false;
    run_at(now_ms + delay_ms, std::move(task));
    return true;
  }
  void connect(const std::shared_ptr<Segment>& segment, Found found) override {
    ++asked[segment->name];
    if (holds.contains(segment->name)) {
      held[segment->name].push_back(std::move(found));
    } else if (channels.contains(segment->name)) {
      found(std::shared_ptr<ControlChannel>(channels[segment->name]));
    } else {
      found(Status(Code::kUnavailable, "nobody is there"));
    }
  }

  bool ended = false;
  std::map<std::string, std::shared_ptr<FakeChannel>> channels;
  std::map<std::string, int> asked;
  std::map<std::string, bool> holds;  // connecting does not end
  std::map<std::string, std::vector<Found>> held;
};

class NotifierTest : public testing::Test {
 protected:
  struct Sent {
    Notification notification;
    std::atomic<Code> cancel{Code::kOk};
    int ends = 0;
    Status end;
  };

  NotifierTest() { host_.channels["a"] = channel_; }
  ~NotifierTest() override {
    notifier_.stop();
    host_.advance(100'000);
    for (const std::unique_ptr<Sent>& each : sent_) EXPECT_EQ(each->ends, 1);
    // What a channel has not answered keeps the channel.
    for (const auto& [name, channel] : host_.channels) channel->open.clear();
  }

  std::shared_ptr<Segment> segment(const std::string& name) {
    return std::make_shared<Segment>(name, *loop_, nullptr);
  }
  Sent& send(const std::shared_ptr<Segment>& to, const std::string& text, int64_t timeout_ms = -1,
             uint64_t instance = 0) {
    sent_.push_back(std::make_unique<Sent>());
    Sent& made = *sent_.back();
    made.notification = {"name", text};
    Notifier::Message message;
    message.segment = to;
    message.instance = instance;
    message.notification = &made.notification;
    message.cancel = &made.cancel;
    message.retry_until_ns = (host_.now_ms + 1'000) * kNsPerMs;
    message.timeout_ms = timeout_ms;
    message.done = [&made](Status status) {
      ++made.ends;
      made.end = std::move(status);
    };
    notifier_.send(std::move(message));
    host_.advance(0);
    return made;
  }
  std::string texts(const FakeChannel& channel) {
    std::string all;
    for (const wire::NotifyBody& each : channel.sent) all += each.notification.message;
    return all;
  }

  const std::unique_ptr<EventLoop> loop_ = EventLoop::create("te-test").take();  // never started
  FakeHost host_;
  const std::shared_ptr<FakeChannel> channel_ = std::make_shared<FakeChannel>();
  std::vector<std::unique_ptr<Sent>> sent_;
  Notifier notifier_{5, host_};
  const std::shared_ptr<Segment> a_ = segment("a"), b_ = segment("b");
};

TEST_F(NotifierTest, SomeAreUnderWayAtOnceAndEndByTheirOwnAnswers) {
  Sent& first = send(a_, "1");
  Sent& second = send(a_, "2");
  Sent& third = send(a_, "3");
  EXPECT_EQ(texts(*channel_), "123");
  channel_->answer(Bytes());
  EXPECT_EQ(first.ends, 1);
  EXPECT_TRUE(first.end.ok());
  channel_->answer(Status(Code::kBusy, "full"));
  EXPECT_EQ(second.end.code(), Code::kBusy) << "the peer's own word is final";
  EXPECT_EQ(third.ends, 0);
  channel_->answer(Bytes());
  EXPECT_TRUE(third.end.ok());
  EXPECT_EQ(channel_->sent.size(), 3u);
  EXPECT_EQ(channel_->sent[0].sender, 5u);
  EXPECT_LT(channel_->sent[0].sequence, channel_->sent[1].sequence);
}

TEST_F(NotifierTest, NoMoreThanAWindowIsUnderWay) {
  for (int i = 0; i < 40; ++i) send(a_, "x");
  EXPECT_EQ(channel_->sent.size(), 32u);
  channel_->answer(Bytes());
  host_.advance(0);
  EXPECT_EQ(channel_->sent.size(), 33u);
}

TEST_F(NotifierTest, OneThatExpiresIsTakenBackFromTheMiddle) {
  Sent& first = send(a_, "1");
  Sent& second = send(a_, "2", 50);
  Sent& third = send(a_, "3");
  host_.channels["a"] = std::make_shared<FakeChannel>();
  host_.advance(49);
  EXPECT_EQ(second.ends, 0);
  host_.advance(1);
  EXPECT_EQ(second.end.code(), Code::kTimeout);
  EXPECT_EQ(second.end.message(),
            "the target did not acknowledge it within 50 ms (2 * connect_timeout_ms); it may have "
            "it");
  EXPECT_EQ(channel_->closed, 1) << "what was not sent must not leave any more";
  host_.advance(10);
  // The others go again, on a new connection, with their numbers.
  EXPECT_EQ(texts(*host_.channels["a"]), "13");
  EXPECT_EQ(host_.channels["a"]->sent[1].sequence, channel_->sent[2].sequence);
  host_.channels["a"]->answer(Bytes());
  host_.channels["a"]->answer(Bytes());
  EXPECT_TRUE(first.end.ok() && third.end.ok());
  EXPECT_EQ(second.ends, 1);
}

TEST_F(NotifierTest, OneThatWasAnsweredDoesNotExpire) {
  Sent& first = send(a_, "1", 50);
  channel_->answer(Bytes());
  EXPECT_EQ(first.ends, 1);
  host_.advance(1'000);
  EXPECT_EQ(first.ends, 1);
  EXPECT_EQ(channel_->closed, 0);
}

TEST_F(NotifierTest, OneThatExpiresBeforeItWasSentDisturbsNoOther) {
  host_.holds["a"] = true;
  Sent& first = send(a_, "1", 50);
  Sent& second = send(a_, "2");
  host_.advance(60);
  EXPECT_EQ(first.end.code(), Code::kTimeout);
  host_.held["a"].front()(std::shared_ptr<ControlChannel>(channel_));
  EXPECT_EQ(texts(*channel_), "2");
  EXPECT_EQ(channel_->closed, 0);
  channel_->answer(Bytes());
  EXPECT_TRUE(second.end.ok());
}

TEST_F(NotifierTest, APeerThatIsAwayIsTriedAgainAndDelaysNoOther) {
  host_.channels["b"] = std::make_shared<FakeChannel>();
  host_.channels.erase("a");
  Sent& away = send(a_, "1");
  Sent& there = send(b_, "2");
  host_.channels["b"]->answer(Bytes());
  EXPECT_TRUE(there.end.ok());
  host_.advance(999);
  EXPECT_EQ(away.ends, 0);
  EXPECT_GT(host_.asked["a"], 3);
  EXPECT_LT(host_.asked["a"], 20) << "without a pause";
  host_.advance(300);
  EXPECT_TRUE(fails_with(away.end, Code::kUnavailable, "nobody is there"));
}

TEST_F(NotifierTest, AConnectionThatIsLostIsReplacedOnceAtLeast) {
  Sent& first = send(a_, "1");
  host_.advance(5'000);  // no more than the retry window is over
  host_.channels["a"] = std::make_shared<FakeChannel>();
  channel_->close(Status(Code::kUnavailable, "lost"));
  host_.advance(0);
  EXPECT_EQ(texts(*host_.channels["a"]), "1");
  host_.channels["a"]->close(Status(Code::kUnavailable, "lost again"));
  EXPECT_TRUE(fails_with(first.end, Code::kUnavailable, "lost again"));
}

TEST_F(NotifierTest, AnotherRunOfThePeerGetsNothing) {
  Sent& other = send(a_, "1", -1, kInstance + 1);
  EXPECT_EQ(other.end.code(), Code::kStale);
  Sent& same = send(a_, "2", -1, kInstance);
  EXPECT_EQ(texts(*channel_), "2");
  channel_->answer(Bytes());
  EXPECT_TRUE(same.end.ok());
}

TEST_F(NotifierTest, SweepingEndsThoseThatAreCancelled) {
  Sent& first = send(a_, "1");
  Sent& second = send(a_, "2");
  host_.channels["a"] = std::make_shared<FakeChannel>();
  first.cancel = Code::kTimeout;
  notifier_.sweep();
  EXPECT_EQ(first.end.code(), Code::kTimeout);
  host_.advance(0);
  EXPECT_EQ(channel_->closed, 1);
  host_.advance(10);
  EXPECT_EQ(texts(*host_.channels["a"]), "2");
  host_.channels["a"]->answer(Bytes());
  EXPECT_TRUE(second.end.ok());
}

TEST_F(NotifierTest, AfterTheEndEverythingIsCancelled) {
  Sent& first = send(a_, "1");
  notifier_.stop();
  EXPECT_EQ(first.end.code(), Code::kCancelled);
  EXPECT_EQ(send(a_, "2").end.code(), Code::kCancelled);
  channel_->answer(Bytes());  // nobody waits for it any more
  EXPECT_EQ(first.ends, 1);
}

TEST_F(NotifierTest, ALoopThatEndedCancelsToo) {
  host_.ended = true;
  EXPECT_EQ(send(a_, "1").end.code(), Code::kCancelled);
}

}  // namespace
}  // namespace te::test
