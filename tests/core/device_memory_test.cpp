#include "core/device_memory.h"

#include <gtest/gtest.h>

namespace te {
namespace {

TEST(AddCopy, OnesThatFollowEachOtherAtBothEndsAreOne) {
  std::byte to[64], from[64];
  std::vector<MemoryCopy> copies;
  add_copy(copies, {to, from, 8});
  add_copy(copies, {to + 8, from + 8, 4});
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies.front().length, 12u);
  add_copy(copies, {to + 12, from + 16, 4});
  add_copy(copies, {to + 20, from + 20, 4});
  add_copy(copies, {to + 16, from + 12, 4});
  ASSERT_EQ(copies.size(), 4u);
  EXPECT_EQ(copies.back().to, to + 16);
  EXPECT_EQ(copies.front().length, 12u);
}

}  // namespace
}  // namespace te
