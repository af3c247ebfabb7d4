#include "base/per_thread.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>

#include "base/waker.h"
#include "support/child.h"
#include "support/facts.h"

namespace te {
namespace {

std::atomic<int> made{0};
std::atomic<int> destroyed{0};

// Takes memory, which LeakSanitizer would miss.
struct Counted {
  Counted() { ++made; }
  ~Counted() { ++destroyed; }
  std::string text = std::string(1'000, 'x');
};

TEST(PerThread, EachThreadHasOneAndDestroysIt) {
  made = destroyed = 0;
  Counted* const first = &per_thread<Counted>();
  EXPECT_EQ(&per_thread<Counted>(), first);
  std::thread([first] {
    Counted* const own = &per_thread<Counted>();
    EXPECT_NE(own, first);
    EXPECT_EQ(&per_thread<Counted>(), own);
  }).join();
  EXPECT_EQ(made, 2);
  EXPECT_EQ(destroyed, 1);
  EXPECT_EQ(first->text.size(), 1'000u);
}

// Earlier is made before the thread's object. Of two `thread_local` objects it would be destroyed
// last.
TEST(PerThread, AThreadsOwnDestructorsMayUseIt) {
  struct Earlier {
    ~Earlier() {
      EXPECT_EQ(&per_thread<Counted>(), object);
      EXPECT_EQ(destroyed, 0);
    }
    Counted* object = nullptr;
  };
  made = destroyed = 0;
  std::thread([] {
    static thread_local Earlier earlier;
    earlier.object = nullptr;  // makes it
    earlier.object = &per_thread<Counted>();
  }).join();
  EXPECT_EQ(made, 1);
  EXPECT_EQ(destroyed, 1);
}

// The destructors of keys run last, those of the newest key after all others.
TEST(PerThread, WhatAThreadMakesAfterItsObjectWasDestroyedIsDestroyedToo) {
  per_thread<Counted>();
  made = destroyed = 0;
  static pthread_key_t newest;
  ASSERT_EQ(::pthread_key_create(&newest,
                                 [](void*) {
                                   EXPECT_EQ(destroyed, 1);
                                   EXPECT_EQ(per_thread<Counted>().text.size(), 1'000u);
                                 }),
            0);
  std::thread([] {
    per_thread<Counted>();
    ::pthread_setspecific(newest, &newest);
  }).join();
  ::pthread_key_delete(newest);
  EXPECT_EQ(made, 2);
  EXPECT_EQ(destroyed, 2);
}

TEST(PerThread, ExitHandlersFindTheObjectOfBefore) {
  const test::ChildEnd end = test::run_in_child([] {
    static Counted* object = nullptr;
    const int handler = std::atexit([] {
      if (&per_thread<Counted>() != object || object->text.size() != 1'000) ::_exit(3);
      if (destroyed != 0) ::_exit(4);
    });
    if (handler != 0) return 2;
    made = destroyed = 0;
    object = &per_thread<Counted>();
    std::exit(0);
    return 1;
  });
  EXPECT_TRUE(end.ok()) << end.describe();
}

TEST(Waker, ThreadsThatEndGiveTheirDescriptorsBack) {
  const int own = Waker::of_this_thread().descriptor();
  const size_t before = test::open_descriptors();
  for (int i = 0; i < 10; ++i) {
    std::thread([own] {
      EXPECT_GE(Waker::of_this_thread().descriptor(), 0);
      EXPECT_NE(Waker::of_this_thread().descriptor(), own);
    }).join();
  }
  EXPECT_EQ(test::open_descriptors(), before) << test::descriptor_names();
}

// Its descriptor's number must not have become that of something else, which would be read from.
TEST(Waker, WorksInExitHandlers) {
  const test::ChildEnd end = test::run_in_child([] {
    static int other = -1;
    const int handler = std::atexit([] {
      other = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
      Waker& waker = Waker::of_this_thread();
      if (waker.descriptor() < 0 || waker.descriptor() == other) ::_exit(3);
      std::thread([&waker] { waker.wake(); }).join();
      pollfd entries[] = {{waker.descriptor(), POLLIN, 0}, {other, POLLIN, 0}};
      if (::poll(entries, 2, 0) != 1 || entries[0].revents != POLLIN) ::_exit(4);
      waker.clear();
      if (::poll(entries, 2, 0) != 0) ::_exit(5);
    });
    if (handler != 0) return 2;
    // An inherited one would be renewed in the handler.
    Waker::of_this_thread();
    std::exit(0);
    return 1;
  });
  EXPECT_TRUE(end.ok()) << end.describe();
}

}  // namespace
}  // namespace te
