#include "transport/rails/memory_regions.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <thread>

#include "base/log.h"

namespace te::rails {
namespace {

constexpr uint64_t kPage = 4096;

// Notes what is registered with it.
class FakeNic final : public Nic {
 public:
  explicit FakeNic(std::string device) : device_(std::move(device)) {}

  const std::string& device() const override { return device_; }
  bool present() const override { return present_; }
  uint64_t max_region() const override { return max_region_; }
  Result<std::unique_ptr<MemoryRegion>> register_range(const Buffer&, uint64_t address,
                                                       uint64_t length) override {
    std::unique_lock lock(mutex_);
    ++tries_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !held_; });
    if (length > refuses_above_) return error(Code::kResource, "{} bytes are too large", length);
    if (unsupported_) return error(Code::kUnsupported, "not such memory");
    ranges_.insert({address, length});
    return std::unique_ptr<MemoryRegion>(new Region(*this, address, length));
  }

  Result<std::unique_ptr<MemoryRegion>> register_exported(const Buffer& buffer, uint64_t address,
                                                          uint64_t length,
                                                          const ExportedRange&) override {
    return register_range(buffer, address, length);
  }

  std::multiset<std::pair<uint64_t, uint64_t>> ranges() {
    const std::lock_guard lock(mutex_);
    return ranges_;
  }
  // Registrations do not end before release().
  void hold() { held_ = true; }
  void wait_for_a_try() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return tries_ > 0; });
  }
  void release() {
    const std::lock_guard lock(mutex_);
    held_ = false;
    changed_.notify_all();
  }

  bool present_ = true;
  bool unsupported_ = false;
  uint64_t max_region_ = 1 << 30;
  uint64_t refuses_above_ = UINT64_MAX;
  int tries_ = 0;

 private:
  class Region final : public MemoryRegion {
   public:
    Region(FakeNic& nic, uint64_t address, uint64_t length)
        : MemoryRegion(address + 1, address + 2), nic_(nic), range_(address, length) {}
    ~Region() override {
      const std::lock_guard lock(nic_.mutex_);
      nic_.ranges_.erase(nic_.ranges_.find(range_));
    }

   private:
    FakeNic& nic_;
    const std::pair<uint64_t, uint64_t> range_;
  };

  const std::string device_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false;
  std::multiset<std::pair<uint64_t, uint64_t>> ranges_;
};

class FakeDevice final : public DeviceMemory {
 public:
  MemoryKind kind() const override { return MemoryKind::kCuda; }
  Result<std::unique_ptr<PendingCopies>> start(std::span<const MemoryCopy>) const override {
    return Status(Code::kUnsupported, "no copies");
  }
  Result<ExportedRange> export_range(const std::byte*, size_t) const override {
    return ExportedRange{};
  }
};

class MemoryRegionsTest : public testing::Test {
 protected:
  MemoryRegions make(uint32_t pieces = 4, uint64_t most_bytes = 0) {
    return MemoryRegions({&first_, &second_}, NicAffinity({}, {"first", "second"}, {}), pieces,
                         most_bytes);
  }
  static void describe(Buffer& buffer, uint64_t pages) {
    buffer.address = 0x10000;
    buffer.length = pages * kPage;
    buffer.location = "cpu:0";
  }

  FakeNic first_{"first"}, second_{"second"};
};

TEST_F(MemoryRegionsTest, EveryNicKnowsTheBufferUntilItIsRemoved) {
  MemoryRegions regions = make();
  Buffer buffer;
  describe(buffer, 3);
  const Result<Bytes> key = regions.add(buffer);
  ASSERT_TRUE(key.ok()) << key.status().to_string();
  ASSERT_EQ(key->size(), Key::size(2, 4));
  Key::Place place;
  for (size_t nic = 0; nic < 2; ++nic) {
    ASSERT_TRUE(Key::find(as_bytes(*key).data(), nic, 4, 0x10010, 100, &place));
    EXPECT_EQ(place.key, 0x10002u);
  }
  MemoryRegions::Found last;
  uint64_t length = UINT64_MAX, local_key = 0;
  const auto* inside = reinterpret_cast<const std::byte*>(0x11000);
  ASSERT_TRUE(regions.find(1, inside, &length, &local_key, &last));
  EXPECT_EQ(length, 2 * kPage);
  EXPECT_EQ(local_key, 0x10001u);
  EXPECT_EQ(regions.nics_of(inside).all, 0b11u);
  regions.remove(buffer);
  EXPECT_TRUE(first_.ranges().empty() && second_.ranges().empty());
  EXPECT_FALSE(regions.find(1, inside, &length, &local_key, &last)) << "from what was found before";
  EXPECT_EQ(regions.nics_of(inside).all, 0u);
}

TEST_F(MemoryRegionsTest, ALargeBufferIsRegisteredInEvenPieces) {
  second_.max_region_ = 2 * kPage;
  MemoryRegions regions = make();
  Buffer buffer;
  describe(buffer, 3);
  ASSERT_TRUE(regions.add(buffer).ok());
  const std::multiset<std::pair<uint64_t, uint64_t>> wanted{{0x10000, 2 * kPage}, {0x12000, kPage}};
  EXPECT_EQ(first_.ranges(), wanted);
  EXPECT_EQ(second_.ranges(), wanted);
  MemoryRegions::Found last;
  uint64_t length = 10 * kPage, local_key = 0;
  ASSERT_TRUE(regions.find(0, reinterpret_cast<void*>(0x11800), &length, &local_key, &last));
  EXPECT_EQ(length, 0x800u) << "cut where the piece ends";
  length = 10 * kPage;
  ASSERT_TRUE(regions.find(0, reinterpret_cast<void*>(0x12000), &length, &local_key, &last));
  EXPECT_EQ(length, kPage);
  EXPECT_EQ(local_key, 0x12001u);
  Buffer larger;
  describe(larger, 9);
  const Result<Bytes> refused = regions.add(larger);
  EXPECT_EQ(refused.code(), Code::kResource);
  EXPECT_NE(refused.status().message().find("register smaller buffers"), std::string::npos);
  regions.clear();
  EXPECT_TRUE(first_.ranges().empty());
}

