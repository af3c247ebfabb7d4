#include "base/open_sockets.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

namespace te {
namespace {

constexpr AddressKey kNone{};

std::string_view bytes_of(const SocketAddress& address) {
  return {reinterpret_cast<const char*>(&address.storage), address.length};
}

bool is_listed(int fd) {
  const std::vector<int> found = list_descriptors();
  return std::find(found.begin(), found.end(), fd) != found.end();
}

TEST(OpenSockets, EveryOpenDescriptorIsListed) {
  Fd fd(::eventfd(0, EFD_CLOEXEC));
  const int number = fd.get();
  EXPECT_TRUE(is_listed(number));
  fd.reset();
  EXPECT_FALSE(is_listed(number));
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    EXPECT_FALSE(is_listed(standard));
  }
  for (const int each : list_descriptors()) EXPECT_GE(::fcntl(each, F_GETFD), 0) << each;
}

TEST(OpenSockets, BothEndsOfAConnectionHaveTheAddressThatWasListenedOn) {
  for (const char* host : {"127.0.0.1", "::1"}) {
    Result<Fd> listener = listen_tcp(host, 0, 1);
    if (!listener.ok() && host[0] == ':')
      GTEST_SKIP() << "no IPv6: " << listener.status().message();
    ASSERT_TRUE(listener.ok()) << listener.status().to_string();
    const SocketAddress address = local_address(listener->get());
    const AddressKey key = address_key(address);
    EXPECT_NE(key, kNone);
    EXPECT_EQ(address_key(bytes_of(address)), key);
    EXPECT_EQ(address_key(peer_address(listener->get())), kNone);

    Result<Fd> one = start_connect(address), other = start_connect(address);
    ASSERT_TRUE(one.ok() && other.ok());
    EXPECT_EQ(address_key(peer_address(one->get())), key);
    EXPECT_EQ(address_key(peer_address(other->get())), key);
    EXPECT_NE(address_key(local_address(one->get())), address_key(local_address(other->get())));
    EXPECT_NE(address_key(local_address(one->get())), key);
  }
}

TEST(OpenSockets, NoOtherAddressHasAKey) {
  const Fd unbound(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(address_key(local_address(unbound.get())), kNone) << "no port";
  const Fd named(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(address_key(local_address(named.get())), kNone);
  const Fd event(::eventfd(0, EFD_CLOEXEC));
  EXPECT_EQ(address_key(local_address(event.get())), kNone) << "not a socket";

  Result<Fd> listener = listen_tcp("127.0.0.1", 0, 1);
  ASSERT_TRUE(listener.ok()) << listener.status().to_string();
  const SocketAddress address = local_address(listener->get());
  EXPECT_EQ(address_key(bytes_of(address).substr(0, 7)), kNone) << "cut off";
  EXPECT_EQ(address_key(""), kNone);
}

}  // namespace
}  // namespace te
