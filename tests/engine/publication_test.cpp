#include "engine/publication.h"

#include <gtest/gtest.h>

#include <vector>

#include "engine/pair.h"

namespace te::test {
namespace {

// Remembers what was asked of it.
class Recorder final : public Directory {
 public:
  explicit Recorder(std::vector<std::string>& calls) : calls_(calls) {}
  std::string describe() const override { return "a recorder"; }
  Status publish(std::string_view name, const Locator&,
                 const std::function<bool(const Locator&)>&) override {
    calls_.push_back("publish " + std::string(name));
    return {};
  }
  Status leave() override {
    calls_.emplace_back("leave");
    return {};
  }
  Status withdraw(std::string_view name) override {
    calls_.push_back("withdraw " + std::string(name));
    return {};
  }
  Result<Locator> resolve(std::string_view) override { return Locator(); }
  bool asks_a_server() const override { return false; }
  std::string local_address() const override { return {}; }

 private:
  std::vector<std::string>& calls_;
};

class PublicationTest : public testing::Test {
 protected:
  PublicationTest() : publication_(std::make_unique<Recorder>(calls_)) {
    publication_.set_name("node");
  }

  std::vector<std::string> calls_;
  Publication publication_;
};

TEST_F(PublicationTest, ANameIsWithdrawnOnce) {
  EXPECT_TRUE(fails_with(publication_.remove(), Code::kNotFound, "'node' is not published"));
  publication_.withdraw();
  EXPECT_TRUE(calls_.empty());
  ASSERT_TRUE(publication_.publish({"10.0.0.1", 1, 1}, nullptr).ok());
  EXPECT_TRUE(publication_.remove().ok());
  EXPECT_EQ(publication_.remove().code(), Code::kNotFound);
  publication_.withdraw();
  EXPECT_EQ(calls_, (std::vector<std::string>{"publish node", "withdraw node"}));
}

TEST_F(PublicationTest, TheEndLeavesTheDirectory) {
  ASSERT_TRUE(publication_.publish({"10.0.0.1", 1, 1}, nullptr).ok());
  publication_.begin_leave();
  publication_.withdraw();
  publication_.finish_leave();
  EXPECT_EQ(calls_, (std::vector<std::string>{"publish node", "leave"}));
}

}  // namespace
}  // namespace te::test
