#include "child_process.h"

#include <fmt/core.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "stop_signals.h"

namespace te::tool {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kStopTime{5'000};
constexpr int kExecFailed = 127;

int milliseconds_until(Clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
  return left.count() > 0 ? static_cast<int>(left.count()) : 0;
}

// Between fork and exec: only calls that are safe there.
[[noreturn]] void run_child(pid_t parent, int fd, const char* path, char* const* argv) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(kExecFailed);  // it was killed before the kernel knew
  dup2(fd, STDIN_FILENO);
  dup2(fd, STDOUT_FILENO);
  execv(path, argv);
  _exit(kExecFailed);
}

}  // namespace

Result<ChildProcess> ChildProcess::start_self(const std::vector<std::string>& arguments) {
  return start("/proc/self/exe", arguments);
}

Result<ChildProcess> ChildProcess::start(const std::string& path,
                                         const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {"te"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return Status(Code::kResource, fmt::format("no socket to a child: {}", std::strerror(errno)));
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) run_child(parent, ends[1], path.c_str(), argv.data());
  const int fork_errno = errno;
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return Status(Code::kResource, fmt::format("no child process: {}", std::strerror(fork_errno)));
  }
  return ChildProcess(pid, ends[0]);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      fd_(std::exchange(other.fd_, -1)),
      pending_(std::move(other.pending_)) {}

ChildProcess::~ChildProcess() {
  if (pid_ < 0) return;
  kill(pid_, SIGTERM);
  // The end of its output is the end of the process: nobody else holds that socket.
  const Clock::time_point end = Clock::now() + kStopTime;
  std::array<char, 4096> ignored;
  bool ended = false;
  while (!ended) {
    pollfd entry{fd_, POLLIN, 0};
    const int ready = poll(&entry, 1, milliseconds_until(end));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) break;
    ended = read(fd_, ignored.data(), ignored.size()) <= 0;
  }
  if (!ended) kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  close(fd_);
}

Result<std::string> ChildProcess::read_line(std::chrono::milliseconds timeout) {
  const Clock::time_point end = Clock::now() + timeout;
  for (;;) {
    if (const size_t newline = pending_.find('\n'); newline != std::string::npos) {
      std::string line = pending_.substr(0, newline);
      pending_.erase(0, newline + 1);
      return line;
    }
    if (stop_signal() != 0) return Status(Code::kCancelled, "a stop signal came");
    std::array<pollfd, 2> entries = {{{fd_, POLLIN, 0}, {stop_signal_fd(), POLLIN, 0}}};
    const int ready = poll(entries.data(), entries.size(), milliseconds_until(end));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      return Status(Code::kTimeout,
                    fmt::format("nothing from the child process in {} ms", timeout.count()));
    }
    if (entries[0].revents == 0) continue;
    std::array<char, 4096> bytes;
    const ssize_t count = read(fd_, bytes.data(), bytes.size());
    if (count <= 0) return Status(Code::kUnavailable, "the child process ended");
    pending_.append(bytes.data(), static_cast<size_t>(count));
  }
}

bool ChildProcess::has_failed() {
  siginfo_t end{};
  // Left to the destructor to collect, so that the number stays this child's.
  while (waitid(P_PID, static_cast<id_t>(pid_), &end, WEXITED | WNOWAIT) != 0) {
    if (errno != EINTR) return false;
  }
  return end.si_code == CLD_EXITED && end.si_status != 0 && end.si_status != kExecFailed;
}

Status ChildProcess::write_line(const std::string& line) {
  const std::string text = line + '\n';
  for (size_t done = 0; done < text.size();) {
    const ssize_t count = send(fd_, text.data() + done, text.size() - done, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return Status(Code::kUnavailable, "the child process ended");
    done += static_cast<size_t>(count);
  }
  return {};
}

}  // namespace te::tool
