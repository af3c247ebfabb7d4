#include "core/layout.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace te {
namespace {

TEST(Layout, PlacesEndToEnd) {
  Layout layout;
  EXPECT_EQ(layout.end(), 0u);
  EXPECT_EQ(layout.place(100), 0u);
  EXPECT_EQ(layout.place(1), 100u);
  EXPECT_EQ(layout.place(1ull << 40), 101u);
  EXPECT_EQ(layout.end(), 101u + (1ull << 40));
}

TEST(Layout, AFreedRangeIsUsedAgainFirstFit) {
  Layout layout;
  for (int i = 0; i < 5; ++i) layout.place(100);
  layout.free(100, 100);
  layout.free(300, 100);
  EXPECT_EQ(layout.place(60), 100u);
  EXPECT_EQ(layout.place(60), 300u);  // 40 bytes at 160 are too few
  EXPECT_EQ(layout.place(40), 160u);
  EXPECT_EQ(layout.place(41), 500u);
  EXPECT_EQ(layout.place(40), 360u);
}

TEST(Layout, NeighboursMerge) {
  for (const std::vector<uint64_t>& order :
       {std::vector<uint64_t>{100, 200, 300}, {300, 200, 100}, {100, 300, 200}, {200, 100, 300}}) {
    Layout layout;
    for (int i = 0; i < 5; ++i) layout.place(100);
    for (const uint64_t offset : order) layout.free(offset, 100);
    EXPECT_EQ(layout.end(), 500u);
    EXPECT_EQ(layout.place(300), 100u);
    EXPECT_EQ(layout.place(1), 500u);
  }
}

TEST(Layout, TheEndMovesBack) {
  Layout layout;
  for (int i = 0; i < 4; ++i) layout.place(100);
  layout.free(100, 100);
  layout.free(300, 100);
  EXPECT_EQ(layout.end(), 300u);
  layout.free(200, 100);  // with the hole before it
  EXPECT_EQ(layout.end(), 100u);
  layout.free(0, 100);
  EXPECT_EQ(layout.end(), 0u);
  EXPECT_EQ(layout.place(7), 0u);
}

// One bool for every byte: nothing cleverer than the rule itself.
class Naive {
 public:
  uint64_t place(uint64_t length) {
    for (uint64_t offset = 0;; ++offset) {
      if (offset + length > used_.size()) used_.resize(offset + length, false);
      uint64_t free = 0;
      while (free < length && !used_[offset + free]) ++free;
      if (free < length) continue;
      for (uint64_t i = 0; i < length; ++i) used_[offset + i] = true;
      return offset;
    }
  }
  void free(uint64_t offset, uint64_t length) {
    for (uint64_t i = 0; i < length; ++i) used_[offset + i] = false;
  }
  uint64_t end() const {
    uint64_t end = used_.size();
    while (end > 0 && !used_[end - 1]) --end;
    return end;
  }

 private:
  std::vector<bool> used_;
};

TEST(Layout, AgreesWithANaiveModel) {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    Layout layout;
    Naive naive;
    std::vector<std::pair<uint64_t, uint64_t>> placed;
    for (int step = 0; step < 400; ++step) {
      if (placed.empty() || random() % 5 < 3) {
        const uint64_t length = 1 + random() % 12;
        const uint64_t offset = layout.place(length);
        ASSERT_EQ(offset, naive.place(length)) << "step " << step;
        placed.emplace_back(offset, length);
      } else {
        const size_t pick = random() % placed.size();
        layout.free(placed[pick].first, placed[pick].second);
        naive.free(placed[pick].first, placed[pick].second);
        placed.erase(placed.begin() + static_cast<ptrdiff_t>(pick));
      }
      ASSERT_EQ(layout.end(), naive.end()) << "step " << step;
    }
  }
}

}  // namespace
}  // namespace te
