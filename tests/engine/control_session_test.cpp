// What is answered on one connection of the control channel, byte by byte, without a socket.
#include "engine/control_session.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>

#include "base/log.h"
#include "tls/cluster.h"

namespace te::test {
namespace {

using wire::ControlHeader;
using wire::ControlType;

class FakeService final : public ControlService {
 public:
  std::shared_ptr<const Bytes> describe(const tls::Principal& peer) override {
    rights = rights_of(peer.permissions());
    return std::make_shared<const Bytes>("described");
  }
  uint64_t generation() override { return 7; }
  Status notified(wire::NotifyBody body) override {
    notifications.push_back(body.notification.message);
    return {};
  }
  Status exchange(wire::ExchangeBody body, Rights,
                  std::function<void(Result<Bytes>)> answered) override {
    if (body.transport == "refused") return Status(Code::kUnsupported, "no such transport");
    exchanges.push_back(std::move(answered));
    return {};
  }
  Bytes links() override { return "[1]"; }
  bool adopt(tls::Connection&, const wire::Hello&, std::shared_ptr<void>) override { return false; }

  Rights rights = Rights::kNone;  // of who asked last
  std::vector<std::string> notifications;
  std::vector<std::function<void(Result<Bytes>)>> exchanges;
};

struct Answered {
  ControlHeader header;
  std::string body;
};

class ControlSessionTest : public testing::Test {
 protected:
  static std::string request(ControlType type, uint64_t id, std::string_view body = {}) {
    ControlHeader header;
    header.type = type;
    header.id = id;
    header.length = body.size();
    const auto bytes = header.encode();
    return std::string(bytes.data(), bytes.size()).append(body);
  }
  static std::string describe_request(uint64_t id, uint64_t known) {
    std::string body(8, '\0');
    std::memcpy(body.data(), &known, 8);
    return request(ControlType::kDescribe, id, body);
  }
  std::unique_ptr<ControlSession> session(tls::Principal peer) {
    return std::make_unique<ControlSession>(
        service_, std::move(peer),
        [this](std::function<void()> task) { tasks_.push_back(std::move(task)); },
        [this] { ++resumed_; });
  }
  // As much as the session takes at once, `step` bytes each; then its next requests are handled.
  void arrive(std::string_view bytes, size_t step = SIZE_MAX) {
    while (!bytes.empty() && session_->may_receive()) {
      const auto got = session_->receive([&](char* to, size_t most) {
        const size_t count = std::min({bytes.size(), most, step});
        std::memcpy(to, bytes.data(), count);
        return static_cast<int64_t>(count);
      });
      bytes.remove_prefix(static_cast<size_t>(got));
      handle_all();
    }
    rest_ = bytes;
  }
  void handle_all() {
    while (session_->handle_next([this] { return ended_; })) take_answers();
  }
  void take_answers(size_t step = 5) {
    while (!session_->unsent().bytes.empty()) {
      const std::string_view next = session_->unsent().bytes.substr(0, step);
      out_.append(next);
      session_->sent(next.size());
    }
  }
  std::vector<Answered> answers() {
    take_answers();
    std::vector<Answered> result;
    while (out_.size() >= ControlHeader::kSize) {
      Result<ControlHeader> header =
          ControlHeader::decode(as_bytes(out_).first(ControlHeader::kSize));
      EXPECT_TRUE(header.ok());
      if (!header.ok()) break;
      result.push_back({*header, out_.substr(ControlHeader::kSize, header->length)});
      out_.erase(0, ControlHeader::kSize + header->length);
    }
    EXPECT_TRUE(out_.empty());
    return result;
  }
  void run_tasks() {
    while (!tasks_.empty()) {
      const std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      task();
    }
  }

