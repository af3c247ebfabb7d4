// The requests of a run are those of its seed.
#include "soak/request_plan.h"

#include <gtest/gtest.h>

#include <set>
#include <utility>

namespace te::soak {
namespace {

constexpr Shape kShape = {3, 2, 3};

std::string described(uint64_t seed, size_t writer) {
  std::string text;
  for (uint64_t number = 0; number < 200; ++number) {
    const PlannedBatch batch = plan_batch(seed, writer, number, kShape);
    text += std::to_string(batch.target) + "/" + std::to_string(batch.timeout_ms) + "/" +
            std::to_string(batch.cancel_after_us) + "/" + std::to_string(batch.pause_us);
    for (const PlannedRequest& request : batch.requests) {
      text +=
          (request.write ? " W" : " R") + std::to_string(request.buffer * kSlots + request.slot);
    }
    text += "\n";
  }
  return text;
}

TEST(RequestPlan, IsAFunctionOfSeedAndWriter) {
  EXPECT_EQ(described(1, 2), described(1, 2));
  EXPECT_NE(described(1, 2), described(2, 2));
  EXPECT_NE(described(1, 2), described(1, 3));
}

TEST(RequestPlan, NamesNoRangeTwiceInABatch) {
  std::set<size_t> targets, ranges;
  for (uint64_t number = 0; number < 2'000; ++number) {
    const PlannedBatch batch = plan_batch(9, 1, number, kShape);
    targets.insert(batch.target);
    std::set<std::pair<size_t, size_t>> of_batch;
    for (const PlannedRequest& request : batch.requests) {
      EXPECT_TRUE(of_batch.emplace(request.buffer, request.slot).second);
      ranges.insert(request.buffer * kSlots + request.slot);
    }
  }
  EXPECT_EQ(targets.size(), kShape.targets);
  EXPECT_EQ(ranges.size(), kBuffers * kSlots) << "every range is used";
}

TEST(Shape, PlacesDoNotOverlap) {
  std::set<uint64_t> ids;
  size_t end = 0;
  for (size_t writer = 0; writer < kShape.writers(); ++writer) {
    for (size_t slot = 0; slot < kSlots; ++slot) {
      const Place place = {1, kKept, writer, slot};
      EXPECT_GE(place.offset(), end);
      end = place.offset() + place.length();
      EXPECT_TRUE(ids.insert(place.id()).second);
    }
  }
  EXPECT_LE(end, kShape.buffer_bytes());
}

}  // namespace
}  // namespace te::soak
