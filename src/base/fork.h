// What a fork leaves of the library in the child, which inherits its memory and its descriptors but
// none of its threads.
//
// The child never works with an engine of its parent: every call compares fork_generation() with
// that of the engine's making. It closes its copies of the library's descriptors at once, so that
// peers notice the parent's end, and the parent's ports are free then. Global locks are as free in
// it as they were before. New engines work in it as in any process.
//
// Threads: any. Programs that start others by posix_spawn or vfork are not concerned: what the
// library opens is closed on exec.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/mutex.h"

namespace te {

namespace fork_internal {
extern std::atomic<uint32_t> generation;
}

// How many forks lie between the process that loaded the library and this one, as far as they came
// after the first watch_forks().
inline uint32_t fork_generation() {
  return fork_internal::generation.load(std::memory_order_relaxed);
}

// From now on forks are noticed. Before the first engine is made, and before any hook is added.
void watch_forks();

// A lock that outlives all engines: a fork waits until it is free, so that what it guards is whole
// in the child. Held for moments only, and never while another such lock is taken.
//
// Called while the library is loaded, or where a NoFork lives: a fork finds an object that another
// thread is making, and that waits here, half made in the child for ever.
void hold_during_forks(Mutex& mutex);
// The same for the one lock that is taken while others are: the log's.
void hold_last_during_forks(Mutex& mutex);
// Called in each child, after the library's descriptors are closed and before fork() returns. Where
// the parent had other threads, only what is safe in a signal handler may be called.
void call_in_children(void (*hook)());

// A descriptor that is closed in children. One in use by two owners is noted once.
void note_descriptor(int fd);
void forget_descriptor(int fd);

// Notes a descriptor that another library opened for this one, for as long as the object lives.
class NotedDescriptor {
 public:
  NotedDescriptor() = default;
  explicit NotedDescriptor(int fd) : fd_(fd) { note_descriptor(fd_); }
  NotedDescriptor(const NotedDescriptor&) = delete;
  NotedDescriptor& operator=(const NotedDescriptor&) = delete;
  NotedDescriptor(NotedDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  NotedDescriptor& operator=(NotedDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  // Before the other library closes it.
  ~NotedDescriptor() { forget_descriptor(fd_); }

 private:
  int fd_ = -1;
};

// Sockets that another library opens and does not name: for as long as the object lives, children
// close every socket that is bound or connected to this address.
class NotedAddress {
 public:
  NotedAddress() = default;
  // A sockaddr of IPv4 or IPv6; others are passed over.
  explicit NotedAddress(std::string_view address);
  NotedAddress(const NotedAddress&) = delete;
  NotedAddress& operator=(const NotedAddress&) = delete;
  NotedAddress(NotedAddress&& other) noexcept : key_(std::exchange(other.key_, {})) {}
  NotedAddress& operator=(NotedAddress&& other) noexcept {
    std::swap(key_, other.key_);
    return *this;
  }
  ~NotedAddress();

  // The family, the port and the address; all zero: nothing is noted.
  using Key = std::array<char, 24>;

 private:
  Key key_{};
};

// While one lives, no fork happens: so that a descriptor is noted in the moment it is there.
class NoFork {
 public:
  NoFork();
  ~NoFork();
  NoFork(const NoFork&) = delete;
  NoFork& operator=(const NoFork&) = delete;
};

}  // namespace te
