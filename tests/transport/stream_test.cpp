#include "transport/tcp/stream.h"

#include <gtest/gtest.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "support/child.h"
#include "support/fragile_memory.h"
#include "transport/socket_pair.h"

namespace te::tcp {
namespace {

std::string make_text(size_t length, uint32_t seed) {
  std::mt19937 random(seed);
  std::string text(length, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

// A stream at one end of a pair of sockets, the test at the other.
class StreamTest : public testing::Test {
 protected:
  void put(std::string_view bytes) { sockets_.put(bytes); }
  std::string head(size_t size) {
    const auto bytes = stream_.buffered().first(size);
    std::string result(reinterpret_cast<const char*>(bytes.data()), size);
    stream_.consume(size);
    return result;
  }
  static Stream::Piece piece(std::string& into) {
    return {reinterpret_cast<std::byte*>(into.data()), into.size()};
  }
  test::SocketPair sockets_;
  Stream stream_;
};

TEST_F(StreamTest, TellsHowAReceptionEnded) {
  EXPECT_EQ(stream_.receive(sockets_.ours), Stream::Outcome::kDrained);
  EXPECT_EQ(stream_.received(), 0u);
  put("abc");
  EXPECT_EQ(stream_.receive(sockets_.ours), Stream::Outcome::kDrained);
  EXPECT_EQ(stream_.received(), 3u);
  EXPECT_EQ(head(3), "abc");
  put(make_text(Stream::kBufferSize, 1));
  EXPECT_EQ(stream_.receive(sockets_.ours), Stream::Outcome::kMore);
  EXPECT_EQ(stream_.received(), Stream::kBufferSize);
  stream_.consume(Stream::kBufferSize);
  put("x");
  sockets_.peers.reset();
  EXPECT_EQ(stream_.receive(sockets_.ours), Stream::Outcome::kDrained);
  EXPECT_EQ(head(1), "x");
  EXPECT_EQ(stream_.receive(sockets_.ours), Stream::Outcome::kClosed);
  EXPECT_EQ(stream_.received(), 0u);
  errno = 0;
  tls::Connection none;
  EXPECT_EQ(stream_.receive(none), Stream::Outcome::kFailed);
  EXPECT_EQ(errno, EBADF);
}

TEST_F(StreamTest, HeadsStayBufferedUntilConsumed) {
  put("abcd");
  stream_.receive(sockets_.ours);
  EXPECT_EQ(head(2), "ab");
  put("efgh");
  stream_.receive(sockets_.ours);
  EXPECT_EQ(stream_.buffered().size(), 6u);
  EXPECT_EQ(head(6), "cdefgh");
  EXPECT_TRUE(stream_.buffered().empty());
  EXPECT_FALSE(stream_.in_payload());
}

TEST_F(StreamTest, OneCallTakesThePayloadAndTheNextHead) {
  std::string first(5, '.'), second(3, '.');
  stream_.start_payload() = {piece(first), {nullptr, 4}, piece(second)};
  put("11111....222head");
  EXPECT_EQ(stream_.receive(sockets_.ours), Stream::Outcome::kDrained);
  EXPECT_EQ(stream_.received(), 16u);
  EXPECT_FALSE(stream_.in_payload());
  EXPECT_EQ(stream_.filled_pieces(), 3u);
  EXPECT_EQ(first, "11111");
  EXPECT_EQ(second, "222");
  EXPECT_EQ(head(4), "head");
}

TEST_F(StreamTest, WhatIsBufferedOfAPayloadIsCopiedOut) {
  put("h112222n");
  stream_.receive(sockets_.ours);
  EXPECT_EQ(head(1), "h");
  std::string first(2, '.'), second(4, '.');
  stream_.start_payload() = {piece(first), piece(second)};
  stream_.copy_buffered();
  EXPECT_FALSE(stream_.in_payload());
  EXPECT_EQ(first + second, "112222");
  EXPECT_EQ(head(1), "n");
}

TEST_F(StreamTest, PiecesWithoutBytesAreFullAtOnce) {
  std::string only(2, '.');
  stream_.start_payload() = {{nullptr, 0}, piece(only), {nullptr, 0}, {nullptr, 0}};
  stream_.copy_buffered();
  EXPECT_EQ(stream_.filled_pieces(), 1u);
  put("ab");
  stream_.receive(sockets_.ours);
  EXPECT_EQ(stream_.filled_pieces(), 4u);
  EXPECT_EQ(only, "ab");
  stream_.start_payload() = {{nullptr, 0}};
  stream_.copy_buffered();
  EXPECT_FALSE(stream_.in_payload());
}

TEST_F(StreamTest, APieceMayBeTakenBackHalfWay) {
  std::string first(4, '.'), second(4, '.');
  stream_.start_payload() = {piece(first), piece(second)};
  put("11");
  stream_.receive(sockets_.ours);
  ASSERT_EQ(stream_.open_pieces().size(), 2u);
  stream_.open_pieces()[0].to = nullptr;
  put("xx2222");
  stream_.receive(sockets_.ours);
  EXPECT_FALSE(stream_.in_payload());
  EXPECT_EQ(first, "11..");
  EXPECT_EQ(second, "2222");
}

// The discarded bytes go to memory of the thread, which must still be there.
TEST_F(StreamTest, DiscardsInExitHandlersToo) {
  const te::test::ChildEnd end = te::test::run_in_child([this] {
    static std::function<bool()>& discards = *new std::function<bool()>([this] {
      stream_.start_payload() = {{nullptr, 4}};
      put("dropnext");
      return stream_.receive(sockets_.ours) == Stream::Outcome::kDrained && !stream_.in_payload() &&
             head(4) == "next";
    });
    const int handler = std::atexit([] {
      // This would be where the memory was.
      const std::vector<char> other(64 << 10, 'u');
      if (!discards()) ::_exit(3);
      if (std::count(other.begin(), other.end(), 'u') != 64 << 10) ::_exit(4);
    });
    if (handler != 0 || !discards()) return 2;
    std::exit(0);
    return 1;
  });
  EXPECT_TRUE(end.ok()) << end.describe();
}

// More than one call can discard or has vectors for.
TEST_F(StreamTest, LongPayloadsTakeSeveralCalls) {
  const std::string text = make_text(100'000, 2);
  std::vector<std::string> parts(200, std::string(50, '.'));
  std::vector<Stream::Piece>& pieces = stream_.start_payload();
  pieces.push_back({nullptr, 90'000});
  for (std::string& part : parts) pieces.push_back(piece(part));
  put(text);
  put("next");
  int calls = 0;
  while (stream_.in_payload()) {
    ASSERT_NE(stream_.receive(sockets_.ours), Stream::Outcome::kFailed);
    ASSERT_LT(++calls, 20);
  }
  std::string joined;
  for (const std::string& part : parts) joined += part;
  EXPECT_TRUE(joined == text.substr(90'000));
  while (stream_.buffered().size() < 4) stream_.receive(sockets_.ours);
  EXPECT_EQ(head(4), "next");
}

using te::test::Damage;
using te::test::FragileMemory;

// Both what is copied out of the buffer and what the kernel writes itself.
TEST_F(StreamTest, PayloadThatCannotBeWrittenGoesNowhere) {
  constexpr size_t kPage = 4096;
  for (const Damage damage : te::test::kDamages) {
    for (const bool buffered : {false, true}) {
      for (const size_t length : {size_t{1}, size_t{64}, 2 * kPage}) {
        SCOPED_TRACE(std::string(name_of(damage)) + " " + std::to_string(length));
        FragileMemory memory(4 * kPage);
        ASSERT_TRUE(memory.damage(damage, kPage, 3 * kPage));
        std::string before(3, '.'), behind(5, '.');
        const std::string text = "head" + ("aaa" + std::string(length, 'x')) + "bbbbb" + "next";
        if (buffered) {
          put(text.substr(0, 6));
          while (stream_.buffered().size() < 6) stream_.receive(sockets_.ours);
          EXPECT_EQ(head(4), "head");
        }
        // The second begins where it still can be written, if it is long.
        std::byte* bad = memory.data() + kPage - length / 4;
        stream_.start_payload() = {piece(before), {bad, length}, piece(behind)};
        if (buffered) stream_.copy_buffered();
        put(text.substr(buffered ? 6 : 4));
        for (int calls = 0; stream_.in_payload() || stream_.buffered().size() < 4; ++calls) {
          ASSERT_NE(stream_.receive(sockets_.ours), Stream::Outcome::kFailed);
          stream_.copy_buffered();
          ASSERT_LT(calls, 50);
        }
        EXPECT_EQ(before, "aaa");
        EXPECT_EQ(behind, "bbbbb");
        EXPECT_EQ(head(4), "next");
        EXPECT_FALSE(stream_.faulted(0));
        EXPECT_TRUE(stream_.faulted(1));
        EXPECT_FALSE(stream_.faulted(2));
        ASSERT_TRUE(memory.restore());
      }
    }
  }
}

TEST_F(StreamTest, WhatIsCopiedOutOfTheBufferMayFault) {
  FragileMemory memory(4096);
  ASSERT_TRUE(memory.damage(Damage::kProtected, 0, 4096));
  std::string behind(2, '.');
  put("h1122n");
  stream_.receive(sockets_.ours);
  EXPECT_EQ(head(1), "h");
  stream_.start_payload() = {{memory.data(), 2}, piece(behind)};
  stream_.copy_buffered();
  EXPECT_FALSE(stream_.in_payload());
  EXPECT_TRUE(stream_.faulted(0));
  EXPECT_FALSE(stream_.faulted(1));
  EXPECT_EQ(behind, "22");
  EXPECT_EQ(head(1), "n");
}

// Frames of a head (one byte: how long each of two payload pieces is) and their payload.
class Frames {
 public:
  explicit Frames(uint32_t seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 6; ++i) {
      const size_t size = random() % 9;
      const std::string payload = make_text(2 * size, seed + static_cast<uint32_t>(i));
      bytes += static_cast<char>(size);
      bytes += payload;
      expected += payload.substr(0, size);  // the second piece goes nowhere
    }
  }
  std::string bytes;
  std::string expected;
};

class Reader {
 public:
  explicit Reader(tls::Connection& from) : from_(from) {}
  void pump() {
    Stream::Outcome outcome;
    do {
      outcome = stream_.receive(from_);
      ASSERT_TRUE(outcome == Stream::Outcome::kMore || outcome == Stream::Outcome::kDrained);
      parse();
    } while (outcome == Stream::Outcome::kMore);
  }
  std::string got;

 private:
  void parse() {
    for (;;) {
      if (in_frame_) {
        stream_.copy_buffered();
        if (stream_.in_payload()) return;
        got += part_;
        in_frame_ = false;
      }
      if (stream_.buffered().empty()) return;
      const auto size = static_cast<size_t>(stream_.buffered()[0]);
      stream_.consume(1);
      part_.assign(size, '.');
      stream_.start_payload() = {{reinterpret_cast<std::byte*>(part_.data()), size},
                                 {nullptr, size}};
      in_frame_ = true;
    }
  }
  tls::Connection& from_;
  Stream stream_;
  std::string part_;
  bool in_frame_ = false;
};

TEST_F(StreamTest, FramesMayBeSplitAnywhere) {
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    const Frames frames(seed * 100);
    for (size_t a = 0; a <= frames.bytes.size(); ++a) {
      for (size_t b = a; b <= frames.bytes.size(); b += 3) {
        Reader reader(sockets_.ours);
        for (const std::string& part :
             {frames.bytes.substr(0, a), frames.bytes.substr(a, b - a), frames.bytes.substr(b)}) {
          if (!part.empty()) put(part);
          reader.pump();
        }
        ASSERT_EQ(reader.got, frames.expected) << "split at " << a << " and " << b;
      }
    }
  }
}

TEST_F(StreamTest, FramesMayComeByteByByte) {
  const Frames frames(7);
  Reader reader(sockets_.ours);
  for (const char c : frames.bytes) {
    put({&c, 1});
    reader.pump();
  }
  EXPECT_EQ(reader.got, frames.expected);
}

}  // namespace
}  // namespace te::tcp
