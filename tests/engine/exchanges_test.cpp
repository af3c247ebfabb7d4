// What transports tell each other over the control channel: a transport that only answers, between
// two halves of engines with everything real below it.
#include "engine/exchanges.h"

#include <gtest/gtest.h>

#include <semaphore>
#include <thread>

#include "engine/control_server.h"
#include "engine/pair.h"
#include "engine/raw_peer.h"
#include "transport/fakes.h"

namespace te::test {
namespace {

using namespace std::string_literals;

class Answering final : public NullTransport {
 public:
  std::string_view name() const override { return "answering"; }
  Capabilities capabilities() const override {
    Capabilities all = NullTransport::capabilities();
    all.checks_rights = checks_rights;
    return all;
  }
  Result<Bytes> accept(const Bytes& hello, Rights) override {
    ++calls;
    most_at_once = std::max(most_at_once.load(), ++at_once);
    Result<Bytes> answer = behaviour(hello);
    --at_once;
    return answer;
  }

  std::function<Result<Bytes>(const Bytes&)> behaviour = [](const Bytes& hello) {
    return "heard " + hello;
  };
  std::atomic<int> calls{0}, at_once{0}, most_at_once{0};
  std::atomic<bool> checks_rights{false};
};

// The parts of an engine that an exchange passes through.
class Side final : public ControlService, public TransportHost {
 public:
  explicit Side(uint64_t instance, uint16_t port = 0) : instance_(instance) {
    EXPECT_TRUE(loop->start().ok());
    config.connect_timeout_ms = 5'000;
    segments.set_local_name("here");
    Result<std::unique_ptr<ControlServer>> started =
        ControlServer::start("127.0.0.1", port, instance, config, *this);
    EXPECT_TRUE(started.ok()) << started.status().to_string();
    if (started.ok()) server = started.take();
  }
  ~Side() override {
    server->stop();
    segments.stop();
    exchanges.stop();
  }

  std::shared_ptr<const Bytes> describe(const tls::Principal& peer) override {
    return memory.encoded_descriptor(rights_of(peer.permissions()));
  }
  uint64_t generation() override { return memory.generation(); }
  Status notified(wire::NotifyBody) override { return {}; }
  Status exchange(wire::ExchangeBody body, Rights rights, Answered answered) override {
    return exchanges.accept(std::move(body), rights, std::move(answered));
  }
  bool adopt(tls::Connection&, const wire::Hello&, std::shared_ptr<void>) override { return false; }

  void done(Slice*, Code) override { ADD_FAILURE() << "nothing was posted"; }
  uint64_t instance() const override { return instance_; }
  void exchange(const Peer& peer, std::string_view name, Bytes hello, Answered answered) override {
    exchanges.ask(peer, name, std::move(hello), std::move(answered));
  }
  void fence(const Peer&, std::string_view, Bytes) override { ADD_FAILURE() << "no WRITE"; }

  std::string endpoint() const { return join_host_port("127.0.0.1", server->port()); }
  void open(const Side& other) {
    const Result<SegmentId> id = segments.open(other.endpoint(), false);
    EXPECT_TRUE(id.ok()) << id.status().to_string();
  }

 private:
  const uint64_t instance_;

 public:
  Config config;
  std::shared_ptr<Directory> directory = open_directory("P2PHANDSHAKE", {}).take();
  Transports transports{*this, config, {}};
  Memory memory{instance_, config, transports};
  const std::unique_ptr<EventLoop> loop = EventLoop::create("te-test").take();
  Segments segments{instance_, config, directory, memory, transports, *loop};
  const std::shared_ptr<Answering> transport = std::make_shared<Answering>();
  const std::shared_ptr<NullTransport> silent = std::make_shared<NullTransport>();
  Exchanges exchanges{instance_, segments,
                      [this](std::string_view name) -> std::shared_ptr<Transport> {
                        if (name == transport->name()) return transport;
                        return name == silent->name() ? silent : nullptr;
                      }};
  std::unique_ptr<ControlServer> server;
};

// One exchange that was begun.
class Asked {
 public:
  Asked(Side& from, uint64_t instance, std::string_view transport, Bytes hello) {
    Peer peer;
    peer.instance = instance;
    from.exchange(peer, transport, std::move(hello), [state = state_](Result<Bytes> answer) {
      MutexLock lock(state->mutex);
      EXPECT_FALSE(state->answer) << "answered twice";
      state->answer = std::move(answer);
      state->thread = std::this_thread::get_id();
      state->changed.notify_all();
    });
  }
  Result<Bytes> answer() {
    MutexLock lock(state_->mutex);
    const auto until = std::chrono::steady_clock::now() + kPatience;
    while (!state_->answer) {
      if (!state_->changed.wait_until(state_->mutex, until)) {
        return Status(Code::kInternal, "no answer comes");
      }
    }
    EXPECT_NE(state_->thread, std::this_thread::get_id());
    return *state_->answer;
  }

