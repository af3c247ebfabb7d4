#include "support/child.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "support/facts.h"

namespace te::test {
namespace {

// Says it at once, in the child: nobody looks at its results later.
class Sayer final : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::printf("%s:%d: %s\n", result.file_name() == nullptr ? "" : result.file_name(),
                result.line_number(), result.message());
    std::fflush(stdout);
  }
};

[[noreturn]] void be_child(const std::function<int()>& body, int output) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  ::close(output);
  testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  listeners.Append(new Sayer);
  int status = body();
  std::fflush(nullptr);
  if (status == 0 && testing::Test::HasFailure()) status = 1;
  ::_exit(status);
}

}  // namespace

std::string ChildEnd::describe() const {
  std::string text = "wait status " + std::to_string(status);
  if (status == -1) text = "it did not end in time";
  if (status != -1 && WIFSIGNALED(status)) {
    text = "it was killed by signal " + std::to_string(WTERMSIG(status));
  }
  return text + "; it said:\n" + said;
}

ChildEnd run_in_child(const std::function<int()>& body, int limit_ms) {
  ChildEnd end;
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) return end;
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(pipe[0]);
    be_child(body, pipe[1]);
  }
  ::close(pipe[1]);
  const Stopwatch watch;
  bool open = true;
  while (open && watch.ms() < limit_ms) {
    pollfd entry{pipe[0], POLLIN, 0};
    if (::poll(&entry, 1, 100) <= 0) {
      // Others that inherited the pipe may outlive it.
      if (::waitpid(child, &end.status, WNOHANG) == child) {
        ::close(pipe[0]);
        return end;
      }
      continue;
    }
    char text[4096];
    const ssize_t got = ::read(pipe[0], text, sizeof text);
    if (got > 0) end.said.append(text, static_cast<size_t>(got));
    open = got > 0;
  }
  ::close(pipe[0]);
  if (!open && ::waitpid(child, &end.status, 0) == child) return end;
  ::kill(child, SIGKILL);
  ::waitpid(child, &end.status, 0);
  end.status = -1;
  return end;
}

}  // namespace te::test
