#include "transport/copy_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <thread>
#include <utility>

#include "support/bytes.h"
#include "support/facts.h"
#include "transport/fakes.h"

namespace te::test {
namespace {

class CopyPoolTest : public testing::Test {
 protected:
  CopyPoolTest()
      : a_(transport_, "", "", ""), b_(transport_, "", "", ""), plug_(transport_, "", "", "") {
    task_.submission = &submission_;
  }
  ~CopyPoolTest() override { let_go(); }

  // Slices in this order.
  SliceList chain(std::vector<Path*> paths, uint32_t length, Opcode opcode = Opcode::kWrite) {
    SliceList list;
    for (Path* path : paths) {
      Slice& slice = slices_.emplace_back();
      slice.task = &task_;
      slice.path = path;
      slice.length = length;
      slice.opcode = opcode;
      list.push(&slice);
    }
    return list;
  }
  // A pool with one thread of its own.
  void make_pool() {
    pool_ = std::make_unique<CopyPool>(host_, 1, [this](Slice* run, CopyWay way) {
      if (run->path == &plug_) return wait_in_plug(run);
      if (park_) return pool_->park(run);
      {
        size_t count = 0;
        for (const Slice* slice = run; slice != nullptr; slice = slice->next) ++count;
        MutexLock lock(mutex_);
        runs_.push_back(count);
        streaming_ = way != CopyWay::kMemcpy;
      }
      while (run != nullptr) {
        Slice* slice = run;
        run = slice->next;
        host_.done(slice, Code::kOk);
      }
    });
    EXPECT_TRUE(pool_->start().ok());
  }
  // The same, but that thread is kept busy until let_go(), so that only who helps copies.
  void make_pool_of_helpers() {
    make_pool();
    plug_slice_.task = &task_;
    plug_slice_.path = &plug_;
    pool_->park(&plug_slice_);
    pool_->resume(plug_);
    while (!plugged_) std::this_thread::yield();
  }
  void wait_in_plug(Slice* slice) {
    plugged_ = true;
    released_.wait(false);
    pool_->park(slice);
  }
  void let_go() {
    released_ = true;
    released_.notify_all();
  }
  std::vector<size_t> runs() {
    MutexLock lock(mutex_);
    return runs_;
  }

