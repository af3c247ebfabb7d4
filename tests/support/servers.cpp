#include "support/servers.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string_view>
#include <thread>

#include "base/clock.h"
#include "base/log.h"
#include "base/socket.h"
#include "support/facts.h"

namespace te::test {
namespace {

constexpr int64_t kStartLimitMs = 30'000;
constexpr int kPortAttempts = 5;

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string folders = path == nullptr ? "" : path;
  folders += ":/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin";
  for (size_t begin = 0; begin < folders.size();) {
    const size_t end = std::min(folders.find(':', begin), folders.size());
    const std::string candidate = folders.substr(begin, end - begin) + "/" + name;
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
    begin = end + 1;
  }
  return {};
}

// Sends `request` and returns what comes back until `wanted` shows, the end, or a second.
bool answers(uint16_t port, std::string_view request, std::string_view wanted) {
  const Result<std::vector<SocketAddress>> addresses = resolve_host("127.0.0.1", port);
  if (!addresses.ok()) return false;
  const int64_t deadline_ns = deadline_after_ms(now_ns(), 1000);
  Result<BlockingStream> stream = BlockingStream::connect(addresses->front(), deadline_ns);
  if (!stream.ok() || !stream->send_all(request, deadline_ns).ok()) return false;
  std::string got;
  char byte;
  while (got.size() < 4096 && got.find(wanted) == std::string::npos) {
    if (!stream->receive_exact({&byte, 1}, deadline_ns).ok()) return false;
    got.push_back(byte);
  }
  return got.find(wanted) != std::string::npos;
}

std::string tail(const std::string& text) {
  return text.substr(text.size() - std::min<size_t>(text.size(), 1000));
}

// In the child, after fork: only async-signal-safe calls. It takes no descriptor along.
[[noreturn]] void become(const char* binary, char* const* argv, int log_fd, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(127);  // the parent ended before prctl
  ::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
  ::dup2(log_fd, STDOUT_FILENO);
  ::dup2(log_fd, STDERR_FILENO);
  ::execv(binary, argv);
  ::_exit(127);
}

}  // namespace

uint16_t free_port() {
  constexpr int kAttempts = 100;
  constexpr uint16_t kLeast = 10'000;
  uint16_t given = 0;  // the kernel gives this one and higher ones
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> given;
  thread_local std::mt19937 random{std::random_device{}()};
  for (int i = 0; i < kAttempts && given > kLeast; ++i) {
    const auto port = static_cast<uint16_t>(kLeast + random() % (given - kLeast));
    if (listen_tcp("127.0.0.1", port, 1).ok()) return port;
  }
  const Result<Fd> fd = listen_tcp("127.0.0.1", 0, 1);
  return fd.ok() ? local_address(fd->get()).port() : uint16_t{0};
}

ServerProcess::ServerProcess(std::string program, uint16_t port)
    : program_(std::move(program)), binary_(find_program(program_)), port_(port) {
  std::string pattern = (std::filesystem::temp_directory_path() / "te_server_XXXXXX").string();
  if (::mkdtemp(pattern.data()) != nullptr) data_dir_ = pattern;
}

ServerProcess::~ServerProcess() {
  stop();
  std::error_code ignored;
  if (!data_dir_.empty()) std::filesystem::remove_all(data_dir_, ignored);
}

std::string ServerProcess::endpoint() const { return join_host_port("127.0.0.1", port_); }

Status ServerProcess::start() {
  if (!available()) return error(Code::kUnsupported, "{} is not installed", program_);
  if (data_dir_.empty()) return Status(Code::kResource, "cannot make a temporary directory");
  const bool choose_port = port_ == 0;
  Status status;
  for (int attempt = 0; attempt < kPortAttempts; ++attempt) {
    if (choose_port) port_ = free_port();
    TE_RETURN_IF_ERROR(launch());
    status = wait_until_ready();
    if (status.ok()) return status;
    stop();
    if (!choose_port) break;
    clear_data();
  }
  return status;
}

