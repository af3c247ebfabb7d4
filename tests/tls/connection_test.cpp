// Connections with TLS over a pair of sockets: as sockets, whatever the pieces; and what a peer, or
// somebody in between, can do to them.
#include "tls/connection.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <thread>

#include "base/guarded_copy.h"
#include "support/facts.h"
#include "support/fails_with.h"
#include "tls/cluster.h"

namespace te::test {
namespace {

using tls::Connection;
using tls::Role;

class ConnectionTest : public testing::Test {
 protected:
  void SetUp() override { join(cluster_.member("a"), cluster_.member("b")); }
  void join(const tls::Files& connecting, const tls::Files& accepting, int buffer = 0) {
    int fds[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    if (buffer != 0) {
      for (const int fd : fds) {
        ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
      }
    }
    a_ = Connection::make(Fd(fds[0]), identity(connecting), Role::kConnects).take();
    b_ = Connection::make(Fd(fds[1]), identity(accepting), Role::kAccepts).take();
  }
  // The handshake, with a hello behind it.
  void greet() {
    std::string got(5, '\0');
    ssize_t sent = -1, received = -1;
    for (int i = 0; i < 20 && received < 0; ++i) {
      if (sent < 0) sent = a_.send("hello");
      received = b_.receive(got.data(), got.size());
    }
    EXPECT_EQ(sent, 5) << a_.why().to_string();
    EXPECT_EQ(received, 5) << b_.why().to_string();
    EXPECT_EQ(got, "hello");
    EXPECT_TRUE(a_.ready() && b_.ready());
  }
  // All that is there.
  std::string receive_all(Connection& from) {
    std::string all;
    std::vector<char> bytes(100'000);
    ssize_t got;
    while ((got = from.receive(bytes.data(), bytes.size())) > 0) {
      all.append(bytes.data(), static_cast<size_t>(got));
    }
    last_errno_ = got < 0 ? errno : 0;
    return all;
  }

  const FaultHandler faults_;
  const Cluster cluster_;
  Connection a_, b_;
  int last_errno_ = 0;
};

TEST_F(ConnectionTest, TheHandshakeIsMadeOnTheWay) {
  EXPECT_FALSE(a_.ready());
  greet();
  EXPECT_EQ(b_.send("answer"), 6);
  EXPECT_EQ(receive_all(a_), "answer");
  EXPECT_EQ(last_errno_, EAGAIN);
}

TEST_F(ConnectionTest, WithoutTlsItIsASocket) {
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  a_ = Connection(Fd(fds[0]));
  b_ = Connection(Fd(fds[1]));
  EXPECT_TRUE(a_.ready() && !a_.secure());
  EXPECT_EQ(a_.send("plain"), 5);
  char bytes[5];
  EXPECT_EQ(::recv(b_.fd(), bytes, 5, MSG_PEEK), 5);
  EXPECT_EQ(std::string(bytes, 5), "plain");
  EXPECT_EQ(receive_all(b_), "plain");
  a_.close();
  EXPECT_EQ(receive_all(b_), "");
  EXPECT_EQ(last_errno_, 0);
}

// A sender and a receiver at either end at once, with pieces of any size through small sockets.
TEST_F(ConnectionTest, BothWaysAtOnceEveryByteArrives) {
  constexpr size_t kBytes = kSanitized ? 3 << 20 : 20 << 20;
  join(cluster_.member("a"), cluster_.member("b"), 30'000);
  greet();
  std::vector<char> data(kBytes);
  std::mt19937_64 random(1);
  for (char& each : data) each = static_cast<char>(random());
  const auto send = [&data](Connection& to, uint64_t seed) {
    std::mt19937_64 sizes(seed);
    for (size_t at = 0; at < data.size();) {
      iovec vectors[5];
      size_t next = at;
      for (iovec& each : vectors) {
        const size_t most = sizes() % 4 == 0 ? 200'000 : 2'000;
        const size_t size = std::min<size_t>(sizes() % most, data.size() - next);
        each = {data.data() + next, size};
        next += size;
      }
      // The same vectors, shortened, until all has been taken.
      size_t first = 0;
      while (first < 5) {
        const ssize_t sent = to.send(vectors + first, 5 - first);
        if (sent < 0) {
          ASSERT_EQ(errno, EAGAIN) << to.why().to_string();
          pollfd room{to.fd(), POLLOUT, 0};
          ::poll(&room, 1, 1'000);
          continue;
        }
        at += static_cast<size_t>(sent);
        for (size_t left = static_cast<size_t>(sent); first < 5;) {
          const size_t step = std::min(left, vectors[first].iov_len);
          vectors[first].iov_base = static_cast<char*>(vectors[first].iov_base) + step;
          vectors[first].iov_len -= step;
          left -= step;
          if (vectors[first].iov_len > 0) break;
          ++first;
        }
      }
    }
  };
  const auto receive = [&data](Connection& from, uint64_t seed) {
    std::mt19937_64 sizes(seed);
    std::vector<char> got(data.size());
    for (size_t at = 0; at < got.size();) {
      iovec vectors[3];
      size_t next = at, count = 0;
      while (count < 3 && next < got.size()) {
        const size_t size = std::min<size_t>(1 + sizes() % 150'000, got.size() - next);
        vectors[count++] = {got.data() + next, size};
        next += size;
      }
      const ssize_t received = from.receive(vectors, count);
      if (received > 0) at += static_cast<size_t>(received);
      if (received > 0) continue;
      ASSERT_TRUE(received < 0 && errno == EAGAIN) << from.why().to_string();
      pollfd more{from.fd(), POLLIN, 0};
      ::poll(&more, 1, 1'000);
    }
    EXPECT_TRUE(got == data);
  };
  std::thread threads[] = {std::thread([&] { send(a_, 1); }), std::thread([&] { send(b_, 2); }),
                           std::thread([&] { receive(a_, 3); }),
                           std::thread([&] { receive(b_, 4); })};
  for (std::thread& each : threads) each.join();
}

TEST_F(ConnectionTest, MemoryThatCannotBeReadOrWrittenIsAnError) {
  greet();
  const size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  void* const memory =
      ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  char* const bytes = static_cast<char*>(memory);
  std::memset(bytes, 'x', 2 * page);
  ASSERT_EQ(::mprotect(bytes + page, page, PROT_NONE), 0);
  // What can be read goes; the rest is the error.
  iovec vectors[] = {{bytes, page}, {bytes + page, page}};
  EXPECT_EQ(a_.send(vectors, 2), static_cast<ssize_t>(page));
  EXPECT_EQ(a_.send(vectors + 1, 1), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_FALSE(a_.committed());
  EXPECT_EQ(a_.send("more"), 4);
  // The same on the other side; nothing is lost.
  EXPECT_EQ(b_.receive(bytes, 10), 10);
  EXPECT_EQ(b_.receive(bytes + page, page), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(receive_all(b_), std::string(page - 10, 'x') + "more");
  ::munmap(memory, 2 * page);
}

TEST_F(ConnectionTest, WhatIsHeldBackIsCommitted) {
  join(cluster_.member("a"), cluster_.member("b"), 4'096);
  greet();
  const std::string large(1 << 20, 'x');
  ssize_t sent = 0, total = 0;
  while ((sent = a_.send(std::string_view(large).substr(static_cast<size_t>(total)))) > 0) {
    total += sent;
  }
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_TRUE(a_.committed());
  const std::string first = receive_all(b_);
  EXPECT_GE(first.size(), static_cast<size_t>(total));
}

TEST_F(ConnectionTest, TheRefusedAreTold) {
  join(cluster_.files("expired", cluster_.authority(), {"expired", {}, -7'200, -3'600}),
       cluster_.member("b"));
  char byte;
  for (int i = 0; i < 20; ++i) {
    if (!a_.ready()) (void)a_.send("hello");
    if (b_.why().ok()) {
      EXPECT_EQ(b_.receive(&byte, 1), -1);
    }
  }
  EXPECT_TRUE(fails_with(b_.why(), Code::kPermission, "expired"));
  EXPECT_EQ(a_.receive(&byte, 1), -1);
  EXPECT_EQ(errno, EPROTO);
  EXPECT_TRUE(fails_with(a_.why(), Code::kPermission, "refuses this engine: certificate expired"));
}

TEST_F(ConnectionTest, APeerWithoutTlsIsToldApart) {
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  Connection plain((Fd(fds[0])));
  b_ = Connection::make(Fd(fds[1]), identity(cluster_.member("b")), Role::kAccepts).take();
  EXPECT_EQ(plain.send("TTE1 hello"), 10);
  char byte;
  EXPECT_EQ(b_.receive(&byte, 1), -1);
  EXPECT_EQ(errno, EPROTO);
  EXPECT_TRUE(fails_with(b_.why(), Code::kPermission, "does not speak TLS"));
}

// Somebody in between, who may change, cut, repeat and hold back what passes.
class InBetween : public ConnectionTest {
 protected:
  void SetUp() override {
    int left[2], right[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, left), 0);
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, right), 0);
    a_ = Connection::make(Fd(left[0]), identity(cluster_.member("a")), Role::kConnects).take();
    b_ = Connection::make(Fd(right[0]), identity(cluster_.member("b")), Role::kAccepts).take();
    near_a_ = Fd(left[1]);
    near_b_ = Fd(right[1]);
    char byte;
    for (int i = 0; i < 10 && !b_.ready(); ++i) {
      if (!a_.ready()) (void)a_.send("h");
      pass(near_a_, near_b_);
      if (!b_.ready()) (void)b_.receive(&byte, 1);
      pass(near_b_, near_a_);
    }
    ASSERT_TRUE(a_.ready() && b_.ready());
  }
  static std::string take(const Fd& from) {
    std::string bytes(1 << 20, '\0');
    const ssize_t got = ::recv(from.get(), bytes.data(), bytes.size(), 0);
    bytes.resize(static_cast<size_t>(std::max<ssize_t>(got, 0)));
    return bytes;
  }
  static void give(const Fd& to, const std::string& bytes) {
    ASSERT_EQ(::send(to.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  }
  static void pass(const Fd& from, const Fd& to) {
    const std::string bytes = take(from);
    if (!bytes.empty()) give(to, bytes);
  }

  Fd near_a_, near_b_;
};

TEST_F(InBetween, AChangedBitDeliversNothing) {
  const std::string message(50'000, 'm');  // four records
  ASSERT_EQ(a_.send(message), static_cast<ssize_t>(message.size()));
  std::string bytes = take(near_a_);
  bytes[bytes.size() - 100] ^= 4;  // in the last one
  give(near_b_, bytes);
  const std::string got = receive_all(b_);
  EXPECT_EQ(got, message.substr(0, 3 * tls::kMaxPlaintext));
  EXPECT_EQ(last_errno_, EPROTO);
  EXPECT_TRUE(fails_with(b_.why(), Code::kProtocol, "changed on the way"));
  EXPECT_EQ(receive_all(b_), "");
  EXPECT_EQ(last_errno_, EPROTO) << "it stays broken";
}

TEST_F(InBetween, ARepetitionIsRefused) {
  ASSERT_EQ(a_.send("once"), 4);
  const std::string bytes = take(near_a_);
  give(near_b_, bytes + bytes);
  EXPECT_EQ(receive_all(b_), "once");
  EXPECT_EQ(last_errno_, EPROTO);
}

TEST_F(InBetween, HalfARecordIsNothing) {
  ASSERT_EQ(a_.send("whole"), 5);
  const std::string bytes = take(near_a_);
  give(near_b_, bytes.substr(0, bytes.size() - 1));
  EXPECT_EQ(receive_all(b_), "");
  EXPECT_EQ(last_errno_, EAGAIN);
  near_b_.reset();
  EXPECT_EQ(receive_all(b_), "");
  EXPECT_EQ(last_errno_, 0) << "the end of the connection";
}

TEST_F(InBetween, ARecordThatIsTooLongIsRefusedBeforeItCame) {
  give(near_b_, std::string("\x17\x03\x03\xff\xff", 5));
  EXPECT_EQ(receive_all(b_), "");
  EXPECT_EQ(last_errno_, EPROTO);
}

}  // namespace
}  // namespace te::test
