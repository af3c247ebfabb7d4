// Targets that break the protocol: an initiator that trusts them gets an error, in time.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "base/socket.h"
#include "core/descriptor.h"
#include "engine/pair.h"
#include "engine/raw_peer.h"

namespace te::test {
namespace {

constexpr uint64_t kInstance = 4711;

// Listens on a port and lets a function talk to whoever comes, each in a thread of its own.
class FakeTarget {
 public:
  using Talk = std::function<void(RawConnection& connection, const wire::Hello& hello)>;

  explicit FakeTarget(Talk talk) : talk_(std::move(talk)) {
    Result<Fd> fd = listen_tcp("127.0.0.1", 0, 64);
    EXPECT_TRUE(fd.ok());
    listening_ = fd.take();
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~FakeTarget() {
    over_.store(true);
    acceptor_.join();
    for (std::thread& thread : talks_) thread.join();
  }
  std::string endpoint() const {
    return join_host_port("127.0.0.1", local_address(listening_.get()).port());
  }

 private:
  void accept_all() {
    while (!over_.load()) {
      pollfd entry{listening_.get(), POLLIN, 0};
      if (::poll(&entry, 1, 20) != 1) continue;
      auto fd = std::make_shared<Fd>(::accept(listening_.get(), nullptr, nullptr));
      if (!fd->valid()) continue;
      talks_.emplace_back([this, fd] {
        RawConnection connection(std::move(*fd));
        const std::string bytes = connection.receive(wire::Hello::kSize, 2'000);
        const Result<wire::Hello> hello = wire::Hello::decode(as_bytes(bytes));
        if (hello.ok()) talk_(connection, *hello);
      });
    }
  }

  const Talk talk_;
  Fd listening_;
  std::atomic<bool> over_{false};
  std::thread acceptor_;
  std::vector<std::thread> talks_;
};

std::string good_hello_answer() {
  wire::HelloAnswer answer;
  answer.instance = kInstance;
  answer.window = tcp::kWindow;
  return encoded(answer);
}

std::string control_answer(uint64_t id, std::string_view body, uint64_t claimed) {
  wire::ControlHeader header;
  header.type = wire::ControlType::kAnswer;
  header.id = id;
  header.length = claimed;
  return encoded(header) + std::string(body);
}

// What a segment with one buffer of 1 MiB says of itself.
std::string description() {
  Descriptor descriptor;
  descriptor.instance = kInstance;
  descriptor.generation = 1;
  descriptor.transports.push_back({"tcp", AccessKey::kSize, {}});
  descriptor.locations.emplace_back("cpu:0");
  const std::string key(AccessKey::kSize, 'k');
  descriptor.add({0x10000, 0, 1 << 20, 0, Rights::kBoth}, {key});
  EXPECT_TRUE(descriptor.finish().ok());
  return descriptor.encode();
}

std::unique_ptr<Engine> hurried_engine() {
  return make_engine({{"connect_timeout_ms", "500"}, {"retry_window_ms", "500"}});
}

TEST(HostileTarget, ItsAnswersOnTheControlChannel) {
  const std::vector<std::pair<std::string, FakeTarget::Talk>> talks = {
      {"silence", [](RawConnection& c, const wire::Hello&) { c.ended_by_peer(1'500); }},
      {"an end", [](RawConnection& c, const wire::Hello&) { c.close(); }},
      {"noise", [](RawConnection& c, const wire::Hello&) { c.send(std::string(5'000, 'n')); }},
      {"half an answer",
       [](RawConnection& c, const wire::Hello&) { c.send(good_hello_answer().substr(0, 7)); }},
      {"a refusal with an unknown code",
       [](RawConnection& c, const wire::Hello&) {
         wire::HelloAnswer answer;
         answer.code = static_cast<Code>(-999);
         c.send(encoded(answer));
       }},
      {"an endless description",
       [](RawConnection& c, const wire::Hello&) {
         c.send(good_hello_answer());
         c.send(control_answer(1, "x", UINT64_MAX));
         c.ended_by_peer(1'500);
       }},
      {"a description that does not come",
       [](RawConnection& c, const wire::Hello&) {
         c.send(good_hello_answer());
         c.send(control_answer(1, "x", 100 << 20));
         c.ended_by_peer(1'500);
       }},
      {"a description of nonsense",
       [](RawConnection& c, const wire::Hello&) {
         c.send(good_hello_answer());
         c.send(control_answer(1, std::string(3'000, '\xFF'), 3'000));
         c.ended_by_peer(1'500);
       }},
      {"an empty description",
       [](RawConnection& c, const wire::Hello&) {
         c.send(good_hello_answer());
         c.send(control_answer(1, "", 0));
         c.ended_by_peer(1'500);
       }},
      {"an answer to another question", [](RawConnection& c, const wire::Hello&) {
         c.send(good_hello_answer());
         c.send(control_answer(9, description(), description().size()));
         c.ended_by_peer(1'500);
       }}};
  Pair pair;
  std::unique_ptr<Engine> engine = hurried_engine();
  const size_t memory = resident_bytes();
  for (const auto& [what, talk] : talks) {
    FakeTarget target(talk);
    const Stopwatch watch;
    const Result<SegmentId> opened = engine->open_segment(target.endpoint());
    EXPECT_FALSE(opened.ok()) << what;
    EXPECT_NE(opened.status().message().find(target.endpoint()), std::string::npos)
        << what << ": " << opened.status().to_string();
    EXPECT_LT(watch.ms(), 3'000) << what;
  }
  if (!kSanitized) {
    EXPECT_LT(resident_bytes(), memory + (32 << 20));
  }
  EXPECT_TRUE(pair.works());
}

// Serves the control channel properly, and `data` on data connections after the hello.
FakeTarget::Talk with_data(std::function<void(RawConnection&)> data) {
  return [data = std::move(data)](RawConnection& c, const wire::Hello& hello) {
    c.send(good_hello_answer());
    if (hello.kind == wire::ChannelKind::kTcpData) return data(c);
    for (;;) {
      const std::string head = c.receive(wire::ControlHeader::kSize, 4'000);
      const Result<wire::ControlHeader> request = wire::ControlHeader::decode(as_bytes(head));
      if (!request.ok()) return;
      c.receive(request->length, 1'000);
      c.send(control_answer(request->id, description(), description().size()));
    }
  };
}

std::string answer_frame(tcp::AnswerType type, Code code, uint32_t count, uint64_t sequence) {
  std::string bytes(tcp::AnswerHeader::kSize, '\0');
  tcp::AnswerHeader{type, code, count, sequence}.encode(reinterpret_cast<std::byte*>(bytes.data()));
  return bytes;
}

// Whoever waits learns for how long, which setting that is, and what may be the matter.
TEST(HostileTarget, ASilentOneIsToldWithTheTimeAndTheSetting) {
  const std::unique_ptr<Engine> engine = hurried_engine();
  const FakeTarget mute([](RawConnection& c, const wire::Hello&) { c.ended_by_peer(1'500); });
  Status why = engine->open_segment(mute.endpoint()).status();
  EXPECT_TRUE(fails_with(why, Code::kUnavailable, "within 500 ms (connect_timeout_ms)"));
  EXPECT_TRUE(fails_with(why, Code::kUnavailable, "no transfer engine listens there"));

  const FakeTarget stopped([](RawConnection& c, const wire::Hello&) {
    c.send(good_hello_answer());
    c.ended_by_peer(1'500);
  });
  why = engine->open_segment(stopped.endpoint()).status();
  EXPECT_TRUE(fails_with(why, Code::kUnavailable, "within 500 ms (connect_timeout_ms)"));
}

TEST(HostileTarget, ItsAnswersToTransfers) {
  using tcp::AnswerType;
  const auto says = [](const std::string& bytes) {
    return [bytes](RawConnection& c) {
      c.receive(1, 3'000);
      c.send(bytes);
      c.ended_by_peer(2'000);
    };
  };
  const std::vector<std::pair<std::string, std::function<void(RawConnection&)>>> talks = {
      {"an end", [](RawConnection& c) { c.close(); }},
      {"an end after the request", [](RawConnection& c) { c.receive(1, 3'000); }},
      {"noise", says(std::string(50'000, 'n'))},
      {"zeros", says(std::string(50'000, '\0'))},
      {"an acknowledgement of what was not sent",
       says(answer_frame(AnswerType::kAck, Code::kOk, 0, 500))},
      {"an acknowledgement without end",
       says(answer_frame(AnswerType::kAck, Code::kOk, 0, UINT64_MAX))},
      {"data for nobody", says(answer_frame(AnswerType::kData, Code::kOk, 1, 900))},
      {"data of a huge count", says(answer_frame(AnswerType::kData, Code::kOk, UINT32_MAX, 0))},
      {"data of none", says(answer_frame(AnswerType::kData, Code::kOk, 0, 0))},
      {"an error for nobody", says(answer_frame(AnswerType::kError, Code::kStale, 1, UINT64_MAX))},
      {"an error without code", says(answer_frame(AnswerType::kError, Code::kOk, 1, 0))},
      {"data and then an end",
       says(answer_frame(AnswerType::kData, Code::kOk, 1, 0) + std::string(10, 'd'))}};
  std::unique_ptr<Engine> engine = hurried_engine();
  Registered local(*engine, 1 << 20);
  for (const auto& [what, talk] : talks) {
    for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
      FakeTarget target(with_data(talk));
      const Result<SegmentId> segment = engine->open_segment(target.endpoint());
      ASSERT_TRUE(segment.ok()) << segment.status().to_string();
      const BatchId batch =
          submit_new(*engine, {{opcode, local.data(), *segment, 0, 1 << 20}}, within(200));
      const Stopwatch watch;
      EXPECT_TRUE(engine->wait(batch, kPatience).ok()) << what;
      EXPECT_LT(watch.ms(), 3'000) << what;
      const TaskState state = engine->status(batch, 0)->state;
      EXPECT_TRUE(state == TaskState::kFailed || state == TaskState::kTimeout)
          << what << ": " << static_cast<int>(state);
      const Status why = engine->task_error(batch, 0)->status;
      EXPECT_NE(why.message().find("127.0.0.1:"), std::string::npos)
          << what << ": " << why.to_string();
      // Quiet, whatever still comes.
      std::memset(local.data(), 0x29, local.size());
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      EXPECT_EQ(other_than(local.data(), local.size(), std::byte{0x29}), kSame) << what;
      EXPECT_TRUE(engine->free_batch(batch).ok());
      EXPECT_TRUE(engine->close_segment(*segment).ok());
    }
  }
  std::unique_ptr<Engine> good = make_engine();
  Registered remote(*good, 1 << 20);
  const Result<SegmentId> segment = engine->open_segment(good->local_endpoint());
  ASSERT_TRUE(segment.ok());
  stamp(local.data(), local.size(), 8);
  EXPECT_EQ(transfer(*engine, {{Opcode::kWrite, local.data(), *segment, 0, 1 << 20}}).state,
            TaskState::kCompleted);
  EXPECT_EQ(difference(remote.data(), remote.size(), 8), kSame);
}

}  // namespace
}  // namespace te::test
