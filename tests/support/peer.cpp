#include "support/peer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "support/facts.h"

namespace te::test {
namespace {

constexpr int kStartLimitMs = 20'000;
constexpr int kAnswerLimitMs = 60'000;

// What the peer's process gets of this one's environment: all but settings of the engine.
std::vector<std::string> environment_of(const PeerOptions& options) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (std::strncmp(*entry, "TE_", 3) != 0) result.emplace_back(*entry);
  }
  for (const auto& [name, value] : options.environment) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> result;
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

// In the child, after fork: only async-signal-safe calls. It takes no descriptor along: libfabric's
// sockets, which are not close-on-exec, would stay open there when they are closed here.
[[noreturn]] void become(char* const* argv, char* const* env, int in, int out, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);
  ::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  ::dup2(in, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::execve(argv[0], argv, env);
  ::_exit(127);
}

// In a mover's process, `out` is both its outputs; -1: this process's.
pid_t fork_mover(std::vector<std::string> words, const PeerOptions& settings, int out) {
  std::vector<std::string> environment = environment_of(settings);
  const std::vector<char*> argv = pointers(words), env = pointers(environment);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child != 0) return child;
  if (out >= 0) ::dup2(out, STDERR_FILENO);
  become(argv.data(), env.data(), STDIN_FILENO, STDERR_FILENO, parent);
}

std::vector<std::string> mover_words(const MoverOptions& options) {
  std::vector<std::string> words = {TE_TEST_MOVER_PROGRAM,
                                    "--segment",
                                    options.segment,
                                    "--at",
                                    std::to_string(options.at),
                                    "--size",
                                    std::to_string(options.size),
                                    "--volume",
                                    std::to_string(options.volume)};
  words.insert(words.end(), options.more.begin(), options.more.end());
  return words;
}

MoverEnd run_to_end(std::vector<std::string> words, const PeerOptions& settings) {
  MoverEnd end;
  int up[2];
  if (::pipe2(up, O_CLOEXEC) != 0) return end;
  const Fd from(up[0]);
  Fd out(up[1]);
  forget_descriptor(out.get());  // the child's
  const pid_t child = fork_mover(std::move(words), settings, out.get());
  out.reset();
  char bytes[4096];
  for (ssize_t got; (got = ::read(from.get(), bytes, sizeof bytes)) > 0;) {
    end.said.append(bytes, static_cast<size_t>(got));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  end.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return end;
}

}  // namespace

pid_t start_mover(const MoverOptions& options) { return fork_mover(mover_words(options), {}, -1); }

MoverEnd run_mover(const MoverOptions& options) { return run_to_end(mover_words(options), {}); }

std::string mover_error(const std::map<std::string, std::string>& environment) {
  PeerOptions settings;
  settings.environment = environment;
  return run_to_end({TE_TEST_MOVER_PROGRAM}, settings).said;
}

uint64_t MoverEnd::number(const std::string& transport, int column) const {
  std::istringstream lines(said);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word, name;
    uint64_t numbers[2] = {};
    words >> word >> name >> numbers[0] >> numbers[1];
    if (word == "path" && name == transport) return numbers[column];
  }
  return 0;
}

PeerProcess::PeerProcess(const PeerOptions& options) {
  ::signal(SIGPIPE, SIG_IGN);
  std::vector<std::string> words = {
      options.gpu < 0 ? TE_TEST_PEER_PROGRAM : TE_TEST_GPU_PEER_PROGRAM,
      "--metadata",
      options.metadata,
      "--name",
      options.name,
      "--host",
      options.host,
      "--port",
      std::to_string(options.port),
      "--size",
      std::to_string(options.size),
      "--seed",
      std::to_string(options.seed)};
  if (options.graceful) words.emplace_back("--graceful");
  if (!options.transport.empty()) {
    words.emplace_back("--transport");
    words.emplace_back(options.transport);
  }
  if (options.gpu >= 0) {
    words.emplace_back("--gpu");
    words.emplace_back(std::to_string(options.gpu));
    words.emplace_back("--gpu-kind");
    words.emplace_back(options.gpu_kind);
  }
  if (options.allocate) words.emplace_back("--allocate");
  if (options.fragile) words.emplace_back("--fragile");
  if (options.forbid_files) words.emplace_back("--forbid-files");
  if (options.own_pids) words.emplace_back("--own-pids");
  if (options.descriptors != 0) {
    words.emplace_back("--descriptors");
    words.emplace_back(std::to_string(options.descriptors));
  }
  std::vector<std::string> environment = environment_of(options);
  int down[2], up[2];
  if (::pipe2(down, O_CLOEXEC) != 0 || ::pipe2(up, O_CLOEXEC) != 0) {
    ADD_FAILURE() << "no pipe: " << errno_text(errno);
    return;
  }
  const Fd in(down[0]), out(up[1]);
  for (const int fd : {in.get(), out.get()}) forget_descriptor(fd);  // the child's
  to_ = Fd(down[1]);
  from_ = Fd(up[0]);
  const std::vector<char*> argv = pointers(words), env = pointers(environment);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) become(argv.data(), env.data(), in.get(), out.get(), parent);
  std::istringstream line(read_line(kStartLimitMs));
  std::string word;
  line >> word >> segment_ >> endpoint_ >> std::hex >> address_;
  if (word != "ready") {
    ADD_FAILURE() << "the peer did not come up: '" << line.str() << "'";
    kill();
  }
}

PeerProcess::~PeerProcess() {
  if (pid_ <= 0) return;
  signal(SIGCONT);
  close_input();
  const int status = wait_for_end(5'000);
  if (status == -1) {
    kill();
    return;
  }
  EXPECT_EQ(status, 0) << "the peer ended badly; what it said is above";
}

uint16_t PeerProcess::port() const {
  const size_t colon = endpoint_.rfind(':');
  return static_cast<uint16_t>(std::strtoul(endpoint_.c_str() + colon + 1, nullptr, 10));
}

std::string PeerProcess::read_line(int limit_ms) {
  const Stopwatch watch;
  for (;;) {
    if (const size_t end = received_.find('\n'); end != std::string::npos) {
      std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return line;
    }
    pollfd entry{from_.get(), POLLIN, 0};
    const int64_t left = limit_ms - watch.ms();
    if (left <= 0 || ::poll(&entry, 1, static_cast<int>(left)) <= 0) return {};
    char bytes[4096];
    const ssize_t got = ::read(from_.get(), bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return {};
    received_.append(bytes, static_cast<size_t>(got));
  }
}

std::string PeerProcess::ask(const std::string& command) {
  const std::lock_guard lock(asking_);
  const std::string line = command + "\n";
  if (::write(to_.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) return {};
  return read_line(kAnswerLimitMs);
}

void PeerProcess::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

void PeerProcess::stop() const { EXPECT_TRUE(stop_process(pid_)) << "the peer does not stop"; }

int PeerProcess::wait_for_end(int limit_ms) {
  if (pid_ <= 0) return -1;
  int status = -1;
  const bool ended = eventually([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; },
                                std::chrono::milliseconds(limit_ms));
  if (!ended) return -1;
  pid_ = -1;
  return status;
}

void PeerProcess::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

}  // namespace te::test
