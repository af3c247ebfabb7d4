#include "transport/tcp/write_grace.h"

#include <gtest/gtest.h>

namespace te::tcp {
namespace {

TEST(WriteGrace, AllThatWereSentByTheFirstWishShareOneTime) {
  WriteGrace grace;
  EXPECT_TRUE(grace.may_finish(5, 10, 1000));
  EXPECT_TRUE(grace.may_finish(5, 12, 1000 + WriteGrace::kNs - 1));
  EXPECT_FALSE(grace.may_finish(9, 12, 1000 + WriteGrace::kNs)) << "of those below 10";
  EXPECT_TRUE(grace.may_finish(10, 12, 1000 + WriteGrace::kNs)) << "it was sent later";
  EXPECT_FALSE(grace.may_finish(11, 12, 1000 + 2 * WriteGrace::kNs));
}

TEST(WriteGrace, ANumberThatIsUsedAgainHasATimeOfItsOwn) {
  WriteGrace grace;
  EXPECT_TRUE(grace.may_finish(5, 10, 0));
  grace.reuse_from(8);
  EXPECT_FALSE(grace.may_finish(7, 10, WriteGrace::kNs));
  EXPECT_TRUE(grace.may_finish(8, 10, WriteGrace::kNs));
  grace.reuse_from(20);
  EXPECT_FALSE(grace.may_finish(8, 10, 2 * WriteGrace::kNs));
}

}  // namespace
}  // namespace te::tcp
