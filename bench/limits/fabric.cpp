// `te_fabric_limit [PROVIDER [ADDRESS]]`: a plain loop of fi_write() or fi_read(), with a target in
// a process of its own: what the engine over libfabric is held against.
//
// Sixteen blocks under way, wait for all, and again, through the memory in rotation; it polls at
// both ends. Prints "ready", then answers each line "write|read BLOCK_BYTES MILLISECONDS" with
// bytes per second. Exit status 1, and why on stderr, when it cannot. Threads: the main thread of
// each process.
#include <fmt/core.h>
#include <poll.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace te::bench {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kMemory = 256 << 20;  // as the suite moves through
constexpr size_t kDepth = 16;

[[noreturn]] void give_up(const std::string& what) {
  fmt::print(stderr, "te_fabric_limit: {}\n", what);
  std::_Exit(1);
}

void require(long result, const char* what) {
  if (result != 0) give_up(fmt::format("{}: {}", what, fi_strerror(static_cast<int>(-result))));
}

struct Address {
  std::array<char, 256> name{};
  uint64_t base = 0;
  uint64_t key = 0;
};

// One endpoint with its memory; never taken down: the process ends.
struct Plain {
  fi_info* info = nullptr;
  fid_fabric* fabric = nullptr;
  fid_domain* domain = nullptr;
  fid_cq* queue = nullptr;
  fid_av* addresses = nullptr;
  fid_ep* endpoint = nullptr;
  fid_mr* range = nullptr;
  std::vector<std::byte> memory = std::vector<std::byte>(kMemory, std::byte{1});
  Address address;

  Plain(const std::string& provider, const char* node) {
    fi_info* hints = fi_allocinfo();
    hints->caps = FI_MSG | FI_RMA;
    hints->ep_attr->type = FI_EP_RDM;
    hints->tx_attr->op_flags = FI_DELIVERY_COMPLETE;
    hints->domain_attr->threading = FI_THREAD_SAFE;
    hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
    hints->fabric_attr->prov_name = strdup(provider.c_str());
    require(fi_getinfo(FI_VERSION(1, 17), node, nullptr, FI_SOURCE, hints, &info), "fi_getinfo");
    require(fi_fabric(info->fabric_attr, &fabric, nullptr), "fi_fabric");
    require(fi_domain(fabric, info, &domain, nullptr), "fi_domain");
    fi_cq_attr queue_attributes{};
    queue_attributes.format = FI_CQ_FORMAT_CONTEXT;
    queue_attributes.size = info->tx_attr->size;
    require(fi_cq_open(domain, &queue_attributes, &queue, nullptr), "fi_cq_open");
    fi_av_attr vector_attributes{};
    vector_attributes.type = FI_AV_TABLE;
    require(fi_av_open(domain, &vector_attributes, &addresses, nullptr), "fi_av_open");
    require(fi_endpoint(domain, info, &endpoint, nullptr), "fi_endpoint");
    require(fi_ep_bind(endpoint, &addresses->fid, 0), "fi_ep_bind");
    require(fi_ep_bind(endpoint, &queue->fid, FI_TRANSMIT | FI_RECV), "fi_ep_bind");
    require(fi_enable(endpoint), "fi_enable");
    constexpr uint64_t kAccess = FI_READ | FI_WRITE | FI_REMOTE_READ | FI_REMOTE_WRITE;
    require(fi_mr_reg(domain, memory.data(), kMemory, kAccess, 0, 77, 0, &range, nullptr),
            "fi_mr_reg");
    size_t length = address.name.size();
    require(fi_getname(&endpoint->fid, address.name.data(), &length), "fi_getname");
    const bool by_address = (info->domain_attr->mr_mode & FI_MR_VIRT_ADDR) != 0;
    address.base = by_address ? reinterpret_cast<uint64_t>(memory.data()) : 0;
    address.key = fi_mr_key(range);
  }
};

// A process that does what `body(in, out)` says; it ends with this one.
struct Child {
  pid_t pid = -1;
  int to = -1;
  int from = -1;
};

