#include "base/fork.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <vector>

#include "base/open_sockets.h"

namespace te {

namespace fork_internal {
std::atomic<uint32_t> generation{0};
}

namespace {

// A bit for each, without a lock: a child finds it as it was. Larger ones, which the usual limit of
// a system (fs.nr_open) does not allow, are not closed.
constexpr int kMostDescriptors = 1 << 20;
constexpr int kBits = 64;
std::array<std::atomic<uint64_t>, kMostDescriptors / kBits> noted;
std::atomic<int> words_used{0};

struct Globals {
  SharedMutex opening{LockRank::kUnchecked};  // a fork is its writer
  Mutex mutex{LockRank::kUnchecked};
  std::vector<Mutex*> held TE_GUARDED_BY(mutex);  // taken from the last one to the first
  std::vector<void (*)()> hooks TE_GUARDED_BY(mutex);
  std::map<AddressKey, int> addresses TE_GUARDED_BY(mutex);  // and how often each was noted
};

// Never destroyed: forks happen until the end.
Globals& globals() {
  static Globals* instance = new Globals;
  return *instance;
}

void close_noted_descriptors() {
  const int used = words_used.load(std::memory_order_relaxed);
  for (int word = 0; word < used; ++word) {
    if (noted[static_cast<size_t>(word)].load(std::memory_order_relaxed) == 0) continue;
    uint64_t bits = noted[static_cast<size_t>(word)].exchange(0, std::memory_order_relaxed);
    for (; bits != 0; bits &= bits - 1) ::close(word * kBits + __builtin_ctzll(bits));
  }
}

// glibc makes its allocator usable before it calls the handlers in a child.
void close_noted_sockets(const std::map<AddressKey, int>& addresses) {
  if (addresses.empty()) return;
  for (const int fd : list_descriptors()) {
    if (addresses.contains(address_key(local_address(fd))) ||
        addresses.contains(address_key(peer_address(fd)))) {
      ::close(fd);
    }
  }
}

void before_fork() TE_NO_THREAD_SAFETY_ANALYSIS {
  globals().opening.lock();
  globals().mutex.lock();
  const std::vector<Mutex*>& held = globals().held;
  TE_LOCK_ORDER(lock_order::stop_checking(true));
  for (auto each = held.rbegin(); each != held.rend(); ++each) (*each)->lock();
  TE_LOCK_ORDER(lock_order::stop_checking(false));
}

void let_go() TE_NO_THREAD_SAFETY_ANALYSIS {
  for (Mutex* mutex : globals().held) mutex->unlock();
  globals().mutex.unlock();
  globals().opening.unlock();
}

void in_child() TE_NO_THREAD_SAFETY_ANALYSIS {
  const int error = errno;
  fork_internal::generation.fetch_add(1, std::memory_order_relaxed);
  close_noted_sockets(globals().addresses);
  close_noted_descriptors();
  globals().addresses.clear();
  const std::vector<void (*)()>& hooks = globals().hooks;
  let_go();
  for (void (*hook)() : hooks) hook();
  errno = error;
}

}  // namespace

void watch_forks() {
  static const int watching = ::pthread_atfork(before_fork, let_go, in_child);
  (void)watching;  // it fails for want of memory alone
}

void hold_during_forks(Mutex& mutex) {
  MutexLock lock(globals().mutex);
  std::vector<Mutex*>& held = globals().held;
  if (std::find(held.begin(), held.end(), &mutex) == held.end()) held.push_back(&mutex);
}

void hold_last_during_forks(Mutex& mutex) {
  MutexLock lock(globals().mutex);
  globals().held.insert(globals().held.begin(), &mutex);
}

void call_in_children(void (*hook)()) {
  MutexLock lock(globals().mutex);
  std::vector<void (*)()>& hooks = globals().hooks;
  if (std::find(hooks.begin(), hooks.end(), hook) == hooks.end()) hooks.push_back(hook);
}

void note_descriptor(int fd) {
  if (fd < 0 || fd >= kMostDescriptors) return;
  const int words = fd / kBits + 1;
  int used = words_used.load(std::memory_order_relaxed);
  while (used < words && !words_used.compare_exchange_weak(used, words)) {
  }
  noted[static_cast<size_t>(fd / kBits)].fetch_or(uint64_t{1} << (fd % kBits),
                                                  std::memory_order_relaxed);
}

void forget_descriptor(int fd) {
  if (fd < 0 || fd >= kMostDescriptors) return;
  noted[static_cast<size_t>(fd / kBits)].fetch_and(~(uint64_t{1} << (fd % kBits)),
                                                   std::memory_order_relaxed);
}

NotedAddress::NotedAddress(std::string_view address) {
  key_ = address_key(address);
  if (key_ == Key{}) return;
  MutexLock lock(globals().mutex);
  ++globals().addresses[key_];
}

NotedAddress::~NotedAddress() {
  if (key_ == Key{}) return;
  MutexLock lock(globals().mutex);
  const auto found = globals().addresses.find(key_);
  if (found != globals().addresses.end() && --found->second == 0) globals().addresses.erase(found);
}

NoFork::NoFork() TE_NO_THREAD_SAFETY_ANALYSIS { globals().opening.lock_shared(); }
NoFork::~NoFork() TE_NO_THREAD_SAFETY_ANALYSIS { globals().opening.unlock_shared(); }

}  // namespace te
