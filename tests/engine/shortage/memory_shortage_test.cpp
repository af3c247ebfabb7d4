// Registration when memory runs out at any point: all or none, and the error says so. This program
// has an operator new of its own, which fails when a test wants it to.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "support/facts.h"
#include "transfer_engine_c.h"

namespace {

// Allocations of this thread until one fails; 0: none does.
thread_local int64_t left = 0;
thread_local bool fails_on = false;  // and all after it

bool fails() {
  if (left == 0) return false;
  if (left > 1) {
    --left;
    return false;
  }
  if (!fails_on) left = 0;
  return true;
}

void* take_or_null(size_t size) { return fails() ? nullptr : std::malloc(size == 0 ? 1 : size); }

void* take(size_t size) {
  void* memory = take_or_null(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void* take(size_t size, std::align_val_t alignment) {
  const auto bytes = static_cast<size_t>(alignment);
  void* memory = fails() ? nullptr : std::aligned_alloc(bytes, (size + bytes - 1) / bytes * bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return take(size); }
void* operator new[](size_t size) { return take(size); }
void* operator new(size_t size, std::align_val_t alignment) { return take(size, alignment); }
void* operator new[](size_t size, std::align_val_t alignment) { return take(size, alignment); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return take_or_null(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return take_or_null(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace te::test {
namespace {

constexpr size_t kLength = 64;
constexpr size_t kFirst =
    500;  // registered all the time: the batch needs more room in the registry
constexpr size_t kBatch = 40;

// The n-th allocation of what is called meanwhile fails; `on`: and all later ones.
template <typename Call>
int with_shortage(int64_t n, bool on, Call&& call) {
  left = n;
  fails_on = on;
  const int code = call();
  left = 0;
  return code;
}

class Shortage : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    target_ = create();
    peer_ = create();
    ASSERT_TRUE(target_ != nullptr && peer_ != nullptr);
    for (size_t i = 0; i < kFirst + kBatch; ++i) {
      entries_.push_back({memory_.data() + i * kLength, kLength});
      addresses_.push_back(entries_.back().addr);
    }
    ASSERT_EQ(registerLocalMemoryBatch(target_, entries_.data(), kFirst, "*"), 0);
    ASSERT_EQ(registerLocalMemory(peer_, local_.data(), kLength, "*", REMOTE_ACCESS_NONE), 0);
    char name[128];
    ASSERT_EQ(getLocalIpAndPort(target_, name, sizeof name), 0);
    segment_ = openSegment(peer_, name);
    ASSERT_GE(segment_, 0);
  }
  void TearDown() override {
    destroyTransferEngine(peer_);
    destroyTransferEngine(target_);
  }

  static transfer_engine_t create() {
    return createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0);
  }
  buffer_entry_t* batch() { return entries_.data() + kFirst; }
  size_t buffers() {
    size_t count = 0;
    (void)describeSegment(target_, LOCAL_SEGMENT, nullptr, &count);
    return count;
  }
  void expect_shortage_told(int code) {
    EXPECT_EQ(code, TE_ERR_RESOURCE);
    EXPECT_NE(std::string(transferEngineLastError()).find("out of memory"), std::string::npos)
        << transferEngineLastError();
  }
  // A WRITE of the peer, with what it knows or finds out.
  int write(size_t entry) {
    struct transfer_request request = {OPCODE_WRITE, local_.data(), segment_,
                                       reinterpret_cast<uint64_t>(entries_[entry].addr), kLength};
    submit_options_t options{};
    options.struct_size = sizeof options;
    options.addressing = ADDRESSING_ADDRESS;
    options.timeout_ms = 2'000;
    const batch_id_t id = allocateBatchID(peer_, 1);
    struct transfer_status status = {STATUS_FAILED, 0};
    if (submitTransferWithOptions(peer_, id, &request, 1, &options) == 0) {
      EXPECT_EQ(waitBatch(peer_, id, -1), 0);
      EXPECT_EQ(getTransferStatus(peer_, id, 0, &status), 0);
    }
    EXPECT_EQ(freeBatchID(peer_, id), 0);
    return status.status;
  }

  std::vector<char> memory_ = std::vector<char>((kFirst + kBatch) * kLength);
  std::vector<char> local_ = std::vector<char>(kLength, 'x');
  std::vector<buffer_entry_t> entries_;
  std::vector<void*> addresses_;
  transfer_engine_t target_ = nullptr;
  transfer_engine_t peer_ = nullptr;
  segment_id_t segment_ = -1;
};

TEST_P(Shortage, ABatchIsRegisteredWholeOrNotAtAll) {
  // An older error, which must not be taken for this one.
  EXPECT_NE(unregisterLocalMemory(target_, this), 0);
  int64_t n = 1;
  for (;; ++n) {
    const int code = with_shortage(
        n, GetParam(), [this] { return registerLocalMemoryBatch(target_, batch(), kBatch, "*"); });
    if (code == 0) break;
    ASSERT_NO_FATAL_FAILURE(expect_shortage_told(code)) << n;
    ASSERT_EQ(buffers(), kFirst) << n;
    if (n % 16 == 0) {
      ASSERT_EQ(syncSegmentCache(peer_), 0);
      ASSERT_NE(write(kFirst), STATUS_COMPLETED) << n;
      ASSERT_EQ(memory_[kFirst * kLength], 0) << n;
    }
    // Nothing of it is left in the way.
    for (size_t i = 0; i < kBatch; i += kBatch - 1) {
      ASSERT_EQ(registerLocalMemory(target_, batch()[i].addr, kLength, "*", 1), 0) << n;
      ASSERT_EQ(unregisterLocalMemory(target_, batch()[i].addr), 0) << n;
    }
  }
  EXPECT_GT(n, static_cast<int64_t>(kBatch));
  EXPECT_EQ(buffers(), kFirst + kBatch);
  for (const size_t entry : {size_t{0}, kFirst, kFirst + kBatch - 1}) {
    EXPECT_EQ(write(entry), STATUS_COMPLETED) << entry;
    EXPECT_EQ(memory_[entry * kLength], 'x');
  }
}

TEST_P(Shortage, ABatchIsUnregisteredWholeOrNotAtAll) {
  ASSERT_EQ(registerLocalMemoryBatch(target_, batch(), kBatch, "*"), 0);
  for (int64_t n = 1;; ++n) {
    const int code = with_shortage(n, GetParam(), [this] {
      return unregisterLocalMemoryBatch(target_, addresses_.data() + kFirst, kBatch);
    });
    if (code == 0) break;
    ASSERT_NO_FATAL_FAILURE(expect_shortage_told(code)) << n;
    ASSERT_EQ(buffers(), kFirst + kBatch) << n;
    ASSERT_EQ(write(kFirst), STATUS_COMPLETED) << n;
  }
  EXPECT_EQ(buffers(), kFirst);
  EXPECT_NE(write(kFirst), STATUS_COMPLETED);
}

// A layout full of holes, and memory that is registered again and again.
TEST_P(Shortage, WhatWasTakenBackLeavesTheLayoutAsItWas) {
  for (size_t i = 0; i < kFirst; i += 2) {
    ASSERT_EQ(unregisterLocalMemory(target_, addresses_[i]), 0);
  }
  for (int64_t n = 1;; ++n) {
    const int code = with_shortage(
        n, GetParam(), [this] { return registerLocalMemoryBatch(target_, batch(), kBatch, "*"); });
    if (code == 0) break;
    ASSERT_EQ(code, TE_ERR_RESOURCE);
  }
  std::vector<segment_buffer_t> described(kFirst / 2 + kBatch);
  size_t count = described.size();
  ASSERT_EQ(describeSegment(target_, LOCAL_SEGMENT, described.data(), &count), 0);
  for (size_t i = 0; i < kBatch; ++i) {
    const auto address = reinterpret_cast<uint64_t>(batch()[i].addr);
    for (const segment_buffer_t& buffer : described) {
      if (buffer.address != address) continue;
      EXPECT_EQ(buffer.offset, 2 * i * kLength) << i;
    }
  }
}

TEST_P(Shortage, AllocatedMemoryIsThereOrNot) {
  for (int64_t n = 1;; ++n) {
    void* memory = nullptr;
    with_shortage(n, GetParam(), [&] {
      memory = allocateMemory(target_, 4096, "*", HUGE_PAGES_NO);
      return 0;
    });
    if (memory != nullptr) {
      EXPECT_EQ(freeMemory(target_, memory), 0);
      break;
    }
    ASSERT_NE(std::string(transferEngineLastError()).find("out of memory"), std::string::npos) << n;
    ASSERT_EQ(buffers(), kFirst) << n;
  }
}

// Transports that come and go on an engine with memory, and with a segment open.
class TransportShortage : public Shortage {
 protected:
  // peer_ is the one that changes: it moves bytes to target_ by TCP.
  int install() { return installTransport(peer_, "tcp", nullptr) == nullptr ? -1 : 0; }
  int uninstall() { return uninstallTransport(peer_, "tcp"); }
  void expect_to_work() {
    memory_[0] = 0;
    EXPECT_EQ(write(0), STATUS_COMPLETED) << transferEngineLastError();
    EXPECT_EQ(memory_[0], 'x');
  }
  void expect_threads(size_t count, int64_t n) {
    ASSERT_TRUE(eventually([count] { return thread_count() <= count; }))
        << thread_count() << " threads instead of " << count << " after " << n;
  }
};

TEST_P(TransportShortage, OneIsInstalledWholeOrNotAtAll) {
  ASSERT_EQ(install(), 0);  // what came by itself goes
  ASSERT_EQ(uninstall(), 0);
  const size_t threads = thread_count();
  int64_t n = 1;
  for (;; ++n) {
    const int code = with_shortage(n, GetParam(), [this] { return install(); });
    if (code == 0) break;
    EXPECT_NE(std::string(transferEngineLastError()).find("out of memory"), std::string::npos)
        << n << ": " << transferEngineLastError();
    ASSERT_EQ(uninstall(), TE_ERR_NOT_FOUND) << n;
    ASSERT_NO_FATAL_FAILURE(expect_threads(threads, n));
  }
  EXPECT_GT(n, 10);
  expect_to_work();
}

TEST_P(TransportShortage, OneThatIsTakenAwayStops) {
  ASSERT_EQ(install(), 0);
  ASSERT_EQ(uninstall(), 0);
  const size_t threads = thread_count();
  for (int64_t n = 1;; ++n) {
    ASSERT_EQ(install(), 0) << n << ": " << transferEngineLastError();
    if (n % 4 == 1) expect_to_work();  // with connections, and without
    const int code = with_shortage(n, GetParam(), [this] { return uninstall(); });
    if (code == 0) break;
    ASSERT_NO_FATAL_FAILURE(expect_shortage_told(code)) << n;
    const int again = uninstall();
    ASSERT_TRUE(again == 0 || again == TE_ERR_NOT_FOUND) << n << ": " << transferEngineLastError();
    ASSERT_NO_FATAL_FAILURE(expect_threads(threads, n));
  }
  ASSERT_EQ(install(), 0);
  expect_to_work();
}

INSTANTIATE_TEST_SUITE_P(Once, TransportShortage, testing::Values(false));
INSTANTIATE_TEST_SUITE_P(FromThenOn, TransportShortage, testing::Values(true));

INSTANTIATE_TEST_SUITE_P(Once, Shortage, testing::Values(false));
INSTANTIATE_TEST_SUITE_P(FromThenOn, Shortage, testing::Values(true));

}  // namespace
}  // namespace te::test
