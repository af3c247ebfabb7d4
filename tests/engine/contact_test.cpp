// The control channel between one engine and another that is slow, silent or gone, with a directory
// that hangs.
#include "engine/contact.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <latch>
#include <thread>

#include "engine/answer.h"
#include "engine/control_server.h"
#include "engine/pair.h"
#include "engine/raw_peer.h"
#include "support/hanging_directory.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

// The side that is called.
class Answering final : public ControlService {
 public:
  std::shared_ptr<const Bytes> describe(const tls::Principal&) override {
    return std::make_shared<const Bytes>("me");
  }
  uint64_t generation() override { return 1; }
  Status notified(wire::NotifyBody) override {
    ++notifications;
    return {};
  }
  Status exchange(wire::ExchangeBody, Rights, std::function<void(Result<Bytes>)>) override {
    return Status(Code::kUnsupported, "no");
  }
  // Keeps the loop until it may go on.
  Bytes links() override {
    in_links.count_down();
    may_go_on.wait();
    return "[]";
  }
  bool adopt(tls::Connection&, const wire::Hello&, std::shared_ptr<void>) override { return false; }

  std::atomic<int> notifications{0};
  std::latch in_links{1}, may_go_on{1};
};

constexpr uint64_t kInstance = 77;

class ContactTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(loop_->start().ok());
    ASSERT_TRUE(finder_.start().ok());
    serve();
  }
  void TearDown() override {
    directory_->hang(false);
    const auto closed = std::make_shared<Answer<bool>>();
    loop_->run([this, closed] {
      contact_->close(Status(Code::kCancelled, "the test ends"));
      registry_.close_all(Status(Code::kCancelled, "the test ends"));
      closed->set(true);
    });
    (void)closed->get();
    finder_.stop();
    loop_->stop();
  }

  void serve(uint16_t port = 0) {
    Result<std::unique_ptr<ControlServer>> started =
        ControlServer::start("127.0.0.1", port, kInstance, config_, service_);
    ASSERT_TRUE(started.ok()) << started.status().to_string();
    server_ = started.take();
    directory_->place = {"127.0.0.1", server_->port(), kInstance};
  }
  std::string endpoint() const { return join_host_port("127.0.0.1", server_->port()); }

  Result<std::shared_ptr<ControlClient>> get() {
    const auto answer = std::make_shared<Answer<Result<std::shared_ptr<ControlClient>>>>();
    loop_->run([this, answer] {
      contact_->get([answer](Result<std::shared_ptr<ControlClient>> found) {
        answer->set(std::move(found));
      });
    });
    return answer->get();
  }
  using Called = std::shared_ptr<Answer<Result<Bytes>>>;
  Called begin_call(const std::shared_ptr<ControlClient>& client, const Bytes& body,
                    int64_t deadline_ns = kNever) {
    auto answer = std::make_shared<Answer<Result<Bytes>>>();
    loop_->run([client, body, deadline_ns, answer] {
      client->call(wire::ControlType::kPing, body, deadline_ns,
                   [answer](Result<Bytes> bytes) { answer->set(std::move(bytes)); });
    });
    return answer;
  }

  Config config_;
  Answering service_;
  const std::shared_ptr<HangingDirectory> directory_ = std::make_shared<HangingDirectory>();
  const std::unique_ptr<EventLoop> loop_ = EventLoop::create("te-test").take();
  ControlClient::Registry registry_;
  Finder finder_{*loop_, directory_};
  const ContactSite site_{*loop_, registry_, finder_, 5, milliseconds(2'000)};
  const std::shared_ptr<Contact> contact_ = std::make_shared<Contact>(site_, "the name");
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ContactTest, CallsAreAnsweredInOrderWithoutWaitingForEachOther) {
  const Result<std::shared_ptr<ControlClient>> client = get();
  ASSERT_TRUE(client.ok()) << client.status().to_string();
  EXPECT_EQ(client.value()->peer_instance(), kInstance);
  std::vector<Called> calls;
  for (int i = 0; i < 300; ++i) calls.push_back(begin_call(*client, Bytes(1'000, 'a' + i % 26)));
  const Bytes large(1 << 20, 'x');
  calls.push_back(begin_call(*client, large));
  for (int i = 0; i < 300; ++i) EXPECT_EQ(*calls[i]->get(), Bytes(1'000, 'a' + i % 26));
  EXPECT_EQ(*calls.back()->get(), large);
  EXPECT_EQ(get().value(), *client) << "one connection for all";
}

TEST_F(ContactTest, AnEngineIsFoundWhereItWasWhileTheDirectoryHangs) {
  const Result<std::shared_ptr<ControlClient>> first = get();
  ASSERT_TRUE(first.ok()) << first.status().to_string();
  directory_->hang(true);
  const uint16_t port = server_->port();
  server_.reset();
  serve(port);
  ASSERT_TRUE(eventually(
      [&] { return begin_call(*first, "x")->get().status().code() == Code::kUnavailable; }));
  const Stopwatch watch;
  const Result<std::shared_ptr<ControlClient>> again = get();
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_NE(*again, *first);
  EXPECT_LT(watch.ms(), 1'500);
  EXPECT_EQ(begin_call(*again, "there")->get().value(), "there");
}

TEST_F(ContactTest, AnEngineThatMovedIsFoundByItsName) {
  ASSERT_TRUE(get().ok());
  server_.reset();
  serve();
  ASSERT_TRUE(eventually([&] {
    const Result<std::shared_ptr<ControlClient>> client = get();
    return client.ok() && begin_call(*client, "there")->get().ok();
  }));
  EXPECT_EQ(contact_->locator().port, server_->port());
}

// What was asked on it before is told that the connection was lost.
TEST_F(ContactTest, ACallThatIsNotAnsweredInTimeEndsTheConnection) {
  const Result<std::shared_ptr<ControlClient>> client = get();
  ASSERT_TRUE(client.ok()) << client.status().to_string();
  RawConnection other(endpoint());
  ASSERT_TRUE(other.send(control_hello() + control_request(wire::ControlType::kLinks, "", 0)));
  service_.in_links.wait();  // nobody is answered from here on
  const Called patient = begin_call(*client, "patient");
  const Stopwatch watch;
  const Called hurried = begin_call(*client, "hurried", now_ns() + 100 * kNsPerMs);
  EXPECT_TRUE(
      fails_with(hurried->get(), Code::kTimeout,
                 fmt::format("no answer from 127.0.0.1:{} before the deadline", server_->port())));
  EXPECT_GE(watch.ms(), 99);
  EXPECT_EQ(patient->get().code(), Code::kUnavailable);
  service_.may_go_on.count_down();
  EXPECT_TRUE(get().ok());
}

// Its sender reports that it failed.
TEST_F(ContactTest, ANotificationOnAConnectionThatEndedIsDropped) {
  const Bytes body = wire::NotifyBody{1, 2, {"name", "message"}}.encode();
  const std::string request = control_request(wire::ControlType::kNotify, body, body.size());
  RawConnection kept(endpoint()), ended(endpoint()), other(endpoint());
  for (RawConnection* each : {&kept, &ended}) {
    ASSERT_TRUE(each->send(control_hello()));
    ASSERT_EQ(each->receive(wire::HelloAnswer::kSize).size(), wire::HelloAnswer::kSize);
  }
  ASSERT_TRUE(other.send(control_hello() + control_request(wire::ControlType::kLinks, "", 0)));
  service_.in_links.wait();
  ASSERT_TRUE(ended.send(request));
  ended.close();
  std::this_thread::sleep_for(milliseconds(50));  // on its way to the other end of this machine
  service_.may_go_on.count_down();
  ASSERT_TRUE(kept.send(request));
  ASSERT_EQ(kept.receive(wire::ControlHeader::kSize).size(), wire::ControlHeader::kSize);
  EXPECT_EQ(service_.notifications.load(), 1);
}

}  // namespace
}  // namespace te::test
