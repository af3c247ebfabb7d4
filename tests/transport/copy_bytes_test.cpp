#include "transport/copy_bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "support/bytes.h"

namespace te::test {
namespace {

TEST(CopyBytes, IsExactAtEveryAlignmentAndLength) {
  constexpr size_t kRoom = 5000;
  std::vector<std::byte> from(kRoom), to(kRoom);
  for (const CopyWay way : {CopyWay::kMemcpy, CopyWay::kStreaming, CopyWay::kStreamingAhead}) {
    for (const size_t length :
         std::initializer_list<size_t>{0, 1, 63, 64, 255, 256, 257, 319, 4096, 4097}) {
      for (size_t shift = 0; shift < 67; shift += 3) {
        stamp(from.data(), kRoom, length + shift);
        std::fill(to.begin(), to.end(), std::byte{0xEE});
        copy_bytes(to.data() + shift, from.data() + 2 * shift, length, way);
        ASSERT_TRUE(std::equal(to.begin() + static_cast<ptrdiff_t>(shift),
                               to.begin() + static_cast<ptrdiff_t>(shift + length),
                               from.begin() + static_cast<ptrdiff_t>(2 * shift)));
        ASSERT_EQ(to[shift + length], std::byte{0xEE});
        if (shift > 0) {
          ASSERT_EQ(to[shift - 1], std::byte{0xEE});
        }
      }
    }
  }
}

}  // namespace
}  // namespace te::test