 private:
  struct State {
    Mutex mutex;
    CondVar changed;
    std::optional<Result<Bytes>> answer TE_GUARDED_BY(mutex);
    std::thread::id thread TE_GUARDED_BY(mutex);
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

class ExchangesTest : public testing::Test {
 protected:
  ExchangesTest() { here_.open(there_); }
  Result<Bytes> ask(Bytes hello, std::string_view transport = "answering", uint64_t peer = 22) {
    return Asked(here_, peer, transport, std::move(hello)).answer();
  }

  Side here_{11}, there_{22};
};

TEST_F(ExchangesTest, AHelloReachesThePeersTransportAndItsAnswerComesBack) {
  for (const Bytes& hello : {""s, "a"s, "nul \0 and \xff"s}) {
    const Result<Bytes> answer = ask(hello);
    ASSERT_TRUE(answer.ok()) << answer.status().to_string();
    EXPECT_EQ(*answer, "heard " + hello);
  }
  there_.transport->behaviour = [](const Bytes& hello) { return hello; };
  const Bytes largest(wire::kMaxExchange, 'x');
  const Result<Bytes> answer = ask(largest);
  ASSERT_TRUE(answer.ok()) << answer.status().to_string();
  EXPECT_EQ(*answer, largest);
  EXPECT_EQ(there_.transport->calls, 4);
  EXPECT_EQ(here_.transport->calls, 0);
  EXPECT_EQ(*ask("self", "answering", 11), "heard self") << "this engine itself";
}

TEST_F(ExchangesTest, RefusalsSayWhy) {
  EXPECT_TRUE(fails_with(ask("x", "no such"), Code::kUnsupported, "installed"));
  EXPECT_TRUE(fails_with(ask("x", "no such"), Code::kUnsupported, there_.endpoint()));
  EXPECT_TRUE(fails_with(ask("x", "null"), Code::kUnsupported, "takes no exchanges"));
  EXPECT_TRUE(fails_with(ask("x", "answering", 23), Code::kNotFound, "0x17"));
  EXPECT_TRUE(fails_with(ask(Bytes(wire::kMaxExchange + 1, 'x')), Code::kInvalidArgument, "large"));
  EXPECT_TRUE(fails_with(ask("x", std::string(65, 'n')), Code::kInvalidArgument, "large"));
  EXPECT_TRUE(fails_with(ask("x", ""), Code::kProtocol, "understood"));
  EXPECT_EQ(there_.transport->calls, 0);
  there_.transport->behaviour = [](const Bytes&) { return Status(Code::kPermission, "not you"); };
  EXPECT_TRUE(fails_with(ask("x"), Code::kPermission, "not you"));
  there_.transport->behaviour = [](const Bytes&) { return Bytes(wire::kMaxExchange + 1, 'x'); };
  EXPECT_TRUE(fails_with(ask("x"), Code::kInternal, "65537"));
  there_.transport->behaviour = [](const Bytes&) { return "fine"s; };
  EXPECT_EQ(*ask("x"), "fine") << "the connection goes on after each of them";
}

TEST(Exchanges, AnotherRunOfThePeerIsNotAsked) {
  Side here(11);
  auto first = std::make_unique<Side>(22);
  here.open(*first);
  const uint16_t port = first->server->port();
  EXPECT_TRUE(Asked(here, 22, "answering", "x").answer().ok());
  first.reset();
  EXPECT_EQ(Asked(here, 22, "answering", "x").answer().code(), Code::kUnavailable);
  Side second(33, port);
  EXPECT_TRUE(fails_with(Asked(here, 22, "answering", "x").answer(), Code::kStale, "another run"));
  EXPECT_EQ(second.transport->calls, 0);
  EXPECT_TRUE(Asked(here, 33, "answering", "x").answer().ok()) << "the segment follows the peer";
}

TEST_F(ExchangesTest, AClosedSegmentServesAsLongAsTransfersHoldIt) {
  const SegmentId id = *here_.segments.open(there_.endpoint(), false);
  std::shared_ptr<Segment> held = here_.segments.find(id);
  ASSERT_TRUE(here_.segments.close(id).ok());
  ASSERT_TRUE(here_.segments.close(id).ok());
  EXPECT_EQ(here_.segments.find(id), nullptr);
  EXPECT_TRUE(ask("x").ok());
  held.reset();
  EXPECT_EQ(ask("x").code(), Code::kNotFound);
}

TEST_F(ExchangesTest, EnginesThatAskEachOtherDoNotWaitForEachOther) {
  there_.open(here_);
  std::vector<Asked> asked;
  for (int i = 0; i < 40; ++i) {
    asked.emplace_back(here_, 22, "answering", std::to_string(i));
    asked.emplace_back(there_, 11, "answering", std::to_string(i));
  }
  for (size_t i = 0; i < asked.size(); ++i) {
    const Result<Bytes> answer = asked[i].answer();
    ASSERT_TRUE(answer.ok()) << answer.status().to_string();
    EXPECT_EQ(*answer, "heard " + std::to_string(i / 2));
  }
}

TEST_F(ExchangesTest, APeerThatDoesNotAnswerDelaysNoOther) {
  Side other(33);
  here_.open(other);
  std::counting_semaphore<> go(0);
  there_.transport->behaviour = [&go](const Bytes& hello) {
    go.acquire();
    return hello;
  };
  std::vector<Asked> asked;
  for (int i = 0; i < 40; ++i) asked.emplace_back(here_, 22, "answering", "x");
  EXPECT_TRUE(eventually([&] { return there_.transport->calls == 1; }));
  EXPECT_EQ(*ask("y", "answering", 33), "heard y");
  EXPECT_EQ(there_.transport->calls, 1);
  go.release(40);
  for (Asked& each : asked) EXPECT_TRUE(each.answer().ok());
}

TEST_F(ExchangesTest, WorkOfPeersIsBounded) {
  std::counting_semaphore<> go(0);
  there_.transport->behaviour = [&go](const Bytes& hello) {
    go.acquire();
    return hello;
  };
  std::atomic<size_t> answered{0};
  const auto count = [&answered](const Result<Bytes>& answer) {
    if (answer.ok()) ++answered;
  };
  for (size_t i = 0; i < Exchanges::kMaxAccepts; ++i) {
    ASSERT_TRUE(there_.exchanges.accept({"answering", "x"}, Rights::kBoth, count).ok()) << i;
  }
  EXPECT_TRUE(fails_with(ask("x"), Code::kBusy, "try again later"));
  EXPECT_TRUE(fails_with(there_.exchanges.accept({"answering", "x"}, Rights::kBoth, count),
                         Code::kBusy, ""));
  go.release(Exchanges::kMaxAccepts + 1);
  EXPECT_TRUE(eventually([&] { return answered == Exchanges::kMaxAccepts; })) << answered;
  EXPECT_TRUE(ask("x").ok());
  EXPECT_LE(there_.transport->most_at_once, 2);
}

// A NIC knows keys, and not whose they are.
TEST_F(ExchangesTest, ATransportThatDoesNotCheckRightsIsForThoseWhoHaveBoth) {
  Status refused;
  const auto take = [&refused](const Result<Bytes>& answer) { refused = answer.status(); };
  for (const Rights rights : {Rights::kNone, Rights::kRead, Rights::kWrite}) {
    refused = {};
    ASSERT_TRUE(there_.exchanges.accept({"answering", "x"}, rights, take).ok());
    EXPECT_TRUE(eventually([&] { return !refused.ok(); }));
    EXPECT_TRUE(fails_with(refused, Code::kPermission, "may READ and WRITE"));
  }
  EXPECT_EQ(there_.transport->calls, 0);
  there_.transport->checks_rights = true;
  std::atomic<bool> answered{false};
  ASSERT_TRUE(there_.exchanges
                  .accept({"answering", "x"}, Rights::kRead,
                          [&answered](const Result<Bytes>& answer) { answered = answer.ok(); })
                  .ok());
  EXPECT_TRUE(eventually([&] { return answered.load(); }));
}

std::string request(wire::ControlType type, uint64_t id, const Bytes& body) {
  wire::ControlHeader header;
  header.type = type;
  header.id = id;
  header.length = body.size();
  return encoded(header) + body;
}

// The header of the next answer, and its body in `*body`.
wire::ControlHeader next_answer(RawConnection& connection, Bytes* body) {
  const Result<wire::ControlHeader> header =
      wire::ControlHeader::decode(as_bytes(connection.receive(wire::ControlHeader::kSize)));
  EXPECT_TRUE(header.ok());
  if (!header.ok()) return {};
  *body = connection.receive(header->length);
  return *header;
}

RawConnection control_connection(const std::string& endpoint) {
  RawConnection connection(endpoint);
  EXPECT_TRUE(connection.send(control_hello()));
  EXPECT_EQ(connection.receive(wire::HelloAnswer::kSize).size(), wire::HelloAnswer::kSize);
  return connection;
}

TEST_F(ExchangesTest, AConnectionHasOneAtATimeAndIsAnsweredInOrder) {
  RawConnection connection = control_connection(there_.endpoint());
  std::string all;
  for (uint64_t id = 1; id <= 40; ++id) {
    const bool ping = id % 4 == 0;
    const Bytes text = std::to_string(id);
    all += request(ping ? wire::ControlType::kPing : wire::ControlType::kExchange, id,
                   ping ? text : wire::ExchangeBody{"answering", text}.encode());
  }
  ASSERT_TRUE(connection.send(all));
  for (uint64_t id = 1; id <= 40; ++id) {
    Bytes body;
    const wire::ControlHeader header = next_answer(connection, &body);
    EXPECT_EQ(header.id, id);
    EXPECT_EQ(header.code, Code::kOk);
    EXPECT_EQ(body, (id % 4 == 0 ? "" : "heard ") + std::to_string(id));
  }
  EXPECT_EQ(there_.transport->most_at_once, 1);
}

TEST_F(ExchangesTest, APeerThatLeavesBeforeItsAnswerHarmsNobody) {
  std::counting_semaphore<> go(0);
  there_.transport->behaviour = [&go](const Bytes& hello) {
    if (hello == "leaving") go.acquire();
    return hello;
  };
  constexpr int kRounds = 20;
  for (int i = 1; i <= kRounds; ++i) {
    RawConnection connection = control_connection(there_.endpoint());
    ASSERT_TRUE(connection.send(request(wire::ControlType::kExchange, 1,
                                        wire::ExchangeBody{"answering", "leaving"}.encode())));
    ASSERT_TRUE(eventually([&] { return there_.transport->calls == i; }));
    connection.close();
    go.release();
    ASSERT_TRUE(eventually([&] { return there_.transport->at_once == 0; }));
  }
  EXPECT_EQ(*ask("x"), "x");
}

TEST_F(ExchangesTest, HostileBodiesAreRefusedWithoutATransport) {
  RawConnection connection = control_connection(there_.endpoint());
  const Bytes good = wire::ExchangeBody{"answering", "x"}.encode();
  const std::vector<Bytes> bad = {
      "",
      good.substr(0, good.size() - 1),
      good + "x",
      wire::ExchangeBody{"", "x"}.encode(),
      wire::ExchangeBody{std::string(65, 'n'), "x"}.encode(),
      wire::ExchangeBody{"answering", Bytes(wire::kMaxExchange + 1, 'x')}.encode(),
      Bytes(600, '\xff')};
  for (const Bytes& body : bad) {
    ASSERT_TRUE(connection.send(request(wire::ControlType::kExchange, 7, body)));
    Bytes text;
    EXPECT_EQ(next_answer(connection, &text).code, Code::kProtocol) << text;
  }
  EXPECT_EQ(there_.transport->calls, 0);
  ASSERT_TRUE(connection.send(request(wire::ControlType::kExchange, 8, good)));
  Bytes answer;
  EXPECT_EQ(next_answer(connection, &answer).code, Code::kOk);
  EXPECT_EQ(answer, "heard x");
}

TEST_F(ExchangesTest, TheEndAnswersEverything) {
  std::counting_semaphore<> go(0);
  there_.transport->behaviour = [&go](const Bytes& hello) {
    go.acquire();
    return hello;
  };
  std::vector<Asked> asked;
  for (int i = 0; i < 12; ++i) asked.emplace_back(here_, 22, "answering", "x");
  ASSERT_TRUE(eventually([&] { return there_.transport->calls == 1; }));
  here_.exchanges.begin_stop();
  go.release(100);
  here_.exchanges.stop();
  int ok = 0, cancelled = 0;
  for (Asked& each : asked) {
    const Result<Bytes> answer = each.answer();
    ++(answer.ok() ? ok : cancelled);
    EXPECT_TRUE(answer.ok() || answer.code() == Code::kCancelled) << answer.status().to_string();
  }
  EXPECT_GE(ok, 1);
  EXPECT_GE(cancelled, 8);
  EXPECT_EQ(here_.exchanges.accept({"answering", "x"}, Rights::kBoth, nullptr).code(),
            Code::kCancelled);
}

TEST(Exchanges, AWholeEngineAnswersToo) {
  Pair pair({}, "");
  RawConnection connection = control_connection(pair.target().local_endpoint());
  for (const auto& [transport, says] :
       {std::pair<const char*, const char*>{"shm", "takes no exchanges"}, {"else", "installed"}}) {
    ASSERT_TRUE(connection.send(
        request(wire::ControlType::kExchange, 1, wire::ExchangeBody{transport, "x"}.encode())));
    Bytes text;
    EXPECT_EQ(next_answer(connection, &text).code, Code::kUnsupported);
    EXPECT_NE(text.find(says), std::string::npos) << text;
  }
  EXPECT_TRUE(pair.works());
}

}  // namespace
}  // namespace te::test