  FakeService service_;
  std::deque<std::function<void()>> tasks_;
  int resumed_ = 0;
  bool ended_ = false;
  std::string out_;
  std::string_view rest_;  // what arrive() kept
  std::unique_ptr<ControlSession> session_ = session({});
};

TEST_F(ControlSessionTest, EachRequestIsAnsweredInOrderHoweverItsBytesArrive) {
  const std::string all = request(ControlType::kPing, 1, "ping") + describe_request(2, 0) +
                          describe_request(3, 7) + request(ControlType::kLinks, 4);
  for (const size_t step : {size_t{1}, size_t{7}, size_t{24}, all.size()}) {
    arrive(all, step);
    const std::vector<Answered> got = answers();
    ASSERT_EQ(got.size(), 4u) << step;
    const char* bodies[] = {"ping", "described", "", "[1]"};  // what is known is not sent again
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(got[i].header.type, ControlType::kAnswer);
      EXPECT_EQ(got[i].header.code, Code::kOk);
      EXPECT_EQ(got[i].header.id, i + 1);
      EXPECT_EQ(got[i].body, bodies[i]);
    }
    EXPECT_TRUE(session_->idle());
  }
}

TEST_F(ControlSessionTest, WhatItCannotUnderstandIsAnsweredWithAnError) {
  arrive(request(ControlType::kDescribe, 1, "short") + request(ControlType::kNotify, 2, "short") +
         request(ControlType::kExchange, 3, "s") + request(static_cast<ControlType>(99), 4) +
         request(ControlType::kExchange, 5, wire::ExchangeBody{"refused", "hello"}.encode()));
  const std::vector<Answered> got = answers();
  const Code codes[] = {Code::kProtocol, Code::kProtocol, Code::kProtocol, Code::kUnsupported,
                        Code::kUnsupported};
  ASSERT_EQ(got.size(), std::size(codes));
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].header.id, i + 1);
    EXPECT_EQ(got[i].header.code, codes[i]) << i << ": " << got[i].body;
    EXPECT_FALSE(got[i].body.empty());
  }
  EXPECT_FALSE(session_->broken());
  EXPECT_TRUE(service_.notifications.empty());
}

TEST_F(ControlSessionTest, WhatThePeerMayNotDoIsRefused) {
  const std::string all =
      request(ControlType::kPing, 1, "ping") + describe_request(2, 0) +
      request(ControlType::kNotify, 3, wire::NotifyBody{1, 1, {"name", "text"}}.encode()) +
      request(ControlType::kLinks, 4) +
      request(ControlType::kExchange, 5, wire::ExchangeBody{"any", "hello"}.encode());
  const auto codes = [&](tls::Permissions permissions) {
    session_ = session({"peer", permissions});
    arrive(all);
    while (!service_.exchanges.empty()) {
      service_.exchanges.back()(Bytes("answer"));
      service_.exchanges.pop_back();
    }
    run_tasks();
    std::vector<Code> result;
    for (const Answered& each : answers()) {
      result.push_back(each.header.code);
      EXPECT_EQ(each.body.find("tls_policy does not let 'peer'") != std::string::npos,
                each.header.code == Code::kPermission)
          << each.body;
    }
    return result;
  };
  constexpr Code kNo = Code::kPermission, kYes = Code::kOk;
  using tls::Permission;
  EXPECT_EQ(codes({}), (std::vector<Code>{kYes, kNo, kNo, kNo, kNo}));
  EXPECT_TRUE(service_.notifications.empty());
  EXPECT_EQ(codes({Permission::kOpen}), (std::vector<Code>{kYes, kYes, kNo, kNo, kYes}));
  EXPECT_EQ(service_.rights, Rights::kNone);
  EXPECT_EQ(codes({Permission::kOpen, Permission::kRead}),
            (std::vector<Code>{kYes, kYes, kNo, kNo, kYes}));
  EXPECT_EQ(service_.rights, Rights::kRead);
  EXPECT_EQ(codes({Permission::kNotify, Permission::kWrite}),
            (std::vector<Code>{kYes, kNo, kYes, kNo, kNo}));
  EXPECT_EQ(codes({Permission::kWatch}), (std::vector<Code>{kYes, kNo, kNo, kYes, kNo}));
  EXPECT_EQ(codes(tls::Permissions::all()), (std::vector<Code>{kYes, kYes, kYes, kYes, kYes}));
  EXPECT_EQ(service_.rights, Rights::kBoth);
}

// On its last connection the peer may have had other rights.
TEST_F(ControlSessionTest, WithTlsTheFirstDescriptionOfAConnectionIsWhole) {
  const Cluster cluster;
  const std::shared_ptr<tls::Identity> own = identity(cluster.member("a"));
  session_ = session(tls::Principal(own, own->current(), {"peer"}, true));
  arrive(describe_request(1, 7) + describe_request(2, 7));
  const std::vector<Answered> got = answers();
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].body, "described");
  EXPECT_EQ(got[1].body, "");
}

