// Both ends of the local socket against peers that do not keep to the protocol.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "support/facts.h"
#include "transport/hostile_shm.h"
#include "transport/shm/warned.h"

namespace te::shm {
namespace {

using test::eventually;

TEST_F(HostileInitiator, OneThatIsNoneIsServed) {
  EXPECT_TRUE(serves());
  EXPECT_EQ(connect_local(instance_ + 1).code(), Code::kNotFound);
}

TEST_F(HostileInitiator, BytesThatAreNoMessageCloseTheSocket) {
  for (const size_t size : {size_t{1}, Message::kSize, Message::kSize + 1, size_t{100'000}}) {
    const Fd socket = connect();
    const std::string bytes(size, 'x');
    ASSERT_EQ(::send(socket.get(), bytes.data(), size, MSG_NOSIGNAL), static_cast<ssize_t>(size));
    EXPECT_TRUE(is_closed(socket.get())) << size;
  }
  EXPECT_TRUE(serves());
}

TEST_F(HostileInitiator, SilenceIsNotWaitedFor) {
  const Fd socket = connect();
  EXPECT_TRUE(is_closed(socket.get()));
  EXPECT_TRUE(serves());
}

TEST_F(HostileInitiator, AWrongTokenIsTurnedAway) {
  const Fd socket = connect();
  const MemoryFile hazards = MemoryFile::create("test", sizeof(HazardPage)).take();
  Message wrong = hello();
  wrong.data[3] ^= 1;
  ASSERT_TRUE(send_message(socket.get(), wrong, hazards.fd()).ok());
  EXPECT_TRUE(is_closed(socket.get()));
}

TEST_F(HostileInitiator, HazardSlotsThatCouldVanishAreTurnedAway) {
  const Fd unsealed(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(unsealed.get(), sizeof(HazardPage)), 0);
  const MemoryFile short_one = MemoryFile::create("test", 1).take();
  ASSERT_EQ(short_one.size(), sizeof(HazardPage)) << "a page is never short";
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const Fd in(pipe[0]), out(pipe[1]);
  for (const int descriptor : {-1, unsealed.get(), in.get()}) {
    const Fd socket = connect();
    ASSERT_TRUE(send_message(socket.get(), hello(), descriptor).ok());
    EXPECT_TRUE(is_closed(socket.get())) << descriptor;
  }
  EXPECT_TRUE(serves());
}

TEST_F(HostileInitiator, MessagesOutOfTurnCloseTheSocket) {
  const MemoryFile hazards = MemoryFile::create("test", sizeof(HazardPage)).take();
  for (const Kind kind : {Kind::kWelcome, Kind::kMap, Kind::kMapped}) {
    const Fd socket = connect();
    Message early = hello();
    early.kind = kind;
    ASSERT_TRUE(send_message(socket.get(), early, hazards.fd()).ok());
    EXPECT_TRUE(is_closed(socket.get()));
  }
  const Fd socket = connect();
  ASSERT_TRUE(send_message(socket.get(), hello(), hazards.fd()).ok());
  ASSERT_TRUE(receive(socket.get()).has_value());
  ASSERT_TRUE(send_message(socket.get(), hello(), hazards.fd()).ok());
  EXPECT_TRUE(is_closed(socket.get())) << "twice";
}

TEST_F(HostileInitiator, RangesThatAreNotMappedAreNotGiven) {
  const Fd socket = connect();
  const MemoryFile hazards = MemoryFile::create("test", sizeof(HazardPage)).take();
  ASSERT_TRUE(send_message(socket.get(), hello(), hazards.fd()).ok());
  ASSERT_TRUE(receive(socket.get()).has_value());
  Message request;
  request.kind = Kind::kMap;
  for (const uint32_t index : {0u, 77u, UINT32_MAX}) {
    request.index = index;
    ASSERT_TRUE(send_message(socket.get(), request).ok());
    const std::optional<Received> answer = receive(socket.get());
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->message.code, Code::kStale);
    EXPECT_FALSE(answer->descriptor.valid());
  }
}

TEST_F(HostileInitiator, TheyAreLimited) {
  const size_t descriptors = test::open_descriptors();
  std::vector<Fd> sockets;
  for (int i = 0; i < 4; ++i) sockets.push_back(connect());
  const Fd last = connect();
  EXPECT_TRUE(is_closed(last.get()));
  for (const Fd& socket : sockets) EXPECT_TRUE(is_closed(socket.get()));
  sockets.clear();
  EXPECT_TRUE(eventually([&] { return test::open_descriptors() <= descriptors + 1; }));
  EXPECT_TRUE(serves());
}

// It names a range and stands still, closes its socket while it does, and at last lets go.
TEST_F(HostileInitiator, WhatItTouchesIsWaitedForEvenWhenItsSocketIsClosed) {
  Fd socket = connect();
  const MemoryFile hazards = MemoryFile::create("test", sizeof(HazardPage)).take();
  ASSERT_TRUE(send_message(socket.get(), hello(), hazards.fd()).ok());
  ASSERT_TRUE(receive(socket.get()).has_value());
  Buffer buffer;
  buffer.address = 0x1000;
  buffer.length = 16;
  const RangeKey key = table_->add(buffer).take(), other = table_->add(buffer).take();
  auto& page = *reinterpret_cast<HazardPage*>(hazards.data());
  page.slots[63].ranges[15].store(key.index + 1);
  socket.reset();
  ASSERT_TRUE(table_->remove(other));
  EXPECT_TRUE(responder_->wait_until_unused(other.index, kNever).ok());
  ASSERT_TRUE(table_->remove(key));
  std::atomic<bool> returned{false};
  std::thread waiter([&] {
    EXPECT_TRUE(responder_->wait_until_unused(key.index, kNever).ok());
    returned = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(returned.load());
  page.slots[63].ranges[15].store(0);
  waiter.join();
  EXPECT_TRUE(returned.load());
}

TEST_F(HostileTarget, SilenceIsWaitedForAsLongAsAllowed) {
  const int64_t begin = now_ns();
  EXPECT_EQ(connect([](int) {}, 100).code(), Code::kUnavailable);
  EXPECT_GE(now_ns() - begin, 90 * kNsPerMs);
}

TEST_F(HostileTarget, GarbageIsNoAnswer) {
  EXPECT_EQ(connect([](int socket) { ::send(socket, "garbage", 7, MSG_NOSIGNAL); }).code(),
            Code::kProtocol);
  EXPECT_EQ(connect([this](int socket) {
              (void)send_message(socket, welcome(advertisement_.cookie.data()));
            }).code(),
            Code::kProtocol)
      << "without a table";
  EXPECT_EQ(connect([this](int socket) {
              Message wrong = welcome(advertisement_.cookie.data());
              wrong.kind = Kind::kMapped;
              (void)send_message(socket, wrong, table_->fd());
            }).code(),
            Code::kProtocol);
  EXPECT_EQ(connect([this](int) { socket_.reset(); }).code(), Code::kUnavailable);
}

TEST_F(HostileTarget, ATableThatIsShortOrCouldBeIsNotMapped) {
  const MemoryFile small = MemoryFile::create("test", 4096).take();
  const Fd unsealed(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(unsealed.get(), kTableBytes), 0);
  for (const int descriptor : {small.fd(), unsealed.get()}) {
    EXPECT_EQ(connect([this, descriptor](int socket) {
                (void)send_message(socket, welcome(advertisement_.cookie.data()), descriptor);
              }).code(),
              Code::kProtocol);
  }
}

TEST_F(HostileTarget, AProcessThatDoesNotHaveTheCookieIsNotTheTarget) {
  const Advertisement other = make_offer();
  const std::array<uint8_t, 32> wrong{};
  for (const void* cookie :
       {static_cast<const void*>(wrong.data()), static_cast<const void*>(nullptr)}) {
    EXPECT_EQ(connect([&](int socket) {
                (void)send_message(socket, welcome(cookie), table_->fd());
              }).code(),
              Code::kProtocol);
  }
  EXPECT_TRUE(connect([&](int socket) {
                (void)send_message(socket, welcome(other.cookie.data()), table_->fd());
              }).ok());
}

// Answers about files that nobody asked for, or files that could vanish under the reader.
TEST_F(HostileTarget, AFileThatCouldVanishIsNotMapped) {
  Result<std::shared_ptr<Link>> connected = connect([this](int socket) {
    (void)send_message(socket, welcome(advertisement_.cookie.data()), table_->fd());
  });
  ASSERT_TRUE(connected.ok());
  Link& link = **connected;
  std::atomic<int> answered{0}, failed{0};
  ASSERT_TRUE(
      link.watch({.failed = [&](const Status&) { ++failed; }, .mapped = [&] { ++answered; }}).ok());
  bool waits = false;
  Buffer buffer;
  buffer.address = 0x1000;
  buffer.length = 4096;
  RangeKey key = table_->add(buffer).take();
  key.way = Way::kMapped;
  EXPECT_TRUE(link.may_map(key));
  EXPECT_EQ(link.find_mapping(key, [&] { waits = true; }).code, Code::kBusy);
  EXPECT_TRUE(waits);
  std::optional<Received> request = receive(socket_.get());
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->message.kind, Kind::kMap);
  EXPECT_EQ(request->message.index, key.index);
  const Fd unsealed(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(unsealed.get(), 4096), 0);
  Message answer = request->message;
  answer.kind = Kind::kMapped;
  answer.value = 4096;
  ASSERT_TRUE(send_message(socket_.get(), answer, unsealed.get()).ok());
  EXPECT_TRUE(eventually([&] { return answered.load() == 1; }));
  const Link::Mapped found = link.find_mapping(key, [] { FAIL() << "it was answered"; });
  EXPECT_EQ(found.memory, nullptr);
  EXPECT_EQ(found.code, Code::kProtocol);
  EXPECT_FALSE(link.may_map(key));
  EXPECT_TRUE(link.alive());
  ASSERT_TRUE(send_message(socket_.get(), answer, unsealed.get()).ok());
  EXPECT_TRUE(eventually([&] { return failed.load() == 1; })) << "nobody asked again";
  EXPECT_FALSE(link.alive());
  EXPECT_EQ(link.find_mapping({4, 7, Way::kMapped}, [] { FAIL(); }).code, Code::kUnavailable);
  link.close();
}

TEST_F(HostileTarget, ItsEndIsNoticedAndAllThatWaitsIsTold) {
  Result<std::shared_ptr<Link>> connected = connect([this](int socket) {
    (void)send_message(socket, welcome(advertisement_.cookie.data()), table_->fd());
  });
  ASSERT_TRUE(connected.ok());
  Link& link = **connected;
  std::atomic<int> failed{0};
  ASSERT_TRUE(link.watch({.failed = [&](const Status&) { ++failed; }, .mapped = [] {}}).ok());
  const RangeKey key{3, 7, Way::kMapped};
  EXPECT_EQ(link.find_mapping(key, [] {}).code, Code::kBusy);
  socket_.reset();
  EXPECT_TRUE(eventually([&] { return failed.load() == 1; }));
  EXPECT_FALSE(link.alive());
  EXPECT_EQ(link.find_mapping(key, [] { FAIL(); }).code, Code::kUnavailable);
  link.close();
}

TEST(ShmWarned, EachPeerIsWarnedOfOnceAndNotTooMany) {
  Warned warned;
  EXPECT_TRUE(warned.add("10.0.0.1:1"));
  EXPECT_TRUE(warned.add("10.0.0.2:1"));
  EXPECT_FALSE(warned.add("10.0.0.1:1"));
  int lines = 2;
  for (int i = 0; i < 100'000; ++i) lines += warned.add(std::to_string(i)) ? 1 : 0;
  EXPECT_EQ(lines, 1'000);
}

}  // namespace
}  // namespace te::shm
