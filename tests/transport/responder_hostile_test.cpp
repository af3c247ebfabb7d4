// Peers that mean harm: nothing outside of what is registered is touched, nothing hangs.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>

#include <random>

#include "transport/responder_harness.h"

namespace te::tcp::test {
namespace {

class HostileResponder : public ResponderTest {
 protected:
  // A connection of its own on which the bytes are sent and nothing else.
  std::string on_new_connection(std::string_view bytes) {
    connect();
    responder_->admit(kInstance);
    take();
    return exchange(bytes);
  }
  // A local pair of sockets tells of room whenever something was read; TCP does not.
  void connect_over_tcp() {
    const Fd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* name = reinterpret_cast<sockaddr*>(&address);
    socklen_t length = sizeof address;
    ASSERT_EQ(::bind(listener.get(), name, length), 0);
    const int room = 1 << 20;
    ::setsockopt(listener.get(), SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    ASSERT_EQ(::listen(listener.get(), 1), 0);
    ASSERT_EQ(::getsockname(listener.get(), name, &length), 0);
    client_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(client_.get(), name, length), 0);
    ::fcntl(client_.get(), F_SETFL, O_NONBLOCK);
    Fd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    ASSERT_TRUE(accepted.valid());
    responder_ = std::make_unique<Responder>(
        *loop_, table_, *this, tls::Connection(std::move(accepted)), wire::Hello{}, nullptr);
  }
  void expect_ended(std::string_view bytes) {
    EXPECT_EQ(on_new_connection(bytes), "");
    EXPECT_TRUE(ended_);
    pump();  // an event that was under way already
  }
  bool range_untouched() {
    return memory(0, kSize).find_first_not_of(kUntouched) == std::string::npos;
  }
};

TEST_F(HostileResponder, HeadersThatCannotBeUnderstood) {
  for (const int type : {0, 3, 4, 128, 255}) {
    expect_ended(request_bytes(static_cast<uint8_t>(type), 1, 4, {entry(0, 4)}) + "aaaa");
  }
  for (const uint8_t type : {uint8_t{1}, uint8_t{2}}) {
    expect_ended(request_bytes(type, 0, 1, {}) + "a");
    expect_ended(request_bytes(type, kMaxRequestsPerFrame + 1, 0, {}));
    expect_ended(request_bytes(type, UINT16_MAX, 0, {}));
  }
  expect_ended(request_bytes(2, 0, 0, {}));
  expect_ended(request_bytes(2, 1, 4, {entry(0, 4)}));  // a READ brings no bytes
  expect_ended(std::string(4096, '\0'));
  expect_ended(std::string(4096, '\xff'));
  expect_ended("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_TRUE(range_untouched());
}

TEST_F(HostileResponder, LengthsThatContradictEachOther) {
  for (const uint64_t payload :
       {uint64_t{0}, uint64_t{7}, uint64_t{9}, UINT64_MAX, uint64_t{8} + (uint64_t{1} << 32)}) {
    expect_ended(request_bytes(1, 2, payload, {entry(0, 4), entry(4, 4)}) + "aaaabbbb");
  }
  EXPECT_TRUE(range_untouched());
}

TEST_F(HostileResponder, LengthsThatAreNotAllowed) {
  for (const uint32_t length : {0u, kMaxRequestLength + 1, UINT32_MAX}) {
    expect_ended(request_bytes(1, 1, length, {{address(), length, key_}}) + "aaaa");
    expect_ended(read_frame({{address(), length, key_}}));
    expect_ended(read_frame({entry(0, 4), {address(), length, key_}}));
  }
  EXPECT_TRUE(range_untouched());
}

TEST_F(HostileResponder, RangesThatAreNotTheirs) {
  const uint64_t begin = address();
  const std::pair<uint64_t, uint32_t> ranges[] = {{begin - 1, 1},
                                                  {begin - 1, 2},
                                                  {begin + kSize, 1},
                                                  {begin + kSize - 1, 2},
                                                  {0, 1},
                                                  {UINT64_MAX, 1},
                                                  {UINT64_MAX - 1, 4},
                                                  {begin, kSize + 1},
                                                  {begin - kGuard, kMaxRequestLength},
                                                  {begin + kSize, 4096},
                                                  {begin - 4096, 4096},
                                                  {uint64_t{1} << 63, 1}};
  for (const auto& [at, length] : ranges) {
    EXPECT_EQ(on_new_connection(read_frame({{at, length, key_}})), refused(0, Code::kOutOfRange));
    EXPECT_FALSE(ended_);
    if (length > 65'536) continue;
    EXPECT_EQ(on_new_connection(write_frame({{at, length, key_}}, std::string(length, 'x'))),
              refused(0, Code::kOutOfRange) + ack(1));
    EXPECT_FALSE(ended_);
  }
  EXPECT_TRUE(range_untouched());
}

TEST_F(HostileResponder, KeysThatAreNotTheirs) {
  for (size_t byte = 0; byte < AccessKey::kSize; ++byte) {
    std::byte bytes[AccessKey::kSize];
    key_.encode(bytes);
    bytes[byte] ^= std::byte{0x40};
    Entry wrong = entry(0, 4);
    wrong.key = AccessKey::decode(bytes);
    EXPECT_EQ(on_new_connection(read_frame({wrong})), refused(0, Code::kStale));
    EXPECT_EQ(on_new_connection(write_frame({wrong}, "xxxx")), refused(0, Code::kStale) + ack(1));
  }
  table_.remove(key_);
  EXPECT_EQ(on_new_connection(write_frame({entry(0, 4)}, "xxxx")),
            refused(0, Code::kStale) + ack(1));
  EXPECT_TRUE(range_untouched());
}

// The key of one range does not open another, not even in one frame.
TEST_F(HostileResponder, AKeyOpensItsOwnRangeOnly) {
  std::string other(64, 'o');
  const auto at = reinterpret_cast<uint64_t>(other.data());
  const AccessKey other_key = *table_.add(at, other.size(), Rights::kBoth);
  EXPECT_EQ(
      on_new_connection(write_frame(
          {{at, 4, other_key}, {at, 4, key_}, {address(), 4, key_}, {address(), 4, other_key}},
          "1111222233334444")),
      refused(1, Code::kOutOfRange) + refused(3, Code::kOutOfRange) + ack(4));
  EXPECT_EQ(other.substr(0, 5), "1111o");
  EXPECT_EQ(memory(0, 5), "3333\xa5");
  EXPECT_EQ(on_new_connection(read_frame({{at, 4, key_}})), refused(0, Code::kOutOfRange));
}

TEST_F(HostileResponder, MoreReadsThanTheWindowEndIt) {
  // The first does not fit the sockets, so what follows stays unanswered.
  std::vector<char> large(4 << 20, 'L');
  const auto at = reinterpret_cast<uint64_t>(large.data());
  const AccessKey key = *table_.add(at, large.size(), Rights::kBoth);
  on_new_connection(read_frame({{at, 4 << 20, key}}));
  for (uint32_t i = 1; i < kWindow; ++i) {
    put(read_frame({entry(0, 1)}));
    if (i % 64 == 0) pump();
  }
  pump();
  EXPECT_FALSE(ended_);
  put(read_frame({entry(0, 1)}));
  pump();
  EXPECT_TRUE(ended_);
}

// Answers that nobody takes must not pile up; once they are taken, everything is answered.
TEST_F(HostileResponder, RefusalsThatAreNotReadDoNotPileUp) {
  constexpr uint64_t kFrames = 200;
  constexpr uint64_t kRequests = kFrames * 128;
  connect();
  responder_->admit(kInstance);
  take();
  Entry wrong = entry(0, 1);
  ++wrong.key.index;
  const std::string frame = read_frame(std::vector<Entry>(128, wrong));
  std::string pending;
  for (uint64_t i = 0; i < kFrames; ++i) pending += frame;
  std::string answers;
  // A loop gives a turn when something changed: bytes came, or there is room again.
  for (int turns = 0; turns < 100'000 && answers.size() < kRequests * AnswerHeader::kSize;
       ++turns) {
    const ssize_t sent = ::send(client_.get(), pending.data(), pending.size(), MSG_NOSIGNAL);
    if (sent > 0) pending.erase(0, static_cast<size_t>(sent));
    if (sent > 0) pump();
    const std::string more = take();
    answers += more;
    if (sent <= 0 && more.empty()) break;
    if (!more.empty()) pump();
  }
  EXPECT_FALSE(ended_);
  EXPECT_EQ(answers.size(), kRequests * AnswerHeader::kSize);
  EXPECT_EQ(answers.substr(0, AnswerHeader::kSize), refused(0, Code::kStale));
}

// Nothing new comes after them: what was left unread for the answers' sake is read all the same.
TEST_F(HostileResponder, ManyRefusalsAtOnceAreAllTold) {
  std::string frames;
  for (int i = 0; i < 48; ++i) {
    frames += read_frame(std::vector<Entry>(128, {address(), 4, AccessKey()}));
  }
  connect_over_tcp();
  responder_->admit(kInstance);
  take();
  put(frames);
  EXPECT_TRUE(loop_->start().ok());
  std::string answers;
  const size_t wanted = size_t{48} * 128 * AnswerHeader::kSize;
  for (int waits = 0; answers.size() < wanted && waits < 1'000; ++waits) {
    pollfd entry{client_.get(), POLLIN, 0};
    ::poll(&entry, 1, 10);
    answers += take();
  }
  loop_->stop();
  EXPECT_EQ(answers.size(), wanted);
  EXPECT_FALSE(ended_);
}

TEST_F(HostileResponder, ClosingAnywhereEndsIt) {
  const std::string frames =
      write_frame({entry(0, 5), entry(50, 6)}, "hellothere!") + read_frame({entry(0, 5)});
  for (size_t length = 0; length <= frames.size(); ++length) {
    connect();
    responder_->admit(kInstance);
    put(frames.substr(0, length));
    pump();
    client_.reset();
    responder_->on_events(EPOLLIN | EPOLLRDHUP | EPOLLHUP);
    EXPECT_TRUE(ended_) << length;
  }
}

// Valid frames of random requests with random damage. Only the registered range may change.
TEST_F(HostileResponder, RandomDamage) {
  for (uint32_t seed = 1; seed <= 2'000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    connect();
    responder_->admit(kInstance);
    for (int frame = 0; frame < 4 && !ended_; ++frame) {
      std::vector<Entry> entries;
      size_t total = 0;
      for (uint32_t i = 0; i <= random() % 4; ++i) {
        entries.push_back(entry(random() % kSize, 1 + random() % 300));
        total += entries.back().length;
      }
      std::string bytes =
          random() % 2 == 0 ? read_frame(entries) : write_frame(entries, std::string(total, 'd'));
      for (uint32_t damage = random() % 3; damage > 0; --damage) {
        const size_t reach = random() % 2 == 0 ? 48 : bytes.size();
        bytes[random() % std::min(reach, bytes.size())] = static_cast<char>(random());
      }
      put(bytes);
      pump();
      take();
    }
    ASSERT_TRUE(guards_intact());
  }
}

}  // namespace
}  // namespace te::tcp::test
