#include "base/random.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <thread>
#include <vector>

namespace te {
namespace {

TEST(Random, DoesNotRepeat) {
  std::set<uint64_t> seen;
  for (int i = 0; i < 10'000; ++i) EXPECT_TRUE(seen.insert(random_u64()).second);
  std::set<std::array<uint8_t, 16>> keys;
  for (int i = 0; i < 10'000; ++i) EXPECT_TRUE(keys.insert(random_bytes16()).second);
}

TEST(Random, EveryBitMoves) {
  uint64_t ones = 0, zeros = 0;
  for (int i = 0; i < 200; ++i) {
    const uint64_t value = random_u64();
    ones |= value;
    zeros |= ~value;
  }
  EXPECT_EQ(ones, UINT64_MAX);
  EXPECT_EQ(zeros, UINT64_MAX);
}

TEST(Random, AForkedChildHasNumbersOfItsOwn) {
  random_u64();  // the parent's block is drawn, and only begun
  int pipe_fds[2];
  ASSERT_EQ(::pipe(pipe_fds), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    uint64_t values[40];
    for (uint64_t& value : values) value = random_u64();
    const bool sent = ::write(pipe_fds[1], values, sizeof values) == sizeof values;
    ::_exit(sent ? 0 : 1);
  }
  ::close(pipe_fds[1]);
  uint64_t theirs[40] = {};
  EXPECT_EQ(::read(pipe_fds[0], theirs, sizeof theirs), static_cast<ssize_t>(sizeof theirs));
  ::close(pipe_fds[0]);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  std::set<uint64_t> all(std::begin(theirs), std::end(theirs));
  for (int i = 0; i < 40; ++i) all.insert(random_u64());
  EXPECT_EQ(all.size(), 80u);
}

TEST(Random, ThreadsHaveNumbersOfTheirOwn) {
  std::vector<uint64_t> values[4];
  std::vector<std::thread> threads;
  for (std::vector<uint64_t>& mine : values) {
    threads.emplace_back([&mine] {
      for (int i = 0; i < 1'000; ++i) mine.push_back(random_u64());
    });
  }
  std::set<uint64_t> all;
  for (size_t i = 0; i < threads.size(); ++i) {
    threads[i].join();
    all.insert(values[i].begin(), values[i].end());
  }
  EXPECT_EQ(all.size(), 4'000u);
}

}  // namespace
}  // namespace te
