// Submissions that follow work of a GPU: an event, or what is in a stream.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "cuda/pair.h"

namespace te::test {
namespace {

using cuda::CuResult;

constexpr uint64_t kLength = GpuPair::kSize;
constexpr auto kMoment = std::chrono::milliseconds(60);

// A stream of the application, in which a kernel runs that ends by end_kernel().
class AppStream {
 public:
  explicit AppStream(int gpu) : gpu_(gpu) {
    succeed(cuInit(0));
    succeed(cuDevicePrimaryCtxRetain(&context_, gpu));
    in_context([this] {
      succeed(cuStreamCreate(&stream_, 1));
      succeed(cuEventCreate(&event_, 0));
    });
  }
  ~AppStream() {
    if (running_) end_kernel();
    in_context([this] {
      if (event_ != nullptr) succeed(cuEventDestroy_v2(event_));
      succeed(cuStreamSynchronize(stream_));
      succeed(cuStreamDestroy_v2(stream_));
    });
    succeed(cuDevicePrimaryCtxRelease_v2(gpu_));
  }
  AppStream(const AppStream&) = delete;
  AppStream& operator=(const AppStream&) = delete;

  void launch_kernel() {
    fake_cuda::hold(stream_);
    running_ = true;
    record();
  }
  void record() {
    in_context([this] { succeed(cuEventRecord(event_, stream_)); });
  }
  void end_kernel() {
    fake_cuda::release(stream_);
    running_ = false;
  }
  void destroy_event() {
    in_context([this] { succeed(cuEventDestroy_v2(event_)); });
    event_ = nullptr;
  }
  CUstream stream() const { return stream_; }
  CUevent event() const { return event_; }

 private:
  static void succeed(CUresult result) { EXPECT_EQ(static_cast<int>(result), 0); }
  template <typename Work>
  void in_context(Work&& work) {
    CUcontext context = context_;
    succeed(cuCtxPushCurrent_v2(context));
    work();
    succeed(cuCtxPopCurrent_v2(&context));
  }

  const int gpu_;
  CUcontext context_ = nullptr;
  CUstream stream_ = nullptr;
  CUevent event_ = nullptr;
  bool running_ = false;
};

struct Case {
  const char* transport;
  End local, remote;
};

class AfterWork : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    fake_cuda::reset();
    app_.emplace(0);
    made_.emplace(GetParam().transport, GetParam().local, GetParam().remote);
    stamp(pair().local().view(), kLength, 1);
    stamp(pair().remote().view(), kLength, 2);
  }
  void TearDown() override {
    made_->end_engines();
    made_.reset();
    app_.reset();
    EXPECT_EQ(fake_cuda::events(), 0);
    fake_cuda::reset();
  }
  GpuPair& pair() { return *made_; }
  AppStream& app() { return *app_; }
  static SubmitOptions after_event(AppStream& app) { return {.after_event = app.event()}; }
  // The end that an operation writes.
  std::byte* written(Opcode opcode) {
    return opcode == Opcode::kWrite ? pair().remote().view() : pair().local().view();
  }
  std::byte* read(Opcode opcode) {
    return opcode == Opcode::kWrite ? pair().local().view() : pair().remote().view();
  }
  BatchId submit(Opcode opcode, const SubmitOptions& options) {
    return submit_new(pair().initiator(), {pair().request(opcode, 0, kLength)}, options);
  }
  TaskState wait_and_free(BatchId batch) {
    EXPECT_TRUE(pair().initiator().wait(batch, std::chrono::seconds(20)).ok());
    const TaskState state = pair().initiator().batch_status(batch)->state;
    EXPECT_TRUE(pair().initiator().free_batch(batch).ok());
    return state;
  }

 private:
  std::optional<AppStream> app_;
  std::optional<GpuPair> made_;
};

TEST_P(AfterWork, MovesWhatTheKernelWrote) {
  for (const Opcode opcode : {Opcode::kWrite, Opcode::kRead}) {
    for (const bool by_stream : {false, true}) {
      stamp(read(opcode), kLength, 3);
      stamp(written(opcode), kLength, 4);
      app().launch_kernel();
      SubmitOptions options;
      (by_stream ? options.after_stream : options.after_event) =
          by_stream ? static_cast<void*>(app().stream()) : app().event();
      const BatchId batch = submit(opcode, options);
      std::this_thread::sleep_for(kMoment);
      EXPECT_EQ(pair().initiator().status(batch, 0)->state, TaskState::kPending);
      EXPECT_EQ(difference(written(opcode), kLength, 4), kSame) << "it did not wait";
      stamp(read(opcode), kLength, 5);  // the kernel's last bytes
      app().end_kernel();
      EXPECT_EQ(wait_and_free(batch), TaskState::kCompleted);
      EXPECT_EQ(difference(written(opcode), kLength, 5), kSame);
    }
  }
}

