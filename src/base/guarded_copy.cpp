#include "base/guarded_copy.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/memory_file.h"
#include "base/mutex.h"

// ThreadSanitizer does not watch the function.
#if defined(__SANITIZE_THREAD__)
#define TE_UNWATCHED __attribute__((no_sanitize_thread, noinline))
#else
#define TE_UNWATCHED
#endif

namespace te {
namespace {

constexpr std::array<int, 2> kSignals = {SIGSEGV, SIGBUS};

// What the thread copies under the guard. On its stack.
struct Guard {
  sigjmp_buf resume;
  const std::byte* to = nullptr;
  const std::byte* from = nullptr;
  size_t length = 0;
  volatile CopyResult result = CopyResult::kDone;

  static bool holds(const std::byte* begin, size_t size, const std::byte* at) {
    return at >= begin && static_cast<size_t>(at - begin) < size;
  }
  // False where the fault is not the copy's.
  bool blames(const siginfo_t& info) {
    // The processor names no address where it is not one at all (x86: not canonical).
    const bool unnamed = info.si_code == SI_KERNEL;
    const auto* at = static_cast<const std::byte*>(info.si_addr);
    if (holds(from, length, at)) {
      result = CopyResult::kBadSource;
    } else if (holds(to, length, at) || unnamed) {
      result = CopyResult::kBadDestination;
    } else {
      return false;
    }
    return true;
  }
};

// In the thread's static block: the handler must not be the first to make it.
__attribute__((tls_model("initial-exec"))) thread_local Guard* volatile active = nullptr;

// What was there before. Written before our handler is installed.
struct Before {
  struct sigaction action {};
  std::atomic<bool> once_over{false};  // SA_RESETHAND: it was called
};
std::array<Before, kSignals.size()> before;

size_t index_of(int signal) { return signal == kSignals[0] ? 0 : 1; }

// As the kernel would without us: our handler was installed with no mask and SA_NODEFER, so what
// the other one has is set here, and undone when the kernel restores the context.
void pass_on(int signal, siginfo_t* info, void* context) {
  Before& other = before[index_of(signal)];
  const bool sent = info->si_code <= 0;
  const bool plain = (other.action.sa_flags & SA_SIGINFO) == 0;
  const bool spent = other.once_over.load();
  if (!spent && plain && other.action.sa_handler == SIG_IGN && sent) return;
  if (spent ||
      (plain && (other.action.sa_handler == SIG_DFL || other.action.sa_handler == SIG_IGN))) {
    struct sigaction fresh {};
    fresh.sa_handler = SIG_DFL;
    ::sigaction(signal, &fresh, nullptr);
    // A fault happens again as soon as this returns, at the right place for a core dump.
    if (sent) ::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), ::syscall(SYS_gettid), signal, info);
    return;
  }
  if ((other.action.sa_flags & SA_RESETHAND) != 0) other.once_over.store(true);
  sigset_t mask = other.action.sa_mask;
  if ((other.action.sa_flags & SA_NODEFER) == 0) ::sigaddset(&mask, signal);
  ::pthread_sigmask(SIG_BLOCK, &mask, nullptr);
  if (plain) {
    other.action.sa_handler(signal);
  } else {
    other.action.sa_sigaction(signal, info, context);
  }
}

void on_fault(int signal, siginfo_t* info, void* context) {
  Guard* guard = active;
  if (guard != nullptr && info->si_code > 0 && guard->blames(*info)) {
    active = nullptr;
    // As the kernel would at the end: a sanitizer in between blocks signals meanwhile.
    ::pthread_sigmask(SIG_SETMASK, &static_cast<ucontext_t*>(context)->uc_sigmask, nullptr);
    ::siglongjmp(guard->resume, 1);
  }
  const int saved = errno;
  pass_on(signal, info, context);
  errno = saved;
}

Mutex handler_mutex{LockRank::kGuard};
[[maybe_unused]] const bool handler_held = (hold_during_forks(handler_mutex), true);
size_t handler_users TE_GUARDED_BY(handler_mutex) = 0;
std::atomic<bool> handler_wanted{false};
std::atomic<bool> handler_in_place{false};
std::atomic<bool> said_replaced{false};

bool is_ours(int signal) {
  struct sigaction now {};
  return ::sigaction(signal, nullptr, &now) == 0 && (now.sa_flags & SA_SIGINFO) != 0 &&
         now.sa_sigaction == on_fault;
}

