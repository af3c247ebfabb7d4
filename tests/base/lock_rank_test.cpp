#include "base/lock_rank.h"

#include <gtest/gtest.h>

#include "base/mutex.h"

namespace te {
namespace {

// What other builds leave out.
#if defined(TE_CHECKS_LOCK_ORDER)

TEST(LockRankDeathTest, ABreachNamesBothLocks) {
  Mutex batch(LockRank::kBatch);
  SharedMutex segments(LockRank::kSegments);
  Mutex leaf, other;
  {
    const MutexLock outer(batch);
    const ReaderLock inner(segments);
    const MutexLock last(leaf);
  }
  EXPECT_DEATH(
      {
        const ReaderLock outer(segments);
        const MutexLock inner(batch);
      },
      "holds a lock of rank 'the open segments' waits for one of rank 'a batch'");
  EXPECT_DEATH(
      {
        const MutexLock outer(leaf);
        const MutexLock inner(other);
      },
      "a leaf");
}

TEST(LockRankDeathTest, ALockThatIsTriedWaitsForNobody) {
  Mutex leaf, other;
  const MutexLock outer(leaf);
  ASSERT_TRUE(other.try_lock());
  other.unlock();
}

#endif

}  // namespace
}  // namespace te
