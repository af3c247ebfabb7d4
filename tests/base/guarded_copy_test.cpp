#include "base/guarded_copy.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "base/fd.h"

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kAddressSanitizer = true;
#else
constexpr bool kAddressSanitizer = false;
#endif
#if defined(__SANITIZE_THREAD__)
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

namespace te {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kGood = 64 * kPage;  // before what cannot be touched

enum class Kind { kReadOnly, kNone, kUnmapped, kTruncated };
constexpr Kind kKinds[] = {Kind::kReadOnly, Kind::kNone, Kind::kUnmapped, Kind::kTruncated};

// Memory of which the end cannot be touched (any more), and the pages beside it.
class Memory {
 public:
  explicit Memory(Kind kind) {
    file_ = Fd(::memfd_create("guarded", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(file_.get(), static_cast<off_t>(2 * kGood)), 0);
    const int flags = kind == Kind::kTruncated ? MAP_SHARED : MAP_PRIVATE;
    data_ = static_cast<std::byte*>(
        ::mmap(nullptr, 2 * kGood, PROT_READ | PROT_WRITE, flags, file_.get(), 0));
    std::memset(data_, 0x5A, 2 * kGood);
    if (kind == Kind::kReadOnly) ::mprotect(bad(), kGood, PROT_READ);
    if (kind == Kind::kNone) ::mprotect(bad(), kGood, PROT_NONE);
    if (kind == Kind::kUnmapped) ::munmap(bad(), kGood);
    if (kind == Kind::kTruncated && ::ftruncate(file_.get(), kGood) != 0) ADD_FAILURE();
  }
  ~Memory() { ::munmap(data_, 2 * kGood); }
  std::byte* bad() { return data_ + kGood; }
  std::byte* good() { return data_; }

 private:
  Fd file_;
  std::byte* data_ = nullptr;
};

struct Way {
  const char* title;
  bool handler;
};

class GuardedCopy : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (GetParam().handler) handler_.emplace();
  }
  std::optional<FaultHandler> handler_;
};

TEST_P(GuardedCopy, CopiesLikeMemcpyAndMemmove) {
  std::vector<std::byte> from(1 << 20), to(1 << 20), expected(1 << 20);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 7 + i / 251);
  for (const size_t length :
       {size_t{0}, size_t{1}, size_t{63}, kPage, kPage + 1, size_t{1} << 20}) {
    std::fill(to.begin(), to.end(), std::byte{1});
    ASSERT_EQ(guarded_copy(to.data(), from.data(), length), CopyResult::kDone);
    ASSERT_EQ(std::memcmp(to.data(), from.data(), length), 0);
    ASSERT_TRUE(std::all_of(to.begin() + static_cast<ptrdiff_t>(length), to.end(),
                            [](std::byte b) { return b == std::byte{1}; }));
  }
  constexpr size_t kLength = 100'000, kShift = 333;
  for (const bool up : {true, false}) {
    to = expected = from;
    const size_t source = up ? 0 : kShift, target = up ? kShift : 0;
    std::memmove(expected.data() + target, expected.data() + source, kLength);
    ASSERT_EQ(guarded_move(to.data() + target, to.data() + source, kLength), CopyResult::kDone);
    ASSERT_TRUE(to == expected);
  }
}