void install(int signal) {
  if (is_ours(signal)) return;  // it stayed below another one, which is gone
  Before& other = before[index_of(signal)];
  ::sigaction(signal, nullptr, &other.action);
  other.once_over.store(false);
  struct sigaction ours {};
  ours.sa_sigaction = on_fault;
  // Hosts such as Go's runtime demand the alternate stack, where a thread has one.
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | (other.action.sa_flags & SA_RESTART);
  ::sigaction(signal, &ours, nullptr);
}

// The handler may be called for as long as another one knows it.
void stay_in_memory() {
  Dl_info library{};
  if (::dladdr(reinterpret_cast<void*>(&on_fault), &library) == 0) return;
  (void)::dlopen(library.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

bool is_blocked() {
  sigset_t mask;
  ::pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  return std::any_of(kSignals.begin(), kSignals.end(),
                     [&mask](int signal) { return ::sigismember(&mask, signal) == 1; });
}

// Whether a fault of this thread reaches the guard.
bool guard_works() {
  struct Known {
    int64_t at_ns = 0;
    bool works = false;
  };
  static thread_local Known known;
  if (!handler_wanted.load(std::memory_order_relaxed)) return false;
  const int64_t now = now_at_tick_ns();
  if (known.at_ns == now && handler_in_place.load(std::memory_order_relaxed)) return known.works;
  const bool ours = std::all_of(kSignals.begin(), kSignals.end(), is_ours);
  handler_in_place.store(ours, std::memory_order_relaxed);
  known = {now, ours && !is_blocked()};
  if (!ours && handler_wanted.load() && !said_replaced.exchange(true)) {
    log_info(
        "another handler of SIGSEGV or SIGBUS was installed over the engine's: copies of memory go "
        "through the kernel from here on, which is slower");
  }
  return known.works;
}

// Not inlined: what sigsetjmp saves is this function's own.
__attribute__((noinline)) CopyResult convert_under_guard(std::byte* to, const std::byte* from,
                                                         size_t length, ConvertFunction convert,
                                                         void* state) {
  Guard guard;
  guard.to = to;
  guard.from = from;
  guard.length = length;
  // The handler sees to the signal mask.
  if (sigsetjmp(guard.resume, 0) != 0) return guard.result;
  active = &guard;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  convert(state, to, from, length);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  active = nullptr;
  return CopyResult::kDone;
}

CopyResult copy_under_guard(std::byte* to, const std::byte* from, size_t length,
                            CopyFunction copy) {
  const auto call = [](void* state, std::byte* destination, const std::byte* source, size_t size) {
    (*static_cast<CopyFunction*>(state))(destination, source, size);
  };
  return convert_under_guard(to, from, length, call, &copy);
}

uint64_t page_size() {
  static const auto size = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return size;
}

// Calls `touch` for one byte of each page, until it returns false.
template <typename Touch>
bool every_page(const std::byte* begin, size_t length, Touch&& touch) {
  for (size_t at = 0; at < length;) {
    if (!touch(begin + at)) return false;
    at += page_size() - (reinterpret_cast<uint64_t>(begin) + at) % page_size();
  }
  return true;
}

// The application may write the byte meanwhile, which does no harm: the value is not used.
TE_UNWATCHED bool read_byte(const std::byte* at) {
  (void)*reinterpret_cast<const volatile char*>(at);
  return true;
}

void read_pages(std::byte*, const std::byte* from, size_t length) {
  every_page(from, length, read_byte);
}

// Without a lost update, whoever else writes.
TE_UNWATCHED bool write_byte(const std::byte* at) {
  auto* byte = const_cast<char*>(reinterpret_cast<const char*>(at));
  __atomic_fetch_or(byte, 0, __ATOMIC_RELAXED);
  return true;
}

void write_pages(std::byte* to, const std::byte*, size_t length) {
  every_page(to, length, write_byte);
}

// Between this process's own memory and a buffer that is known to be good, or both of it.
ssize_t by_kernel(const std::byte* from, std::byte* to, size_t length) {
  const iovec source{const_cast<std::byte*>(from), length}, destination{to, length};
  return ::process_vm_writev(::getpid(), &source, 1, &destination, 1, 0);
}

bool is_readable_by_kernel(const std::byte* begin, size_t length) {
  return every_page(begin, length, [](const std::byte* at) {
    std::byte byte{};
    return by_kernel(at, &byte, 1) == 1;
  });
}

// Where a filter of system calls forbids process_vm_writev: through a pipe.
CopyResult copy_by_pipe(std::byte* to, const std::byte* from, size_t length) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return CopyResult::kBadDestination;
  const Fd out(ends[0]), in(ends[1]);
  constexpr size_t kRoom = 4096;  // a pipe holds at least this
  for (size_t at = 0; at < length;) {
    const ssize_t taken = ::write(in.get(), from + at, std::min(length - at, kRoom));
    if (taken <= 0) return CopyResult::kBadSource;
    for (ssize_t given = 0; given < taken;) {
      const ssize_t step = ::read(out.get(), to + at, static_cast<size_t>(taken - given));
      if (step <= 0) return CopyResult::kBadDestination;
      given += step;
      at += static_cast<size_t>(step);
    }
  }
  return CopyResult::kDone;
}

CopyResult copy_by_kernel(std::byte* to, const std::byte* from, size_t length) {
  while (length > 0) {
    const ssize_t done = by_kernel(from, to, length);
    if (done <= 0 && errno != EFAULT) return copy_by_pipe(to, from, length);
    if (done <= 0) {
      const size_t step = std::min<size_t>(length, page_size());
      return is_readable_by_kernel(from, step) ? CopyResult::kBadDestination
                                               : CopyResult::kBadSource;
    }
    from += done;
    to += done;
    length -= static_cast<size_t>(done);
  }
  return CopyResult::kDone;
}

void plain_copy(std::byte* to, const std::byte* from, size_t length) {
  std::memcpy(to, from, length);
}

void plain_move(std::byte* to, const std::byte* from, size_t length) {
  std::memmove(to, from, length);
}

// The kernel copies forward only, so each part goes by a buffer of our own.
CopyResult move_by_kernel(std::byte* to, const std::byte* from, size_t length) {
  std::array<std::byte, 16 << 10> part;
  for (size_t done = 0; done < length;) {
    const size_t step = std::min(length - done, part.size());
    const size_t at = to < from ? done : length - done - step;
    if (copy_by_kernel(part.data(), from + at, step) != CopyResult::kDone) {
      return CopyResult::kBadSource;
    }
    if (copy_by_kernel(to + at, part.data(), step) != CopyResult::kDone) {
      return CopyResult::kBadDestination;
    }
    done += step;
  }
  return CopyResult::kDone;
}

}  // namespace

