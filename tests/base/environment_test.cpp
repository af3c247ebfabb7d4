#include "base/environment.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "support/child.h"

namespace te {
namespace {

std::string value_of(const std::string& name) {
  const char* value = ::getenv(name.c_str());  // NOLINT(concurrency-mt-unsafe): what is tested
  return value == nullptr ? "(none)" : value;
}

TEST(Environment, WhatIsMissingIsSetAndNothingElseIsChanged) {
  ::setenv("TE_TEST_PRESENT", "theirs", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  ::setenv("TE_TEST_EMPTY", "", 1);          // NOLINT(concurrency-mt-unsafe): one thread
  const std::string path = value_of("PATH");
  const std::vector<Variable> variables{
      {"TE_TEST_PRESENT", "ours"}, {"TE_TEST_EMPTY", "ours"}, {"TE_TEST_PRES", "ours"}};
  set_missing_variables(variables);
  EXPECT_EQ(value_of("TE_TEST_PRESENT"), "theirs");
  EXPECT_EQ(value_of("TE_TEST_EMPTY"), "");
  EXPECT_EQ(value_of("TE_TEST_PRES"), "ours");
  EXPECT_EQ(value_of("PATH"), path);

  // The C library goes on with it as with its own.
  ::setenv("TE_TEST_PRES", "changed", 1);  // NOLINT(concurrency-mt-unsafe): one thread
  ::setenv("TE_TEST_LATER", "set", 1);     // NOLINT(concurrency-mt-unsafe): one thread
  ::unsetenv("TE_TEST_PRESENT");           // NOLINT(concurrency-mt-unsafe): one thread
  set_missing_variables(variables);
  EXPECT_EQ(value_of("TE_TEST_PRES"), "changed");
  EXPECT_EQ(value_of("TE_TEST_LATER"), "set");
  EXPECT_EQ(value_of("TE_TEST_PRESENT"), "ours");
  EXPECT_EQ(value_of("PATH"), path);
}

// As a thread that reads its topology does, while another one opens libfabric.
int set_while_others_read() {
  const Variable variables[] = {
      {"TE_TEST_A", "1"}, {"TE_TEST_B", "2"}, {"TE_TEST_C", "3"}, {"TE_TEST_D", "4"}};
  std::atomic<bool> stop{false};
  std::atomic<int> reading{0};
  std::vector<std::thread> readers;
  readers.reserve(2);
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      for (++reading; !stop;) {
        // NOLINTNEXTLINE(concurrency-mt-unsafe): what is tested
        EXPECT_EQ(::getenv("TE_TEST_NEVER_SET"), nullptr);
      }
    });
  }
  while (reading < 2) std::this_thread::yield();
  for (const Variable& variable : variables) set_missing_variables({&variable, 1});
  stop = true;
  for (std::thread& reader : readers) reader.join();
  for (const Variable& variable : variables) EXPECT_EQ(value_of(variable.name), variable.value);
  return 0;
}

TEST(Environment, ThreadsThatReadItMeanwhileAreNotDisturbed) {
  constexpr int kRounds = 50;
  for (int i = 0; i < kRounds; ++i) {
    const test::ChildEnd end = test::run_in_child(set_while_others_read);
    ASSERT_TRUE(end.ok()) << end.describe();
  }
}

}  // namespace
}  // namespace te