TEST_P(AfterWork, ListsAndNotificationsFollowToo) {
  stamp(pair().remote().view(), kLength, 4);
  app().launch_kernel();
  const uint64_t here = reinterpret_cast<uint64_t>(pair().local().data());
  const uint64_t there = reinterpret_cast<uint64_t>(pair().remote().data());
  const uint64_t lengths[] = {kLength / 2}, sources[] = {here}, targets[] = {there};
  SubmitOptions options = after_event(app());
  options.notification = Notification{"done", "x"};
  const BatchId batch = *pair().initiator().allocate_batch(1);
  ASSERT_TRUE(pair()
                  .initiator()
                  .submit_list(
                      batch, AddressList{Opcode::kWrite, pair().segment, sources, targets, lengths},
                      options)
                  .ok());
  std::this_thread::sleep_for(kMoment);
  EXPECT_EQ(difference(pair().remote().view(), kLength, 4), kSame);
  EXPECT_TRUE(pair().target().take_notifications().empty());
  stamp(pair().local().view(), kLength, 5);
  app().end_kernel();
  EXPECT_EQ(wait_and_free(batch), TaskState::kCompleted);
  EXPECT_EQ(difference(pair().remote().view(), kLength / 2, 5), kSame);
  EXPECT_EQ(pair().target().take_notifications().size(), 1u);
}

TEST_P(AfterWork, WhatEndedAlreadyIsMovedAtOnce) {
  EXPECT_EQ(wait_and_free(submit(Opcode::kWrite, after_event(app()))), TaskState::kCompleted)
      << "of an event that was never recorded";
  app().launch_kernel();
  app().end_kernel();
  EXPECT_EQ(wait_and_free(submit(Opcode::kWrite, {.after_stream = app().stream()})),
            TaskState::kCompleted);
  EXPECT_EQ(difference(pair().remote().view(), kLength, 1), kSame);
}

// What the application does to the event after the call does not matter.
TEST_P(AfterWork, TheEventMayBeRecordedAgainOrDestroyed) {
  app().launch_kernel();
  const BatchId batch = submit(Opcode::kWrite, after_event(app()));
  app().end_kernel();
  AppStream other(1);
  fake_cuda::hold(other.stream());
  app().record();
  app().destroy_event();
  EXPECT_EQ(wait_and_free(batch), TaskState::kCompleted);
  fake_cuda::release(other.stream());
  EXPECT_EQ(difference(pair().remote().view(), kLength, 1), kSame);
}

TEST_P(AfterWork, OneThatWaitsDelaysNoOther) {
  AppStream slow(1);
  slow.launch_kernel();
  const BatchId first = submit(Opcode::kWrite, after_event(slow));
  app().launch_kernel();
  const BatchId second = submit(Opcode::kWrite, after_event(app()));
  app().end_kernel();
  EXPECT_EQ(wait_and_free(second), TaskState::kCompleted);
  EXPECT_EQ(wait_and_free(submit(Opcode::kWrite, {})), TaskState::kCompleted);
  EXPECT_EQ(pair().initiator().batch_status(first)->state, TaskState::kPending);
  slow.end_kernel();
  EXPECT_EQ(wait_and_free(first), TaskState::kCompleted);
}

TEST_P(AfterWork, DeadlinesAndCancellationHoldMeanwhile) {
  app().launch_kernel();
  SubmitOptions options = after_event(app());
  options.timeout = std::chrono::milliseconds(100);
  options.notification = Notification{"never", "x"};
  const auto begin = std::chrono::steady_clock::now();
  const BatchId late = submit(Opcode::kWrite, options);
  ASSERT_TRUE(pair().initiator().wait(late, std::chrono::seconds(20)).ok());
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(took, std::chrono::milliseconds(100));
  EXPECT_LT(took, std::chrono::seconds(2));
  EXPECT_NE(pair().initiator().task_error(late, 0)->status.message().find("after_event"),
            std::string::npos)
      << pair().initiator().task_error(late, 0)->status.to_string();
  EXPECT_EQ(wait_and_free(late), TaskState::kTimeout);
  const BatchId cancelled = submit(Opcode::kRead, after_event(app()));
  ASSERT_TRUE(pair().initiator().cancel(cancelled).ok());
  EXPECT_EQ(wait_and_free(cancelled), TaskState::kCancelled);
  app().end_kernel();
  std::this_thread::sleep_for(kMoment);
  EXPECT_EQ(difference(pair().remote().view(), kLength, 2), kSame) << "it was moved afterwards";
  EXPECT_EQ(difference(pair().local().view(), kLength, 1), kSame);
  EXPECT_TRUE(pair().target().take_notifications().empty());
}

