#include "core/registry.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "core/descriptor.h"

namespace te {
namespace {

Buffer* must_add(Registry& registry, uint64_t address, uint64_t length) {
  Result<Buffer*> buffer = registry.add(address, length, "cpu:0", Rights::kBoth);
  EXPECT_TRUE(buffer.ok()) << buffer.status().to_string();
  return buffer.ok() ? *buffer : nullptr;
}

TEST(Registry, FindsWhatWasAdded) {
  Registry registry;
  EXPECT_EQ(registry.find(1000), nullptr);
  EXPECT_EQ(registry.find_exact(1000), nullptr);
  EXPECT_EQ(registry.next_after(0), nullptr);
  Result<Buffer*> added = registry.add(1000, 100, "cpu:1", Rights::kRead);
  ASSERT_TRUE(added.ok());
  Buffer* buffer = *added;
  EXPECT_EQ(buffer->address, 1000u);
  EXPECT_EQ(buffer->length, 100u);
  EXPECT_EQ(buffer->offset, 0u);
  EXPECT_EQ(buffer->location, "cpu:1");
  EXPECT_EQ(buffer->remote, Rights::kRead);
  EXPECT_EQ(registry.find(999), nullptr);
  EXPECT_EQ(registry.find(1000), buffer);
  EXPECT_EQ(registry.find(1099), buffer);
  EXPECT_EQ(registry.find(1100), nullptr);
  EXPECT_EQ(registry.find_exact(1000), buffer);
  EXPECT_EQ(registry.find_exact(1001), nullptr);
  EXPECT_EQ(registry.next_after(0), buffer);
  EXPECT_EQ(registry.next_after(1099), buffer);
  EXPECT_EQ(registry.next_after(1100), nullptr);
}

TEST(Registry, OverlapsAreRefusedAndNamed) {
  Registry registry;
  must_add(registry, 1000, 100);
  const std::pair<uint64_t, uint64_t> overlapping[] = {{1000, 100}, {1000, 1},  {1099, 1},
                                                       {1099, 100}, {901, 100}, {900, 300},
                                                       {1050, 10},  {1, 5000}};
  for (const auto& [address, length] : overlapping) {
    const Result<Buffer*> buffer = registry.add(address, length, "*", Rights::kBoth);
    ASSERT_FALSE(buffer.ok()) << address << "+" << length;
    EXPECT_EQ(buffer.code(), Code::kAlreadyExists);
    EXPECT_NE(buffer.status().message().find("100 bytes at 0x3e8"), std::string::npos)
        << buffer.status().message();
  }
  EXPECT_EQ(registry.size(), 1u);
  EXPECT_EQ(registry.layout_end(), 100u);
  must_add(registry, 900, 100);
  must_add(registry, 1100, 100);
}

TEST(Registry, ImpossibleRangesAreRefused) {
  Registry registry;
  for (const auto& [address, length] : {std::pair<uint64_t, uint64_t>{0, 10},
                                        {1000, 0},
                                        {0, 0},
                                        {UINT64_MAX, 2},
                                        {1000, UINT64_MAX},
                                        {1000, UINT64_MAX - 998}}) {
    const Result<Buffer*> buffer = registry.add(address, length, "*", Rights::kBoth);
    ASSERT_FALSE(buffer.ok()) << address << "+" << length;
    EXPECT_EQ(buffer.code(), Code::kInvalidArgument) << buffer.status().to_string();
  }
  EXPECT_EQ(registry.size(), 0u);
  EXPECT_EQ(registry.layout_end(), 0u);
}

TEST(Registry, OffsetsFollowTheOrderOfRegistrationAndAreUsedAgain) {
  Registry registry;
  EXPECT_EQ(must_add(registry, 9000, 10)->offset, 0u);
  Buffer* middle = must_add(registry, 1000, 20);
  EXPECT_EQ(middle->offset, 10u);
  EXPECT_EQ(must_add(registry, 5000, 30)->offset, 30u);
  registry.remove(middle);
  EXPECT_EQ(must_add(registry, 2000, 15)->offset, 10u);
  EXPECT_EQ(registry.layout_end(), 60u);
}

TEST(Registry, TheLastUseWakesWhoCloses) {
  Buffer buffer;
  buffer.users = 2 | Buffer::kClosing;
  EXPECT_TRUE(buffer.closing());
  std::atomic<bool> unused{false};
  std::thread closer([&] {
    buffer.wait_until_unused();
    unused = true;
  });
  buffer.release();
  EXPECT_FALSE(unused);
  buffer.release();
  closer.join();
  EXPECT_TRUE(unused);
  EXPECT_EQ(buffer.users, Buffer::kClosing);
}

// The same operations on a std::map, whose answers are taken as right.
class Model {
 public:
  using Map = std::map<uint64_t, Buffer*>;
  bool overlaps(uint64_t address, uint64_t length) const {
    const auto next = map_.lower_bound(address);
    if (next != map_.end() && next->first < address + length) return true;
    return next != map_.begin() && end_of(std::prev(next)) > address;
  }
  Buffer* find(uint64_t address) const {
    const auto after = map_.upper_bound(address);
    if (after == map_.begin()) return nullptr;
    return end_of(std::prev(after)) > address ? std::prev(after)->second : nullptr;
  }
  const Buffer* next_after(uint64_t address) const {
    if (Buffer* inside = find(address)) return inside;
    const auto after = map_.upper_bound(address);
    return after == map_.end() ? nullptr : after->second;
  }
  Map& map() { return map_; }