TEST_P(GuardedCopy, TellsWhichSideCannotBeTouched) {
  for (const Kind kind : kKinds) {
    Memory memory(kind);
    for (const size_t length : {size_t{1}, size_t{64}, kPage, kGood}) {
      for (const size_t before : {size_t{0}, size_t{17}, 3 * kPage}) {
        SCOPED_TRACE(testing::Message()
                     << static_cast<int>(kind) << " " << length << " " << before);
        std::vector<std::byte> own(length + before, std::byte{7});
        std::byte* at = memory.bad() - before;
        if (kind == Kind::kReadOnly) {
          ASSERT_EQ(guarded_copy(own.data(), at, own.size()), CopyResult::kDone);
          ASSERT_EQ(guarded_move(own.data(), at, own.size()), CopyResult::kDone);
          ASSERT_TRUE(is_readable(at, own.size()));
        } else {
          ASSERT_EQ(guarded_copy(own.data(), at, own.size()), CopyResult::kBadSource);
          ASSERT_EQ(guarded_move(own.data(), at, own.size()), CopyResult::kBadSource);
          ASSERT_FALSE(is_readable(at, own.size()));
        }
        ASSERT_EQ(guarded_copy(at, own.data(), own.size()), CopyResult::kBadDestination);
        ASSERT_EQ(guarded_move(at, own.data(), own.size()), CopyResult::kBadDestination);
        ASSERT_FALSE(is_writable(at, own.size()));
      }
    }
    EXPECT_TRUE(is_readable(memory.good(), kGood));
    std::vector<std::byte> expected(memory.good(), memory.good() + kGood);
    EXPECT_TRUE(is_writable(memory.good(), kGood));
    EXPECT_EQ(std::memcmp(memory.good(), expected.data(), kGood), 0) << "it changed a byte";
  }
}

TEST_P(GuardedCopy, NothingBesideTheRangeIsTouched) {
  Memory memory(Kind::kUnmapped);
  std::vector<std::byte> own(3 * kPage, std::byte{7});
  std::byte* begin = memory.bad() - kPage;
  ASSERT_EQ(guarded_copy(begin, own.data(), 2 * kPage), CopyResult::kBadDestination);
  EXPECT_TRUE(std::all_of(memory.good(), begin, [](std::byte b) { return b == std::byte{0x5A}; }));
  ASSERT_EQ(guarded_copy(own.data() + kPage, begin, 2 * kPage), CopyResult::kBadSource);
  EXPECT_TRUE(
      std::all_of(own.begin(), own.begin() + kPage, [](std::byte b) { return b == std::byte{7}; }));
}

TEST_P(GuardedCopy, AnAddressThatIsNoneIsNoneOfOurs) {
#if defined(__x86_64__)
  if (kAddressSanitizer || kThreadSanitizer)
    GTEST_SKIP() << "the sanitizer looks such addresses up";
  auto* nowhere = reinterpret_cast<std::byte*>(uint64_t{0xDEAD} << 48);
  std::vector<std::byte> own(64);
  EXPECT_EQ(guarded_copy(nowhere, own.data(), own.size()), CopyResult::kBadDestination);
  EXPECT_NE(guarded_copy(own.data(), nowhere, own.size()), CopyResult::kDone);
#else
  GTEST_SKIP() << "only x86-64 has addresses that are none";
#endif
}

