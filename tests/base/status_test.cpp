#include "transfer_engine/status.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

#include "transfer_engine_c.h"

namespace te {
namespace {

TEST(Status, OkCostsNothing) {
  const Status ok;
  EXPECT_TRUE(ok.ok());
  EXPECT_EQ(ok.code(), Code::kOk);
  EXPECT_EQ(ok.message(), "");
  EXPECT_EQ(ok.to_string(), "ok");
  EXPECT_TRUE(ok.with_context("opening").ok());
  EXPECT_EQ(sizeof(Status), sizeof(void*));
}

TEST(Status, KeepsCodeAndMessage) {
  const Status status(Code::kNotFound, "no segment 'a'");
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), Code::kNotFound);
  EXPECT_EQ(status.message(), "no segment 'a'");
  EXPECT_EQ(status.to_string(), "not_found: no segment 'a'");
}

TEST(Status, ContextGoesBeforeTheMessage) {
  const Status status(Code::kUnavailable, "refused");
  const Status longer = status.with_context("segment 'a'").with_context("open");
  EXPECT_EQ(longer.code(), Code::kUnavailable);
  EXPECT_EQ(longer.message(), "open: segment 'a': refused");
  EXPECT_EQ(status.message(), "refused");
}

TEST(Status, CopiesAreIndependent) {
  Status first(Code::kBusy, "in use");
  const Status copy = first;
  first = Status();
  EXPECT_TRUE(first.ok());
  EXPECT_EQ(copy.message(), "in use");
}

TEST(Status, EveryCodeHasItsOwnName) {
  std::set<std::string_view> names;
  for (int value = 0; value >= static_cast<int>(Code::kInternal); --value) {
    names.insert(code_name(static_cast<Code>(value)));
  }
  EXPECT_EQ(names.size(), 16u);
  EXPECT_FALSE(names.contains("unknown"));
  EXPECT_EQ(code_name(static_cast<Code>(1)), "unknown");
  EXPECT_EQ(code_name(static_cast<Code>(-16)), "unknown");
}

TEST(Status, NumbersAreThoseOfTheCApi) {
  EXPECT_EQ(static_cast<int>(Code::kInvalidArgument), TE_ERR_INVALID_ARGUMENT);
  EXPECT_EQ(static_cast<int>(Code::kNotFound), TE_ERR_NOT_FOUND);
  EXPECT_EQ(static_cast<int>(Code::kAlreadyExists), TE_ERR_ALREADY_EXISTS);
  EXPECT_EQ(static_cast<int>(Code::kOutOfRange), TE_ERR_OUT_OF_RANGE);
  EXPECT_EQ(static_cast<int>(Code::kPermission), TE_ERR_PERMISSION);
  EXPECT_EQ(static_cast<int>(Code::kUnavailable), TE_ERR_UNAVAILABLE);
  EXPECT_EQ(static_cast<int>(Code::kTimeout), TE_ERR_TIMEOUT);
  EXPECT_EQ(static_cast<int>(Code::kCancelled), TE_ERR_CANCELLED);
  EXPECT_EQ(static_cast<int>(Code::kStale), TE_ERR_STALE);
  EXPECT_EQ(static_cast<int>(Code::kBusy), TE_ERR_BUSY);
  EXPECT_EQ(static_cast<int>(Code::kUnsupported), TE_ERR_UNSUPPORTED);
  EXPECT_EQ(static_cast<int>(Code::kProtocol), TE_ERR_PROTOCOL);
  EXPECT_EQ(static_cast<int>(Code::kNoSpace), TE_ERR_NO_SPACE);
  EXPECT_EQ(static_cast<int>(Code::kResource), TE_ERR_RESOURCE);
  EXPECT_EQ(static_cast<int>(Code::kInternal), TE_ERR_INTERNAL);
}

TEST(Result, HoldsAValueOrAnError) {
  Result<std::unique_ptr<int>> good(std::make_unique<int>(7));
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(good.code(), Code::kOk);
  EXPECT_EQ(**good, 7);
  EXPECT_EQ(*good.take(), 7);

  const Result<std::unique_ptr<int>> bad(Status(Code::kProtocol, "nonsense"));
  EXPECT_FALSE(bad.ok());
  EXPECT_EQ(bad.code(), Code::kProtocol);
  EXPECT_EQ(bad.status().message(), "nonsense");
}

Status pass_on(Status status, bool* reached) {
  TE_RETURN_IF_ERROR(status);
  *reached = true;
  return {};
}

TEST(Result, ReturnIfErrorReturnsOnlyErrors) {
  bool reached = false;
  EXPECT_EQ(pass_on(Status(Code::kBusy, "b"), &reached).code(), Code::kBusy);
  EXPECT_FALSE(reached);
  EXPECT_TRUE(pass_on({}, &reached).ok());
  EXPECT_TRUE(reached);
}

}  // namespace
}  // namespace te