 private:
  static uint64_t end_of(Map::const_iterator at) { return at->first + at->second->length; }
  Map map_;
};

void expect_same(const Registry& registry, Model& model, const std::vector<uint64_t>& addresses) {
  for (const uint64_t address : addresses) {
    ASSERT_EQ(registry.find(address), model.find(address)) << address;
    ASSERT_EQ(registry.next_after(address), model.next_after(address)) << address;
    Buffer* found = model.find(address);
    Buffer* exact = found != nullptr && found->address == address ? found : nullptr;
    ASSERT_EQ(registry.find_exact(address), exact) << address;
  }
  ASSERT_EQ(registry.size(), model.map().size());
  auto expected = model.map().begin();
  bool same = true;
  registry.for_each([&](const Buffer& buffer) {
    same = same && expected != model.map().end() && expected->second == &buffer;
    if (expected != model.map().end()) ++expected;
  });
  EXPECT_TRUE(same && expected == model.map().end());
}

constexpr uint64_t kMany = 100'000;

// Adds `kMany` buffers of 64 bytes, 96 bytes apart, in the given order; then removes every second.
void check_many(const std::vector<uint64_t>& order) {
  Registry registry;
  Model model;
  for (const uint64_t i : order) {
    Buffer* buffer = must_add(registry, 4096 + i * 96, 64);
    ASSERT_NE(buffer, nullptr);
    model.map()[buffer->address] = buffer;
  }
  EXPECT_EQ(registry.layout_end(), kMany * 64);
  std::vector<uint64_t> addresses;
  for (uint64_t i = 0; i < kMany; ++i) {
    addresses.insert(addresses.end(), {4096 + i * 96, 4096 + i * 96 + 63, 4096 + i * 96 + 64});
  }
  addresses.insert(addresses.end(), {0, 4095, UINT64_MAX});
  expect_same(registry, model, addresses);
  for (size_t i = 0; i < order.size(); i += 2) {
    const auto at = model.map().find(4096 + order[i] * 96);
    registry.remove(at->second);
    model.map().erase(at);
  }
  expect_same(registry, model, addresses);
  while (!model.map().empty()) {
    const auto at = model.map().begin();
    registry.remove(at->second);
    model.map().erase(at);
  }
  EXPECT_EQ(registry.size(), 0u);
  EXPECT_EQ(registry.layout_end(), 0u);
  EXPECT_EQ(registry.find(4096), nullptr);
  must_add(registry, 4096, 64);
}

std::vector<uint64_t> ascending() {
  std::vector<uint64_t> order(kMany);
  for (uint64_t i = 0; i < kMany; ++i) order[i] = i;
  return order;
}

TEST(Registry, ManyInAscendingOrder) { check_many(ascending()); }

TEST(Registry, ManyInDescendingOrder) {
  std::vector<uint64_t> order = ascending();
  std::reverse(order.begin(), order.end());
  check_many(order);
}

TEST(Registry, ManyInRandomOrder) {
  std::vector<uint64_t> order = ascending();
  std::shuffle(order.begin(), order.end(), std::mt19937(1));
  check_many(order);
}

TEST(Registry, AgreesWithAModelUnderRandomOperations) {
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    Registry registry;
    Model model;
    for (int step = 0; step < 20'000; ++step) {
      const uint64_t address = 1 + random() % 200'000;
      if (random() % 4 != 0) {
        const uint64_t length = 1 + random() % 60;
        const bool overlaps = model.overlaps(address, length);
        const Result<Buffer*> buffer = registry.add(address, length, "*", Rights::kBoth);
        ASSERT_EQ(buffer.ok(), !overlaps) << "step " << step;
        if (buffer.ok()) model.map()[address] = *buffer;
      } else if (Buffer* found = model.find(address)) {
        model.map().erase(found->address);
        registry.remove(found);
      }
    }
    std::vector<uint64_t> addresses;
    for (int i = 0; i < 5'000; ++i) addresses.push_back(random() % 201'000);
    expect_same(registry, model, addresses);
  }
}

TEST(Location, IsChecked) {
  EXPECT_EQ(*parse_location("*", 2), std::nullopt);
  EXPECT_EQ(*parse_location("cpu:0", 2), 0u);
  EXPECT_EQ(*parse_location("cpu:1", 2), 1u);
  for (const char* bad : {"", "cpu", "cpu:", "cpu:x", "cpu:-1", "cpu:+1", "cpu:1 ", " cpu:1",
                          "CPU:0", "gpu:0", "cuda", "cuda:", "**", "cpu:0:0", "cpu:99999999999"}) {
    const Status status = parse_location(bad, 2).status();
    ASSERT_FALSE(status.ok()) << bad;
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << bad;
    EXPECT_NE(status.message().find("'" + std::string(bad) + "'"), std::string::npos);
  }
  const Status beyond = parse_location("cpu:2", 2).status();
  EXPECT_EQ(beyond.code(), Code::kInvalidArgument);
  EXPECT_NE(beyond.message().find("cpu:0 to cpu:1"), std::string::npos) << beyond.message();
  EXPECT_EQ(parse_location("cuda:0", 2).code(), Code::kUnsupported);
  const MemoryKinds both{MemoryKind::kHost, MemoryKind::kCuda};
  EXPECT_EQ(*parse_location("cuda:0", 2, both), std::nullopt);
  EXPECT_EQ(parse_location("cuda:x", 2, both).code(), Code::kInvalidArgument);
}

TEST(Registry, WhatIsTheEnginesOwnHasNoPlaceInTheLayout) {
  Registry registry;
  ASSERT_TRUE(registry.add(0x1000, 0x100, "*", Rights::kBoth).ok());
  const Result<Buffer*> own = registry.add(0x5000, 0x100, "*", Rights::kBoth, true);
  ASSERT_TRUE(own.ok());
  EXPECT_EQ((*own)->offset, Descriptor::kOwnOffsets + 0x5000);
  EXPECT_EQ(registry.layout_end(), 0x100u);
  const Result<Buffer*> next = registry.add(0x8000, 0x100, "*", Rights::kBoth);
  ASSERT_TRUE(next.ok());
  EXPECT_EQ((*next)->offset, 0x100u);
  EXPECT_EQ(registry.add(0x5080, 0x100, "*", Rights::kBoth).code(), Code::kAlreadyExists);
  registry.remove(*own);
  EXPECT_EQ(registry.find(0x5000), nullptr);
  EXPECT_EQ(registry.layout_end(), 0x200u);
}

}  // namespace
}  // namespace te
