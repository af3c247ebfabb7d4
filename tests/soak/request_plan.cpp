#include "soak/request_plan.h"

namespace te::soak {
namespace {

constexpr int64_t kTimeoutsMs[] = {150, 300, 700, 1'500, 4'000};
constexpr size_t kRequestsMax = 4;

// Standard distributions differ between libraries; this does not.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed) {}

  uint64_t below(uint64_t limit) { return next() % limit; }
  bool percent(uint64_t chance) { return below(100) < chance; }

 private:
  uint64_t next() {
    state_ += 0x9e3779b97f4a7c15;
    uint64_t word = state_;
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
    word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
    return word ^ (word >> 31);
  }

  uint64_t state_;
};

}  // namespace

PlannedBatch plan_batch(uint64_t seed, size_t writer, uint64_t number, const Shape& shape) {
  Dice dice(seed * 0xd6e8feb86659fd93 + writer * 0xa0761d6478bd642f + number);
  PlannedBatch batch;
  batch.target = dice.below(shape.targets);
  batch.timeout_ms = kTimeoutsMs[dice.below(std::size(kTimeoutsMs))];
  batch.wait = static_cast<WaitStyle>(dice.below(4));
  if (dice.percent(5)) batch.cancel_after_us = static_cast<int64_t>(dice.below(20'000));
  batch.notify = dice.percent(10);
  batch.pause_us = static_cast<int64_t>(dice.below(4'000));
  const size_t count = dice.percent(70) ? 1 : 2 + dice.below(kRequestsMax - 1);
  size_t range = dice.below(kBuffers * kSlots);
  for (size_t i = 0; i < count; ++i) {
    // A step that shares no factor with the number of ranges gives distinct ones.
    range = (range + (i == 0 ? 0 : 5)) % (kBuffers * kSlots);
    PlannedRequest request;
    request.write = dice.percent(60);
    request.buffer = range / kSlots;
    request.slot = range % kSlots;
    request.fragile_source = dice.percent(15);
    batch.requests.push_back(request);
  }
  return batch;
}

}  // namespace te::soak
