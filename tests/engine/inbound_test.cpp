// Which newcomers an engine's port admits, and who makes place for them.
#include "engine/inbound.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <vector>

namespace te::test {
namespace {

constexpr size_t kLimit = 8;  // of which a network gets 6

Inbound::Network network(uint64_t number) { return {AF_INET, number}; }

class InboundTest : public testing::Test {
 protected:
  void admit(uint64_t number, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      permits_.push_back(Inbound::permit(inbound_, network(number)));
    }
  }
  // What the newcomer needs: "nothing", or the networks of which one connection has to end.
  std::string needs(uint64_t newcomer) {
    const Inbound::Admission admission = inbound_->admission(network(newcomer));
    if (admission.free) return "nothing";
    std::string result;
    for (uint64_t other = 1; other <= 3; ++other) {
      if (inbound_->makes_place(network(other), network(newcomer), admission)) {
        result += std::to_string(other);
      }
    }
    return result;
  }

  std::shared_ptr<Inbound> inbound_ = std::make_shared<Inbound>(kLimit);
  std::vector<std::shared_ptr<void>> permits_;
};

TEST_F(InboundTest, OneNetworkGetsThreeQuartersAtMost) {
  admit(1, 5);
  EXPECT_EQ(needs(1), "nothing");
  admit(1, 1);
  EXPECT_EQ(needs(1), "1");
  EXPECT_EQ(needs(2), "nothing");
}

TEST_F(InboundTest, WhereAllAreTakenANetworkWithMoreMakesPlace) {
  admit(1, 5);
  admit(2, 2);
  admit(3, 1);
  EXPECT_EQ(needs(3), "12");
  EXPECT_EQ(needs(2), "1");
  EXPECT_EQ(needs(1), "") << "nobody has more";
  EXPECT_EQ(needs(9), "123") << "one that is new takes from anybody";
}

TEST_F(InboundTest, AConnectionCountsAsLongAsItsPermitLives) {
  admit(1, 6);
  EXPECT_EQ(needs(1), "1");
  permits_.pop_back();
  EXPECT_EQ(needs(1), "nothing");
  admit(2, 3);
  EXPECT_EQ(needs(3), "12");
  permits_.clear();
  EXPECT_EQ(needs(3), "nothing");
  const std::shared_ptr<void> permit = Inbound::permit(inbound_, network(1));
  inbound_.reset();  // the permit outlives the server
}

}  // namespace
}  // namespace te::test