TEST_F(MemoryRegionsTest, SmallerPiecesAreTriedWhereANicDoesNotSayWhatItTakes) {
  second_.max_region_ = 0;
  second_.refuses_above_ = 2 * kPage;
  {
    MemoryRegions regions = make();
    Buffer buffer;
    describe(buffer, 8);
    ASSERT_TRUE(regions.add(buffer).ok());
    EXPECT_EQ(second_.ranges().size(), 4u);
    EXPECT_EQ(first_.ranges(), second_.ranges());
  }
  ASSERT_TRUE(first_.ranges().empty());
  MemoryRegions regions = make(2);
  Buffer buffer;
  describe(buffer, 8);
  EXPECT_EQ(regions.add(buffer).code(), Code::kResource);
  EXPECT_TRUE(first_.ranges().empty() && second_.ranges().empty()) << "whole or not at all";
}

TEST_F(MemoryRegionsTest, WhatANicDoesNotReachOthersMay) {
  first_.unsupported_ = true;
  MemoryRegions regions = make();
  Buffer buffer;
  describe(buffer, 1);
  Result<Bytes> key = regions.add(buffer);
  ASSERT_TRUE(key.ok());
  EXPECT_EQ(Key::nics_of(as_bytes(*key).data()), 0b10u);
  regions.remove(buffer);
  second_.present_ = false;
  key = regions.add(buffer);
  ASSERT_TRUE(key.ok());
  EXPECT_TRUE(key->empty()) << "no NIC reaches it";
}

TEST_F(MemoryRegionsTest, PrivateMemoryHasNoKeyAndIsUsedLocally) {
  MemoryRegions regions = make();
  Buffer buffer;
  describe(buffer, 1);
  buffer.remote = Rights::kNone;
  const Result<Bytes> key = regions.add(buffer);
  ASSERT_TRUE(key.ok());
  EXPECT_TRUE(key->empty());
  EXPECT_EQ(regions.nics_of(reinterpret_cast<void*>(0x10000)).all, 0b11u);
}

TEST_F(MemoryRegionsTest, OfTheSameRangeTheLaterOneIsFound) {
  MemoryRegions regions = make();
  Buffer former, later;
  describe(former, 1);
  describe(later, 2);
  ASSERT_TRUE(regions.add(former).ok());
  ASSERT_TRUE(regions.add(later).ok());
  regions.remove(former);
  MemoryRegions::Found last;
  uint64_t length = UINT64_MAX, local_key = 0;
  ASSERT_TRUE(regions.find(0, reinterpret_cast<void*>(0x10000), &length, &local_key, &last));
  EXPECT_EQ(length, 2 * kPage);
  EXPECT_EQ(first_.ranges().size(), 1u);
}

// Memory that is pinned for seconds is nobody's business but its owner's.
TEST_F(MemoryRegionsTest, NothingWaitsWhileANicRegisters) {
  MemoryRegions regions = make();
  Buffer known, slow;
  describe(known, 1);
  describe(slow, 1);
  slow.address = 0x50000;
  ASSERT_TRUE(regions.add(known).ok());
  first_.tries_ = 0;
  first_.hold();
  std::thread thread([&] { EXPECT_TRUE(regions.add(slow).ok()); });
  first_.wait_for_a_try();
  MemoryRegions::Found last;
  uint64_t length = 1, local_key = 0;
  EXPECT_TRUE(regions.find(0, reinterpret_cast<void*>(0x10000), &length, &local_key, &last));
  EXPECT_EQ(regions.nics_of(reinterpret_cast<void*>(0x50000)).all, 0u) << "not before it is whole";
  regions.remove(known);
  first_.release();
  thread.join();
  EXPECT_EQ(regions.nics_of(reinterpret_cast<void*>(0x50000)).all, 0b11u);
}

TEST_F(MemoryRegionsTest, TellsWhetherAPeersAccessFindsMemory) {
  alignas(64) static std::byte memory[2 * kPage];
  const auto address = reinterpret_cast<uint64_t>(memory);
  MemoryRegions regions = make();
  Buffer buffer;
  buffer.address = address;
  buffer.length = sizeof memory;
  buffer.location = "cpu:0";
  buffer.remote = Rights::kRead;
  ASSERT_TRUE(regions.add(buffer).ok());
  EXPECT_TRUE(regions.may_touch(0, address + 2, address, 100, false));
  EXPECT_FALSE(regions.may_touch(0, address + 2, address, 100, true)) << "for reading only";
  EXPECT_TRUE(regions.may_touch(0, 77, address, 100, true)) << "the NIC refuses another key";
  EXPECT_TRUE(regions.may_touch(0, address + 2, address, UINT64_MAX, true))
      << "and what is outside";
  EXPECT_TRUE(regions.may_touch(9, address + 2, address, 100, true));
}

TEST_F(MemoryRegionsTest, OfMemoryOfADeviceTheProcessorCannotTell) {
  MemoryRegions regions = make();
  Buffer buffer;
  describe(buffer, 1);
  buffer.device = std::make_shared<FakeDevice>();
  const Result<Bytes> key = regions.add(buffer);
  ASSERT_TRUE(key.ok() && !key->empty());
  EXPECT_TRUE(regions.may_touch(0, buffer.address + 2, buffer.address, 100, false));
}

}  // namespace
}  // namespace te::rails
