// Look-ups that hang, beside others.
#include "engine/finder.h"

#include <gtest/gtest.h>

#include "engine/answer.h"
#include "support/engines.h"
#include "support/facts.h"
#include "support/hanging_directory.h"

namespace te::test {
namespace {

class FinderTest : public testing::Test {
 protected:
  using Answered = std::shared_ptr<Answer<Result<Finder::Place>>>;

  void SetUp() override {
    directory_->place = {"127.0.0.1", 1, 2};
    directory_->hang(true);
    ASSERT_TRUE(loop_->start().ok());
    ASSERT_TRUE(finder_->start().ok());
  }
  void TearDown() override {
    directory_->hang(false);
    finder_.reset();
    loop_->stop();
  }
  Answered find(const std::string& name, bool slow = false) {
    auto answer = std::make_shared<Answer<Result<Finder::Place>>>();
    loop_->run([this, name, slow, answer] {
      finder_->find(name, slow,
                    [answer](Result<Finder::Place> place) { answer->set(std::move(place)); });
    });
    return answer;
  }

  static constexpr int kHanging = 64;
  const std::unique_ptr<EventLoop> loop_ = EventLoop::create("te-test").take();
  const std::shared_ptr<HangingDirectory> directory_ = std::make_shared<HangingDirectory>("slow");
  std::unique_ptr<Finder> finder_ = std::make_unique<Finder>(*loop_, directory_);
};

TEST_F(FinderTest, ManyThatHangDelayNoOther) {
  for (const bool slow : {false, true}) {
    std::vector<Answered> hanging;
    for (int i = 0; i < kHanging; ++i) hanging.push_back(find("slow", slow));
    const std::optional<Result<Finder::Place>> place =
        find("quick", slow)->get_until(now_ns() + 5'000 * kNsPerMs);
    ASSERT_TRUE(place) << "it waits for those that hang";
    EXPECT_EQ(place->value().locator.port, 1);
    EXPECT_GT(directory_->hanging.load(), 8);
    directory_->hang(false);
    for (const Answered& each : hanging) EXPECT_TRUE(each->get().ok());
    EXPECT_TRUE(eventually([this] { return directory_->hanging.load() == 0; }));
    directory_->hang(true);
  }
}

TEST_F(FinderTest, ThreadsThatAreNotNeededAnyMoreEnd) {
  std::vector<Answered> hanging;
  for (int i = 0; i < kHanging; ++i) hanging.push_back(find("slow"));
  ASSERT_TRUE(eventually([this] { return directory_->hanging.load() == kHanging; }));
  const size_t many = thread_count();
  directory_->hang(false);
  for (const Answered& each : hanging) EXPECT_TRUE(each->get().ok());
  EXPECT_TRUE(eventually([many] { return thread_count() + kHanging - 8 <= many; }));
}

TEST_F(FinderTest, ItsEndIsNotHeldUpAndAnswersAll) {
  std::vector<Answered> hanging;
  for (int i = 0; i < 20; ++i) hanging.push_back(find("slow"));
  ASSERT_TRUE(eventually([this] { return directory_->hanging.load() >= 8; }));
  finder_->stop();
  for (const Answered& each : hanging) EXPECT_EQ(each->get().code(), Code::kCancelled);
  EXPECT_EQ(find("quick")->get().code(), Code::kCancelled);
  // Those that hang keep what they use.
  finder_.reset();
  EXPECT_GT(directory_->hanging.load(), 0);
  EXPECT_GT(directory_.use_count(), 1);
  directory_->hang(false);
  EXPECT_TRUE(eventually([this] { return directory_.use_count() == 1; }));
}

}  // namespace
}  // namespace te::test