TEST_P(AfterWork, WorkThatFailsFailsTheTasks) {
  app().launch_kernel();
  const BatchId batch = submit(Opcode::kWrite, after_event(app()));
  fake_cuda::fail("cuEventQuery", CuResult::kInvalidValue);
  app().end_kernel();
  ASSERT_TRUE(pair().initiator().wait(batch, std::chrono::seconds(20)).ok());
  fake_cuda::fail("cuEventQuery", CuResult::kSuccess);
  const Status why = pair().initiator().task_error(batch, 0)->status;
  EXPECT_NE(why.message().find("nothing was transferred"), std::string::npos) << why.to_string();
  EXPECT_NE(why.message().find("cuEventQuery failed"), std::string::npos) << why.to_string();
  EXPECT_EQ(wait_and_free(batch), TaskState::kFailed);
  EXPECT_EQ(difference(pair().remote().view(), kLength, 2), kSame);
}

TEST_P(AfterWork, AnEventThatIsGoneIsRefusedAndNothingIsAccepted) {
  const SubmitOptions options = after_event(app());
  app().destroy_event();
  const BatchId batch = *pair().initiator().allocate_batch(1);
  const TransferRequest request = pair().request(Opcode::kWrite, 0, kLength);
  const Status refused = pair().initiator().submit(batch, {&request, 1}, options);
  EXPECT_TRUE(fails_with(refused, Code::kInvalidArgument, "cannot be followed"));
  EXPECT_NE(refused.message().find("cuStreamWaitEvent failed"), std::string::npos);
  EXPECT_EQ(pair().initiator().batch_status(batch)->state, TaskState::kWaiting);
  ASSERT_TRUE(pair().initiator().submit(batch, {&request, 1}).ok()) << "the batch has no room";
  EXPECT_EQ(wait_and_free(batch), TaskState::kCompleted);
}

TEST_P(AfterWork, TheEngineMayEndMeanwhile) {
  app().launch_kernel();
  submit(Opcode::kWrite, after_event(app()));
  const auto begin = std::chrono::steady_clock::now();
  pair().end_engines();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  app().end_kernel();
  EXPECT_EQ(difference(pair().remote().view(), kLength, 2), kSame);
}

INSTANTIATE_TEST_SUITE_P(Ways, AfterWork,
                         testing::Values(Case{"local", {0}, {}}, Case{"local", {}, {}},
                                         Case{"local", {0}, {1}}, Case{"tcp", {0}, {1}},
                                         Case{"tcp", {}, {}}, Case{"shm", {1}, {}},
                                         Case{"shm", {}, {}}),
                         [](const auto& each) {
                           const auto name = [](const End& end) {
                             return end.gpu < 0 ? "host" : "gpu" + std::to_string(end.gpu);
                           };
                           return std::string(each.param.transport) + "_" + name(each.param.local) +
                                  "_" + name(each.param.remote);
                         });

// The default stream is that of the calling thread's context.
TEST(AfterStream, TheDefaultStreamTakesACurrentContext) {
  fake_cuda::reset();
  GpuPair pair("local", {0}, {});
  const SubmitOptions options{.after_stream = reinterpret_cast<void*>(uintptr_t{1})};
  const BatchId batch = *pair.initiator().allocate_batch(1);
  const TransferRequest request = pair.request(Opcode::kWrite, 0, kLength);
  const Status refused = pair.initiator().submit(batch, {&request, 1}, options);
  EXPECT_TRUE(fails_with(refused, Code::kInvalidArgument, "the stream 0x1 cannot be followed"));
  CUcontext context = nullptr;
  ASSERT_EQ(cuDevicePrimaryCtxRetain(&context, 0), CuResult::kSuccess);
  ASSERT_EQ(cuCtxPushCurrent_v2(context), CuResult::kSuccess);
  EXPECT_TRUE(pair.initiator().submit(batch, {&request, 1}, options).ok());
  CUcontext top = nullptr;
  ASSERT_EQ(cuCtxPopCurrent_v2(&top), CuResult::kSuccess);
  EXPECT_EQ(top, context);
  ASSERT_EQ(cuDevicePrimaryCtxRelease_v2(0), CuResult::kSuccess);
  EXPECT_TRUE(pair.initiator().wait(batch).ok());
  EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
}

TEST(AfterStream, NoContextIsMadeToFollow) {
  fake_cuda::reset();
  const int made[] = {fake_cuda::contexts_made(0), fake_cuda::contexts_made(1)};
  {
    AppStream app(1);
    GpuPair pair("local", {}, {});
    app.launch_kernel();
    const BatchId batch = submit_new(pair.initiator(), {pair.request(Opcode::kWrite, 0, kLength)},
                                     {.after_event = app.event()});
    EXPECT_EQ(fake_cuda::context_holders(0), 0);
    app.end_kernel();
    EXPECT_TRUE(pair.initiator().wait(batch, std::chrono::seconds(20)).ok());
    EXPECT_TRUE(pair.initiator().free_batch(batch).ok());
  }
  EXPECT_EQ(fake_cuda::contexts_made(0), made[0]);
  EXPECT_EQ(fake_cuda::contexts_made(1), made[1] + 1) << "the application's own";
  EXPECT_EQ(fake_cuda::context_holders(1), 0);
}

}  // namespace
}  // namespace te::test