Status ServerProcess::launch() {
  std::vector<std::string> words = arguments();
  words.insert(words.begin(), binary_);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const Fd log(
      ::open((data_dir_ + "/log").c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600));
  forget_descriptor(log.get());  // the child's
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) become(binary_.c_str(), argv.data(), log.get(), parent);
  if (pid_ < 0) return Status(Code::kResource, "cannot fork");
  return {};
}

Status ServerProcess::wait_until_ready() {
  const int64_t limit_ns = deadline_after_ms(now_ns(), kStartLimitMs);
  while (now_ns() < limit_ns) {
    if (ready()) return {};
    int ended = 0;
    if (::waitpid(pid_, &ended, WNOHANG) == pid_) {
      pid_ = -1;
      return error(Code::kUnavailable, "{} ended at once: {}", program_, tail(log()));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return error(Code::kTimeout, "{} did not start within {} ms: {}", program_, kStartLimitMs,
               tail(log()));
}

void ServerProcess::signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

bool ServerProcess::freeze() const { return stop_process(pid_); }

void ServerProcess::stop() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

Status ServerProcess::restart() {
  stop();
  return start();
}

Status ServerProcess::restart_empty() {
  stop();
  clear_data();
  return start();
}

void ServerProcess::clear_data() const {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(data_dir_, ignored)) {
    std::filesystem::remove_all(entry.path(), ignored);
  }
}

std::string ServerProcess::log() const {
  std::ifstream file(data_dir_ + "/log");
  return {std::istreambuf_iterator<char>(file), {}};
}

RedisServer::RedisServer(std::string password, ServerTls tls)
    : ServerProcess("redis-server"), password_(std::move(password)), tls_(std::move(tls)) {}

std::string RedisServer::url() const {
  if (tls_.on()) return "rediss://" + endpoint();
  return password_.empty() ? "redis://" + endpoint() : "redis://:" + password_ + "@" + endpoint();
}

std::vector<std::string> RedisServer::arguments() {
  const std::string own_port = std::to_string(port());
  std::vector<std::string> words = {"--bind", "127.0.0.1", "--dir",        data_dir(),
                                    "--save", "",          "--appendonly", "no"};
  if (tls_.on()) {
    words.insert(words.end(), {"--port", "0", "--tls-port", own_port, "--tls-ca-cert-file", tls_.ca,
                               "--tls-cert-file", tls_.cert, "--tls-key-file", tls_.key});
  } else {
    words.insert(words.end(), {"--port", own_port});
  }
  if (!password_.empty()) words.insert(words.end(), {"--requirepass", password_});
  return words;
}

bool RedisServer::ready() const {
  if (tls_.on()) return log().find("Ready to accept connections") != std::string::npos;
  return password_.empty() ? answers(port(), "PING\r\n", "+PONG")
                           : answers(port(), "PING\r\n", "-NOAUTH");
}

EtcdServer::EtcdServer(uint16_t port, ServerTls tls)
    : ServerProcess("etcd", port), tls_(std::move(tls)) {}

std::vector<std::string> EtcdServer::arguments() {
  if (peer_port_ == 0) peer_port_ = free_port();
  const std::string client = (tls_.on() ? "https://" : "http://") + endpoint();
  const std::string peer = "http://127.0.0.1:" + std::to_string(peer_port_);
  std::vector<std::string> words = {
      "--name", "te", "--data-dir", data_dir() + "/data", "--listen-client-urls", client,
      "--advertise-client-urls", client, "--listen-peer-urls", peer,
      "--initial-advertise-peer-urls", peer, "--initial-cluster", "te=" + peer,
      // A shorter election makes it serve at once.
      "--heartbeat-interval", "20", "--election-timeout", "200"};
  if (tls_.on()) {
    words.insert(words.end(), {"--client-cert-auth", "--trusted-ca-file", tls_.ca, "--cert-file",
                               tls_.cert, "--key-file", tls_.key});
  }
  return words;
}

bool EtcdServer::ready() const {
  if (tls_.on()) return log().find("serving client") != std::string::npos;
  return answers(port(), "GET /health HTTP/1.0\r\nHost: test\r\n\r\n", "\"health\":\"true\"");
}

}  // namespace te::test