TEST_F(ControlSessionTest, AHeadThatIsNoneOrAsksForTooMuchBreaksIt) {
  arrive(std::string(ControlHeader::kSize, 'x'));
  EXPECT_TRUE(session_->broken());
  EXPECT_FALSE(session_->may_receive());
  session_ = std::make_unique<ControlSession>(
      service_, tls::Principal(), [](const std::function<void()>&) {}, [] {});
  ControlHeader header;
  header.length = ControlHeader::kMaxRequest + 1;
  const auto bytes = header.encode();
  arrive({bytes.data(), bytes.size()});
  EXPECT_TRUE(session_->broken());
  EXPECT_TRUE(answers().empty());
}

TEST_F(ControlSessionTest, NothingIsReadBeforeTheAnswerIsSent) {
  const std::string ping = request(ControlType::kPing, 1, "a");
  session_->answer("hello");
  EXPECT_FALSE(session_->may_receive());
  EXPECT_EQ(session_->unsent().bytes, "hello");
  session_->sent(2);
  EXPECT_EQ(session_->unsent().bytes, "llo");
  EXPECT_FALSE(session_->may_receive());
  session_->sent(3);
  EXPECT_TRUE(session_->idle());
  arrive(ping.substr(0, 10));
  EXPECT_FALSE(session_->idle());
  arrive(ping.substr(10));
  EXPECT_EQ(answers().size(), 1u);
  EXPECT_TRUE(session_->idle());
}

// Head and body are sent one after the other, as one packet where they fit.
TEST_F(ControlSessionTest, TheHeadSaysWhetherABodyFollows) {
  session_->answer("head", std::make_shared<const Bytes>("body"));
  EXPECT_TRUE(session_->unsent().more);
  session_->sent(4);
  EXPECT_EQ(session_->unsent().bytes, "body");
  EXPECT_FALSE(session_->unsent().more);
  session_->sent(4);
  session_->answer("head", std::make_shared<const Bytes>());
  EXPECT_FALSE(session_->unsent().more);
}

TEST_F(ControlSessionTest, ANotificationOfAPeerThatHasGoneIsNotTaken) {
  wire::NotifyBody body;
  body.notification = {"name", "kept"};
  arrive(request(ControlType::kNotify, 1, body.encode()));
  EXPECT_EQ(answers().at(0).header.code, Code::kOk);
  ended_ = true;
  arrive(request(ControlType::kNotify, 2, body.encode()));
  EXPECT_TRUE(session_->broken());
  EXPECT_EQ(service_.notifications, std::vector<std::string>{"kept"});
}

TEST_F(ControlSessionTest, AnExchangeHoldsUpWhatFollows) {
  const std::string hello = wire::ExchangeBody{"efa", "hello"}.encode();
  arrive(request(ControlType::kExchange, 1, hello) + request(ControlType::kPing, 2, "after"));
  EXPECT_TRUE(session_->waiting());
  EXPECT_TRUE(answers().empty());
  ASSERT_EQ(service_.exchanges.size(), 1u);
  service_.exchanges[0](Bytes("heard"));
  EXPECT_TRUE(answers().empty()) << "it is another thread's until the task runs";
  run_tasks();
  EXPECT_EQ(resumed_, 1);
  std::vector<Answered> got = answers();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].body, "heard");
  handle_all();
  got = answers();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].header.id, 2u);
  EXPECT_EQ(got[0].body, "after");
}

TEST_F(ControlSessionTest, AnExchangeThatFailsAnswersWithItsError) {
  arrive(request(ControlType::kExchange, 1, wire::ExchangeBody{"efa", "hello"}.encode()));
  service_.exchanges.at(0)(Status(Code::kBusy, "later"));
  run_tasks();
  const std::vector<Answered> got = answers();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].header.code, Code::kBusy);
  EXPECT_EQ(got[0].body, "later");
}

TEST_F(ControlSessionTest, AnAnswerThatComesWhenItIsGoneIsDropped) {
  arrive(request(ControlType::kExchange, 1, wire::ExchangeBody{"efa", "hello"}.encode()));
  session_.reset();
  service_.exchanges.at(0)(Bytes("late"));
  run_tasks();
  EXPECT_EQ(resumed_, 0);
}

}  // namespace
}  // namespace te::test