template <typename Body>
Child start(Body&& body) {
  int down[2], up[2];
  if (pipe(down) != 0 || pipe(up) != 0) give_up("no pipe");
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    close(down[1]);
    close(up[0]);
    body(down[0], up[1]);
    std::_Exit(0);
  }
  close(down[0]);
  close(up[1]);
  return {pid, down[1], up[0]};
}

void say(int fd, const void* bytes, size_t size) {
  if (write(fd, bytes, size) != static_cast<ssize_t>(size)) std::_Exit(1);
}
void hear(int fd, void* bytes, size_t size) {
  if (read(fd, bytes, size) != static_cast<ssize_t>(size)) give_up("the target process ended");
}

// Polls while the last command was 'g' (go), sleeps otherwise.
void serve_plain(const std::string& provider, const char* node, int in, int out) {
  Plain plain(provider, node);
  say(out, &plain.address, sizeof plain.address);
  char command = 's';
  for (;;) {
    pollfd entry{in, POLLIN, 0};
    if (poll(&entry, 1, command == 'g' ? 0 : -1) > 0 && read(in, &command, 1) != 1) return;
    for (int i = 0; i < 64 && command == 'g'; ++i) {
      fi_cq_entry done;
      (void)fi_cq_read(plain.queue, &done, 1);
    }
  }
}

class Limit {
 public:
  Limit(const std::string& provider, const char* node)
      : child_(start([&](int in, int out) { serve_plain(provider, node, in, out); })) {
    hear(child_.from, &remote_, sizeof remote_);
    plain_ = std::make_unique<Plain>(provider, node);
    if (fi_av_insert(plain_->addresses, remote_.name.data(), 1, &to_, 0, nullptr) != 1) {
      give_up("fi_av_insert");
    }
  }
  ~Limit() {
    close(child_.to);
    waitpid(child_.pid, nullptr, 0);
  }
  double run(bool write, size_t block, milliseconds window) {
    say(child_.to, "g", 1);
    const double rate = loop(write, block, window);
    say(child_.to, "s", 1);
    return rate;
  }

 private:
  double loop(bool write, size_t block, milliseconds window) {
    uint64_t moved = 0, next = 0;
    const Clock::time_point begin = Clock::now();
    while (Clock::now() - begin < window) {
      for (size_t i = 0; i < kDepth; ++i, next = (next + block) % kMemory) post(write, next, block);
      for (size_t left = kDepth; left > 0;) left -= reap();
      moved += kDepth * block;
    }
    return static_cast<double>(moved) / std::chrono::duration<double>(Clock::now() - begin).count();
  }
  void post(bool write, uint64_t at, size_t block) {
    for (;;) {
      std::byte* local = plain_->memory.data() + at;
      void* descriptor = fi_mr_desc(plain_->range);
      const long result = write ? fi_write(plain_->endpoint, local, block, descriptor, to_,
                                           remote_.base + at, remote_.key, nullptr)
                                : fi_read(plain_->endpoint, local, block, descriptor, to_,
                                          remote_.base + at, remote_.key, nullptr);
      if (result == 0) return;
      if (result != -FI_EAGAIN) require(result, "posting");
      (void)fi_cq_read(plain_->queue, nullptr, 0);
    }
  }
  size_t reap() {
    std::array<fi_cq_entry, kDepth> done;
    const ssize_t count = fi_cq_read(plain_->queue, done.data(), done.size());
    if (count >= 0) return static_cast<size_t>(count);
    if (count != -FI_EAGAIN) require(count, "fi_cq_read");
    return 0;
  }

  const Child child_;
  Address remote_;
  std::unique_ptr<Plain> plain_;
  fi_addr_t to_ = FI_ADDR_UNSPEC;
};

int run(const std::string& provider, const char* address) {
  Limit limit(provider, address);
  fmt::print("ready\n");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string operation;
    size_t block = 0;
    int64_t window_ms = 0;
    if (!(words >> operation >> block >> window_ms) || block == 0 || block > kMemory / kDepth) {
      give_up("a line is: write|read BLOCK_BYTES MILLISECONDS, not: " + line);
    }
    fmt::print("{:.0f}\n", limit.run(operation == "write", block, milliseconds(window_ms)));
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace te::bench

int main(int argc, char** argv) {
  return te::bench::run(argc > 1 ? argv[1] : "tcp", argc > 2 ? argv[2] : "127.0.0.1");
}
