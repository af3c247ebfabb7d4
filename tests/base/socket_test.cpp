#include "base/socket.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <array>

#include "base/clock.h"

namespace te {
namespace {

int64_t soon() { return deadline_after_ms(now_ns(), 10'000); }

SocketAddress loopback(const std::string& host, uint16_t port) {
  Result<std::vector<SocketAddress>> addresses = resolve_host(host, port);
  EXPECT_TRUE(addresses.ok()) << addresses.status().to_string();
  return addresses.ok() ? addresses->front() : SocketAddress();
}

bool has_ipv6() { return listen_tcp("::1", 0, 1).ok(); }

Fd accept_one(int listener) {
  pollfd entry{listener, POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 10'000), 1);
  return Fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
}

TEST(ListenTcp, ATakenPortIsNamed) {
  const Result<Fd> first = listen_tcp("127.0.0.1", 0, 16);
  ASSERT_TRUE(first.ok()) << first.status().to_string();
  const uint16_t port = local_address((*first).get()).port();
  ASSERT_NE(port, 0);
  for (const char* host : {"127.0.0.1", ""}) {
    const Result<Fd> second = listen_tcp(host, port, 16);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.code(), Code::kAlreadyExists);
    EXPECT_NE(second.status().message().find("port " + std::to_string(port) + " is in use"),
              std::string::npos)
        << second.status().message();
  }
}

TEST(ListenTcp, AFreedPortCanBeTakenAgain) {
  Result<Fd> first = listen_tcp("", 0, 16);
  ASSERT_TRUE(first.ok()) << first.status().to_string();
  const uint16_t port = local_address((*first).get()).port();
  // A connection that this side closes first leaves the port in TIME_WAIT.
  Result<BlockingStream> client = BlockingStream::connect(loopback("127.0.0.1", port), soon());
  ASSERT_TRUE(client.ok()) << client.status().to_string();
  accept_one((*first).get()).reset();
  first.take().reset();
  const Result<Fd> second = listen_tcp("", port, 16);
  EXPECT_TRUE(second.ok()) << second.status().to_string();
}

TEST(ListenTcp, EveryAddressMeansBothFamilies) {
  if (!has_ipv6()) GTEST_SKIP() << "this machine has no IPv6 loopback address";
  const Result<Fd> listener = listen_tcp("", 0, 16);
  ASSERT_TRUE(listener.ok()) << listener.status().to_string();
  const uint16_t port = local_address((*listener).get()).port();
  for (const char* host : {"127.0.0.1", "::1"}) {
    Result<BlockingStream> client = BlockingStream::connect(loopback(host, port), soon());
    ASSERT_TRUE(client.ok()) << host << ": " << client.status().to_string();
    const Fd served = accept_one((*listener).get());
    ASSERT_TRUE(served.valid());
    // A peer that came over IPv4 is shown so, whatever the listening socket is.
    EXPECT_EQ(peer_address(served.get()).host(), host);
  }
}

TEST(ListenTcp, Ipv6Alone) {
  if (!has_ipv6()) GTEST_SKIP() << "this machine has no IPv6 loopback address";
  const Result<Fd> listener = listen_tcp("::1", 0, 16);
  ASSERT_TRUE(listener.ok()) << listener.status().to_string();
  const SocketAddress address = local_address((*listener).get());
  EXPECT_EQ(address.host(), "::1");
  EXPECT_EQ(address.to_string(), "[::1]:" + std::to_string(address.port()));
  const Result<Fd> second = listen_tcp("::1", address.port(), 16);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.code(), Code::kAlreadyExists);
}

TEST(ListenTcp, AnAddressOfAnotherMachineIsAnError) {
  const Result<Fd> listener = listen_tcp("192.0.2.1", 0, 16);  // reserved for documentation
  ASSERT_FALSE(listener.ok());
  EXPECT_NE(listener.status().message().find("192.0.2.1"), std::string::npos)
      << listener.status().message();
}

TEST(SocketAddress, ShowsMappedIpv4AsIpv4) {
  const SocketAddress mapped = loopback("::ffff:10.1.2.3", 80);
  EXPECT_EQ(mapped.host(), "10.1.2.3");
  EXPECT_EQ(mapped.to_string(), "10.1.2.3:80");
}

TEST(SocketAddress, LoopbackIsTold) {
  for (const char* each : {"127.0.0.1", "127.9.9.9", "::1"}) {
    EXPECT_TRUE(is_loopback(loopback(each, 1).get())) << each;
  }
  for (const char* each : {"192.0.2.1", "128.0.0.1", "::2", "fe80::1"}) {
    EXPECT_FALSE(is_loopback(loopback(each, 1).get())) << each;
  }
  EXPECT_FALSE(is_loopback(nullptr));
}

TEST(SocketAddress, OwnAddressesAreTold) {
  EXPECT_TRUE(is_local_address(loopback("127.0.0.1", 0)));
  EXPECT_TRUE(is_local_address(loopback("127.9.9.9", 0)));
  EXPECT_FALSE(is_local_address(loopback("192.0.2.1", 0)));
  for (const InterfaceAddress& own : all_interface_addresses()) {
    EXPECT_TRUE(is_local_address(loopback(own.address, 0))) << own.address;
  }
  EXPECT_EQ(local_address_towards(loopback("127.0.0.1", 9)), "127.0.0.1");
}

TEST(SendBuffer, IsHalfOfACoresCacheWithinBounds) {
  EXPECT_EQ(send_buffer_in_cache(1 << 20), 512 << 10);
  EXPECT_EQ(send_buffer_in_cache(2 << 20), 1 << 20);
  EXPECT_EQ(send_buffer_in_cache(64 << 10), 256 << 10);
  EXPECT_EQ(send_buffer_in_cache(int64_t{1} << 40), 2 << 20);
  EXPECT_EQ(send_buffer_in_cache(0), 512 << 10);
  EXPECT_EQ(send_buffer_in_cache(-1), 512 << 10);
}

TEST(BlockingStream, CarriesBytesBothWays) {
  const Result<Fd> listener = listen_tcp("127.0.0.1", 0, 16);
  ASSERT_TRUE(listener.ok());
  Result<BlockingStream> client = BlockingStream::connect(local_address((*listener).get()), soon());
  ASSERT_TRUE(client.ok()) << client.status().to_string();
  const Fd served = accept_one((*listener).get());
  ASSERT_TRUE(client->send_all("ping", soon()).ok());
  std::array<char, 4> got{};
  ASSERT_EQ(::recv(served.get(), got.data(), 4, MSG_WAITALL), 4);
  ASSERT_EQ(::send(served.get(), "pong", 4, MSG_NOSIGNAL), 4);
  ASSERT_TRUE(client->receive_exact(got, soon()).ok());
  EXPECT_EQ(std::string(got.data(), 4), "pong");
}

TEST(BlockingStream, ADeadlineEndsTheWait) {
  const Result<Fd> listener = listen_tcp("127.0.0.1", 0, 16);
  ASSERT_TRUE(listener.ok());
  Result<BlockingStream> client = BlockingStream::connect(local_address((*listener).get()), soon());
  ASSERT_TRUE(client.ok());
  std::array<char, 1> got{};
  EXPECT_EQ(client->receive_exact(got, now_ns() - 1).code(), Code::kTimeout);
  EXPECT_EQ(client->receive_exact(got, deadline_after_ms(now_ns(), 5)).code(), Code::kTimeout);
}

TEST(BlockingStream, AClosedPeerIsUnavailable) {
  const Result<Fd> listener = listen_tcp("127.0.0.1", 0, 16);
  ASSERT_TRUE(listener.ok());
  Result<BlockingStream> client = BlockingStream::connect(local_address((*listener).get()), soon());
  ASSERT_TRUE(client.ok());
  accept_one((*listener).get()).reset();
  std::array<char, 1> got{};
  EXPECT_EQ(client->receive_exact(got, soon()).code(), Code::kUnavailable);
}

TEST(BlockingStream, NobodyListeningIsUnavailableAndNamed) {
  SocketAddress address;
  {
    const Result<Fd> listener = listen_tcp("127.0.0.1", 0, 16);
    ASSERT_TRUE(listener.ok());
    address = local_address((*listener).get());
  }
  const Result<BlockingStream> client = BlockingStream::connect(address, soon());
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.code(), Code::kUnavailable);
  EXPECT_NE(client.status().message().find(address.to_string()), std::string::npos);
}

}  // namespace
}  // namespace te
