// A part of a test that runs in a process of its own, because it changes the process for ever or
// may end it.
#pragma once

#include <functional>
#include <string>

namespace te::test {

struct ChildEnd {
  // This system does not let it do what was asked for.
  static constexpr int kNotPossible = 77;
  int status = -1;   // as waitpid gives it; -1: it did not end in time, and was killed
  std::string said;  // on stdout and stderr

  bool ok() const { return status == 0; }
  bool not_possible() const { return status == kNotPossible << 8; }
  // What happened, for the message of a test that fails.
  std::string describe() const;
};

// Forks; `body` runs in the child, and what it returns is the exit status. Its failed expectations
// are told in `said`, and make the status 1. Call it while the process has no other threads.
ChildEnd run_in_child(const std::function<int()>& body, int limit_ms = 60'000);

}  // namespace te::test