FaultHandler::FaultHandler() {
  MutexLock lock(handler_mutex);
  if (++handler_users > 1) return;
  for (const int signal : kSignals) install(signal);
  said_replaced.store(false);
  handler_wanted.store(true);
}

FaultHandler::~FaultHandler() {
  MutexLock lock(handler_mutex);
  if (--handler_users > 0) return;
  handler_wanted.store(false);
  handler_in_place.store(false);
  for (const int signal : kSignals) {
    if (is_ours(signal)) {
      ::sigaction(signal, &before[index_of(signal)].action, nullptr);
    } else {
      stay_in_memory();
    }
  }
}

std::optional<CopyResult> guarded_convert(std::byte* to, const std::byte* from, size_t length,
                                          ConvertFunction convert, void* state) {
  if (!guard_works()) return std::nullopt;
  return convert_under_guard(to, from, length, convert, state);
}

CopyResult guarded_copy(std::byte* to, const std::byte* from, size_t length, CopyFunction copy) {
  if (guard_works()) return copy_under_guard(to, from, length, copy);
  return copy_by_kernel(to, from, length);
}

CopyResult guarded_copy(std::byte* to, const std::byte* from, size_t length) {
  return guarded_copy(to, from, length, plain_copy);
}

CopyResult guarded_move(std::byte* to, const std::byte* from, size_t length) {
  if (guard_works()) return copy_under_guard(to, from, length, plain_move);
  return move_by_kernel(to, from, length);
}

bool is_readable(const std::byte* begin, size_t length) {
  if (!guard_works()) return is_readable_by_kernel(begin, length);
  return copy_under_guard(nullptr, begin, length, read_pages) == CopyResult::kDone;
}

bool is_writable(std::byte* begin, size_t length) {
  if (guard_works()) {
    return copy_under_guard(begin, nullptr, length, write_pages) == CopyResult::kDone;
  }
  const uint64_t skew = reinterpret_cast<uint64_t>(begin) % page_size();
  if (::madvise(begin - skew, length + skew, kPopulateWrite) == 0) return true;
  // Before Linux 5.14 the call is not known, which reads the same as memory that is read-only.
  if (errno != EINVAL) return false;
  std::byte own{};
  auto* page =
      reinterpret_cast<std::byte*>(reinterpret_cast<uint64_t>(&own) / page_size() * page_size());
  if (::madvise(page, 1, kPopulateWrite) == 0) return false;
  return is_readable_by_kernel(begin, length);
}

}  // namespace te