  NullTransport transport_;
  Path a_, b_, plug_;
  Submission submission_;
  Task task_;
  Slice plug_slice_;
  std::deque<Slice> slices_;
  RecordingHost host_;
  Mutex mutex_;
  std::vector<size_t> runs_ TE_GUARDED_BY(mutex_);
  bool streaming_ = false;
  std::atomic<bool> park_{false}, plugged_{false}, released_{false};
  std::unique_ptr<CopyPool> pool_;
};

TEST_F(CopyPoolTest, SmallSlicesOfOneKindAreOneRun) {
  make_pool_of_helpers();
  pool_->post(chain({&a_, &a_, &a_, &b_, &b_, &a_}, 1000));
  pool_->post(chain({&a_}, 1000, Opcode::kRead));
  EXPECT_EQ(pool_->load_bytes(), 7000u);
  while (pool_->help()) continue;
  EXPECT_EQ(runs(), (std::vector<size_t>{3, 2, 1, 1}));
  EXPECT_EQ(host_.count(), 7u);
  EXPECT_EQ(pool_->load_bytes(), 0u);
  EXPECT_FALSE(pool_->help());
}

TEST_F(CopyPoolTest, ALittleOfOneKindIsCopiedWhereItIsPosted) {
  make_pool_of_helpers();
  EXPECT_TRUE(pool_->copy_at_once(chain({&a_, &a_}, 32 << 10)));
  EXPECT_EQ(runs(), (std::vector<size_t>{2}));
  EXPECT_EQ(host_.count(), 2u);
  EXPECT_FALSE(pool_->copy_at_once(chain({&a_}, (64 << 10) + 1)));
  EXPECT_FALSE(pool_->copy_at_once(chain({&a_, &a_, &a_}, 32 << 10)));
  EXPECT_FALSE(pool_->copy_at_once(chain({&a_, &b_}, 16)));
  EXPECT_FALSE(pool_->copy_at_once(chain(std::vector<Path*>(CopyPool::kMaxRun + 1, &a_), 16)));
  EXPECT_EQ(host_.count(), 2u);
}

TEST_F(CopyPoolTest, NothingOvertakesWhatIsQueued) {
  make_pool_of_helpers();
  pool_->post(chain({&a_}, 1000));
  EXPECT_FALSE(pool_->copy_at_once(chain({&a_}, 1000)));
  EXPECT_TRUE(pool_->help());
  EXPECT_TRUE(pool_->copy_at_once(chain({&a_}, 1000)));
  EXPECT_EQ(host_.count(), 2u);
}

TEST_F(CopyPoolTest, AfterTheEndNothingIsCopiedWhereItIsPosted) {
  make_pool();
  pool_->stop();
  EXPECT_FALSE(pool_->copy_at_once(chain({&a_}, 1000)));
  EXPECT_EQ(host_.count(), 0u);
}

TEST_F(CopyPoolTest, ARunHasALimitOfSlicesAndOfBytes) {
  make_pool_of_helpers();
  pool_->post(chain(std::vector<Path*>(100, &a_), 16));
  while (pool_->help()) continue;
  EXPECT_EQ(runs(), (std::vector<size_t>{CopyPool::kMaxRun, 100 - CopyPool::kMaxRun}));
}

TEST_F(CopyPoolTest, NobodyNeedsToHelpWithWhatAHelperLeaves) {
  make_pool();
  pool_->post(chain(std::vector<Path*>(300, &a_), 100'000));
  pool_->help();  // unless the thread is faster
  EXPECT_TRUE(host_.wait_for(300));
}

TEST_F(CopyPoolTest, SmallChangeThatAHelperLeavesIsCopiedToo) {
  make_pool();
  pool_->post(chain({&a_, &b_, &a_, &b_}, 10));
  pool_->help();
  EXPECT_TRUE(host_.wait_for(4));
}

TEST_F(CopyPoolTest, MoreThanTheCachesHoldIsStreamed) {
  make_pool_of_helpers();
  pool_->post(chain({&a_}, 1000));
  EXPECT_TRUE(pool_->help());
  EXPECT_FALSE(streaming_);
  pool_->post(chain(std::vector<Path*>(64, &a_), 1 << 20));
  for (int i = 0; i < 64; ++i) {
    EXPECT_TRUE(pool_->help());
    EXPECT_TRUE(streaming_) << i;
  }
  pool_->post(chain({&a_}, 1000));
  EXPECT_TRUE(pool_->help());
  EXPECT_FALSE(streaming_);
}

TEST_F(CopyPoolTest, WhatIsAskedForWithoutAPauseIsStreamedToo) {
  make_pool_of_helpers();
  constexpr int kUntilFull = 16;  // of a MiB each
  const auto copies_streaming = [this] {
    pool_->post(chain({&a_}, 1 << 20));
    EXPECT_TRUE(pool_->help());
    return streaming_;
  };
  const Stopwatch watch;
  int copied = 1;
  // On a busy machine this thread itself may make a pause, and begins anew.
  while (!copies_streaming() && watch.ms() < kPatience.count()) ++copied;
  EXPECT_TRUE(streaming_);
  EXPECT_GE(copied, kUntilFull);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_FALSE(copies_streaming()) << "after a pause";
  for (int i = 0; i < 2 * kUntilFull; ++i) {
    pool_->post(chain({&a_}, 1000));
    EXPECT_TRUE(pool_->help());
    EXPECT_FALSE(streaming_) << "of little nobody asks how much it comes to";
  }
}

TEST_F(CopyPoolTest, ThreadsStayApartInWhatIsLarge) {
  std::atomic<int> plugs{0};
  std::vector<Slice*> began;
  pool_ = std::make_unique<CopyPool>(host_, 2, [&](Slice* run, CopyWay) {
    if (run->path == &plug_) {
      ++plugs;
      released_.wait(false);
    } else {
      began.push_back(run);
      if (began.size() < 3) {
        EXPECT_TRUE(pool_->help()) << "as another thread would";
      }
    }
    while (run != nullptr) host_.done(std::exchange(run, run->next), Code::kOk);
  });
  ASSERT_TRUE(pool_->start().ok());
  // The pool's own two threads are busy, both in the first part.
  pool_->park(chain({&plug_, &plug_}, 2 << 20).first);
  pool_->resume(plug_);
  while (plugs.load() < 2) std::this_thread::yield();
  pool_->post(chain(std::vector<Path*>(64, &a_), 1 << 20));
  EXPECT_TRUE(pool_->help());
  EXPECT_EQ(began, (std::vector<Slice*>{&slices_[2 + 32], &slices_[2 + 33], &slices_[2]}));
  pool_->reset(a_);
  let_go();
  EXPECT_TRUE(host_.wait_for(66));
  pool_->stop();
}

TEST_F(CopyPoolTest, ParkedSlicesWaitForTheirPath) {
  make_pool_of_helpers();
  park_ = true;
  pool_->post(chain({&a_, &a_}, 10));
  pool_->post(chain({&b_}, 10));
  while (pool_->help()) continue;
  EXPECT_EQ(host_.count(), 0u);
  EXPECT_EQ(pool_->load_bytes(), 30u);
  park_ = false;
  let_go();
  pool_->resume(a_);
  EXPECT_TRUE(host_.wait_for(2)) << "by the pool's own thread";
  EXPECT_EQ(host_.code_of(&slices_[2]), Code::kInternal);
  pool_->reset(b_);
  EXPECT_EQ(host_.code_of(&slices_[2]), Code::kUnavailable);
  EXPECT_TRUE(eventually([this] { return pool_->load_bytes() == 0; }));
}

TEST_F(CopyPoolTest, SweepReturnsWhatWasCancelledAlone) {
  make_pool_of_helpers();
  pool_->post(chain({&a_, &a_}, 10));
  pool_->sweep();
  EXPECT_EQ(host_.count(), 0u);
  submission_.cancel = Code::kCancelled;
  pool_->sweep();
  EXPECT_EQ(host_.count(), 2u);
  EXPECT_EQ(host_.code_of(&slices_[0]), Code::kCancelled);
}

TEST_F(CopyPoolTest, StopReturnsAllAndSoDoesHelpAfterIt) {
  make_pool_of_helpers();
  park_ = true;
  pool_->post(chain({&a_}, 10));
  EXPECT_TRUE(pool_->help());
  pool_->post(chain({&a_}, 10));
  let_go();
  pool_->stop();
  EXPECT_EQ(host_.count(), 3u) << "with the plug";
  pool_->post(chain({&a_}, 10));
  EXPECT_EQ(host_.count(), 3u) << "never from inside post";
  EXPECT_TRUE(pool_->help());
  EXPECT_EQ(host_.count(), 4u);
  EXPECT_EQ(host_.code_of(&slices_[2]), Code::kCancelled);
}

}  // namespace
}  // namespace te::test
