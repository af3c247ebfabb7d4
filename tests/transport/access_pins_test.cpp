#include "transport/tcp/access_pins.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace te::tcp {
namespace {

TEST(AccessPins, ARangeStaysRegisteredUntilItIsReleased) {
  AccessTable table;
  const AccessKey key = *table.add(0x1000, 100, Rights::kRead);
  AccessPins pins(table);
  const RequestEntry entry{0x1000, 10, key}, behind{0x1010, 10, key};
  EXPECT_EQ(pins.pin(entry, Rights::kRead), Code::kOk);
  EXPECT_EQ(pins.pin(behind, Rights::kRead), Code::kOk);
  std::atomic<bool> removed{false};
  std::thread remover([&] {
    table.remove(key);
    removed = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_FALSE(removed.load());
  pins.release();
  remover.join();
  EXPECT_EQ(pins.pin(entry, Rights::kRead), Code::kStale);
}

TEST(AccessPins, WhatIsNotAllowedIsNotPinned) {
  AccessTable table;
  const AccessKey key = *table.add(0x1000, 100, Rights::kRead);
  {
    AccessPins pins(table);
    EXPECT_EQ(pins.pin({0x1000, 10, key}, Rights::kWrite), Code::kPermission);
    EXPECT_EQ(pins.pin({0x1000, 101, key}, Rights::kRead), Code::kOutOfRange);
    EXPECT_EQ(pins.pin({0x1000, 10, key}, Rights::kRead), Code::kOk);
  }
  table.remove(key);  // waits for nobody: the pins ended
}

}  // namespace
}  // namespace te::tcp