TEST_P(GuardedCopy, ManyThreadsFaultAtOnceWhileOthersCopy) {
  Memory memory(Kind::kNone);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      std::vector<std::byte> own(2 * kPage), other(2 * kPage, std::byte{3});
      for (int round = 0; round < 200; ++round) {
        const bool fine =
            i % 2 == 0 ? guarded_copy(own.data(), other.data(), own.size()) == CopyResult::kDone
                       : guarded_copy(own.data(), memory.bad() - kPage, own.size()) ==
                             CopyResult::kBadSource;
        if (!fine) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST_P(GuardedCopy, ASignalThatIsBlockedIsNoProblem) {
  Memory memory(Kind::kUnmapped);
  std::thread([&memory] {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
    std::byte own{};
    EXPECT_EQ(guarded_copy(&own, memory.bad(), 1), CopyResult::kBadSource);
    EXPECT_EQ(guarded_copy(memory.bad(), &own, 1), CopyResult::kBadDestination);
  }).join();
}

TEST(GuardedLook, AtMemoryThatIsWrittenMeanwhileLosesNoByte) {
  const FaultHandler handler;
  std::vector<std::byte> memory(kPage);
  std::atomic<int> rounds{0}, lost{0};
  std::atomic<bool> over{false};
  std::thread writer([&] {
    volatile std::byte& byte = memory[0];
    while (!over.load(std::memory_order_relaxed)) {
      const auto next = static_cast<std::byte>(rounds.fetch_add(1, std::memory_order_relaxed));
      byte = next;
      if (byte != next) ++lost;
    }
  });
  for (int i = 0; i < 1'000 || rounds.load(std::memory_order_relaxed) < 10'000; ++i) {
    EXPECT_TRUE(is_readable(memory.data(), kPage));
    EXPECT_TRUE(is_writable(memory.data(), kPage));
  }
  over = true;
  writer.join();
  EXPECT_EQ(lost.load(), 0);
}

INSTANTIATE_TEST_SUITE_P(By, GuardedCopy,
                         testing::Values(Way{"TheGuard", true}, Way{"TheKernel", false}),
                         [](const auto& way) { return std::string(way.param.title); });

// What an application's own handler saw. One fault at a time.
struct Seen {
  int count = 0;
  void* address = nullptr;
  bool signal_blocked = false, other_blocked = false;
  bool on_own_stack = false;
};
Seen reported;
sigjmp_buf back;

void application_handler(int signal, siginfo_t* info, void*) {
  sigset_t mask;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  ++reported.count;
  reported.address = info->si_addr;
  reported.signal_blocked = ::sigismember(&mask, signal) == 1;
  reported.other_blocked = ::sigismember(&mask, SIGUSR2) == 1;
  ::siglongjmp(back, 1);
}

// The application's handler, until the test ends.
class Application {
 public:
  explicit Application(int signal = SIGSEGV, int flags = SA_SIGINFO) : signal_(signal) {
    reported = {};
    action_.sa_sigaction = application_handler;
    action_.sa_flags = flags;
    ::sigaddset(&action_.sa_mask, SIGUSR2);
    ::sigaction(signal, &action_, &before_);
  }
  ~Application() { ::sigaction(signal_, &before_, nullptr); }
  bool in_place() const {
    struct sigaction now {};
    ::sigaction(signal_, nullptr, &now);
    return now.sa_sigaction == application_handler;
  }

 private:
  const int signal_;
  struct sigaction action_ {};
  struct sigaction before_ {};
};

void touch(std::byte* at) { *reinterpret_cast<volatile char*>(at) = 1; }

// Comes back when the application's handler does.
__attribute__((noinline)) void touch_and_come_back(std::byte* at) {
  if (sigsetjmp(back, 1) == 0) touch(at);
}

TEST(FaultHandlerTest, OtherFaultsGoToTheHandlerThatWasThereBefore) {
  // The thread sanitizer blocks all signals around handlers.
  for (const bool nodefer : {false, !kThreadSanitizer}) {
    Memory memory(Kind::kNone);
    const Application application(SIGSEGV, SA_SIGINFO | (nodefer ? SA_NODEFER : 0));
    {
      const FaultHandler handler;
      touch_and_come_back(memory.bad() + 5);
      EXPECT_EQ(reported.count, 1);
      EXPECT_EQ(reported.address, memory.bad() + 5);
      EXPECT_EQ(reported.signal_blocked, !nodefer);
      EXPECT_TRUE(reported.other_blocked);
      std::byte own{};
      EXPECT_EQ(guarded_copy(&own, memory.bad(), 1), CopyResult::kBadSource);
      EXPECT_EQ(reported.count, 1) << "a fault of ours went to the application";
    }
    EXPECT_TRUE(application.in_place());
  }
}

TEST(FaultHandlerTest, SeveralEnginesShareOne) {
  const Application application;
  Memory memory(Kind::kNone);
  std::byte own{};
  std::optional<FaultHandler> first(std::in_place), second(std::in_place);
  first.reset();
  EXPECT_FALSE(application.in_place());
  EXPECT_EQ(guarded_copy(&own, memory.bad(), 1), CopyResult::kBadSource);
  second.reset();
  EXPECT_TRUE(application.in_place());
  EXPECT_EQ(guarded_copy(&own, memory.bad(), 1), CopyResult::kBadSource);
  EXPECT_EQ(reported.count, 0);
}

TEST(FaultHandlerTest, TheSignalMaskIsAsBeforeAfterAFault) {
  const FaultHandler handler;
  Memory memory(Kind::kNone);
  sigset_t before, after;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &before);
  std::byte own{};
  ASSERT_EQ(guarded_copy(&own, memory.bad(), 1), CopyResult::kBadSource);
  ::pthread_sigmask(SIG_BLOCK, nullptr, &after);
  for (int signal = 1; signal < NSIG; ++signal) {
    EXPECT_EQ(::sigismember(&before, signal), ::sigismember(&after, signal)) << signal;
  }
}

// Where the application installs its own later, faults no longer reach ours: found out within a
// tick of the coarse clock, and the kernel copies.
TEST(FaultHandlerTest, AHandlerInstalledLaterIsLeftAloneAndCopiesStaySafe) {
  const FaultHandler handler;
  Memory memory(Kind::kNone);
  std::byte own{};
  ASSERT_EQ(guarded_copy(&own, memory.bad(), 1), CopyResult::kBadSource);
  {
    const Application application;
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    EXPECT_EQ(guarded_copy(&own, memory.bad(), 1), CopyResult::kBadSource);
    EXPECT_EQ(guarded_copy(memory.bad(), &own, 1), CopyResult::kBadDestination);
    EXPECT_EQ(reported.count, 0);
    EXPECT_TRUE(application.in_place());
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(guarded_copy(&own, memory.bad(), 1), CopyResult::kBadSource);
}

TEST(FaultHandlerTest, OneInstalledLaterMayCallOursAfterwards) {
  const Application below;
  Memory memory(Kind::kNone);
  std::optional<FaultHandler> handler(std::in_place);
  static struct sigaction ours;
  struct sigaction later {};
  later.sa_flags = SA_SIGINFO;
  later.sa_sigaction = [](int signal, siginfo_t* info, void* context) {
    ours.sa_sigaction(signal, info, context);
  };
  ::sigaction(SIGSEGV, &later, &ours);
  handler.reset();  // it cannot be taken out from below
  touch_and_come_back(memory.bad());
  EXPECT_EQ(reported.count, 1);
  ::sigaction(SIGSEGV, &ours, nullptr);
  // The next one finds it in place, and takes it out at its end.
  handler.emplace();
  std::byte own{};
  EXPECT_EQ(guarded_copy(&own, memory.bad(), 1), CopyResult::kBadSource);
  EXPECT_EQ(reported.count, 1);
  handler.reset();
  EXPECT_TRUE(below.in_place());
}

TEST(FaultHandlerTest, AHandlerForOneTimeIsCalledOnce) {
  EXPECT_EXIT(
      {
        const Application application(SIGSEGV, SA_SIGINFO | static_cast<int>(SA_RESETHAND));
        const FaultHandler handler;
        Memory memory(Kind::kNone);
        touch_and_come_back(memory.bad());
        if (reported.count != 1) ::_exit(1);
        touch(memory.bad());
        ::_exit(2);
      },
      testing::KilledBySignal(SIGSEGV), "");
}

// What the process was to die of, it dies of.
TEST(FaultHandlerTest, WithoutAnyHandlerBeforeAFaultStillKills) {
  const auto fault = [](int signal) {
    struct sigaction fresh {};
    fresh.sa_handler = SIG_DFL;
    ::sigaction(signal, &fresh, nullptr);
  };
  EXPECT_EXIT(
      {
        fault(SIGSEGV);
        const FaultHandler handler;
        Memory memory(Kind::kNone);
        touch(memory.bad());
      },
      testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EXIT(
      {
        fault(SIGBUS);
        const FaultHandler handler;
        Memory memory(Kind::kTruncated);
        touch(memory.bad());
      },
      testing::KilledBySignal(SIGBUS), "");
  EXPECT_EXIT(
      {
        fault(SIGSEGV);
        const FaultHandler handler;
        ::raise(SIGSEGV);
        ::_exit(0);
      },
      testing::KilledBySignal(SIGSEGV), "");
}

TEST(FaultHandlerTest, ASentSignalThatWasIgnoredStaysIgnored) {
  EXPECT_EXIT(
      {
        ::signal(SIGSEGV, SIG_IGN);
        const FaultHandler handler;
        ::raise(SIGSEGV);
        ::_exit(42);
      },
      testing::ExitedWithCode(42), "");
}

}  // namespace
}  // namespace te
