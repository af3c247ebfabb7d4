#include "limits/copies.h"

#include <fmt/core.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

namespace te::bench {
namespace {

using Clock = std::chrono::steady_clock;

size_t cores() { return std::max(1u, std::thread::hardware_concurrency()); }

// On so many threads, this one among them; an error of any of them.
Status on_threads(size_t threads, const std::function<Status(size_t index)>& work) {
  std::vector<Status> ends(threads);
  std::vector<std::thread> others;
  for (size_t i = 1; i < threads; ++i) others.emplace_back([&, i] { ends[i] = work(i); });
  ends[0] = work(0);
  for (std::thread& other : others) other.join();
  for (const Status& status : ends) TE_RETURN_IF_ERROR(status);
  return {};
}

// Where threads wait for each other, without sleeping, again and again.
class Meeting {
 public:
  explicit Meeting(size_t threads) : threads_(threads) {}

  // True, for all of them alike: one of them said `last`.
  bool meet(bool last) {
    const size_t round = round_.load();
    if (last) last_.store(true);
    if (arrived_.fetch_add(1) + 1 == threads_) {
      arrived_.store(0);
      over_.store(last_.load());
      round_.store(round + 1);
    }
    while (round_.load() == round) std::this_thread::yield();
    return over_.load();
  }

 private:
  const size_t threads_;
  std::atomic<size_t> arrived_{0}, round_{0};
  std::atomic<bool> last_{false}, over_{false};
};

}  // namespace

CopyBlock memcpy_block(std::byte* to, const std::byte* from) {
  return [=](uint64_t offset, uint64_t length) {
    std::memcpy(to + offset, from + offset, length);
    return Status();
  };
}

CopyBlock process_vm_block(pid_t pid, Opcode opcode, std::byte* here, uint64_t there) {
  return [=](uint64_t offset, uint64_t length) {
    const iovec local{here + offset, length};
    const iovec remote{reinterpret_cast<void*>(there + offset), length};
    const ssize_t count = opcode == Opcode::kWrite
                              ? process_vm_writev(pid, &local, 1, &remote, 1, 0)
                              : process_vm_readv(pid, &local, 1, &remote, 1, 0);
    if (count == static_cast<ssize_t>(length)) return Status();
    const char* const reason = count < 0 ? std::strerror(errno) : "less than asked for was copied";
    return Status(
        count < 0 && (errno == EPERM || errno == ENOSYS) ? Code::kUnsupported : Code::kInternal,
        fmt::format("process_vm calls do not work between processes here: {}", reason));
  };
}

Result<double> Copies::run(size_t threads, std::chrono::milliseconds window) {
  threads = std::min<size_t>(threads, blocks_);
  const uint64_t from = next_;
  std::vector<uint64_t> copied(threads);   // blocks
  std::vector<uint64_t> reached(threads);  // the thread's first block that it did not copy
  const Clock::time_point begin = Clock::now();
  const Clock::time_point end = begin + window;
  TE_RETURN_IF_ERROR(on_threads(threads, [&](size_t index) {
    // A round of the rotation gives each block to the same thread as the round before.
    uint64_t round = 0, at = index, count = 0;
    Status status;
    do {
      status = copy(from + round * blocks_ + at);
      ++count;
      at += threads;
      if (at >= blocks_) {
        at = index;
        ++round;
      }
    } while (status.ok() && Clock::now() < end);
    copied[index] = count;
    reached[index] = round * blocks_ + at;
    return status;
  }));
  const std::chrono::duration<double> wall = Clock::now() - begin;
  next_ = from + *std::ranges::min_element(reached);
  const uint64_t blocks = std::accumulate(copied.begin(), copied.end(), uint64_t{0});
  return static_cast<double>(blocks * block_size_) / wall.count() / 1e9;
}

Result<double> Copies::best(std::chrono::milliseconds window) {
  double result = 0;
  for (size_t threads = 1;; threads = std::min(2 * threads, cores())) {
    const Result<double> rate = run(threads, window);
    if (!rate.ok()) return rate;
    result = std::max(result, *rate);
    if (threads == cores()) return result;
  }
}

Result<double> Copies::run_in_batches(uint64_t batch, std::chrono::milliseconds window) {
  const uint64_t batches = blocks_ / batch;
  if (batches == 0) return Status(Code::kInvalidArgument, "a batch is larger than the memory");
  const size_t threads = cores();
  const uint64_t batch_bytes = batch * block_size_;
  const uint64_t share = (batch_bytes + threads - 1) / threads;
  const Clock::time_point begin = Clock::now(), end = begin + window;
  Meeting meeting(threads);
  uint64_t done = 0;
  TE_RETURN_IF_ERROR(on_threads(threads, [&](size_t index) {
    const uint64_t from = std::min(index * share, batch_bytes);
    const uint64_t to = std::min(from + share, batch_bytes);
    Status status;
    for (uint64_t number = 0;; ++number) {
      for (uint64_t at = from; at < to && status.ok(); at += block_size_) {
        status = copy_(number % batches * batch_bytes + at, std::min(block_size_, to - at));
      }
      if (index == 0) done = number + 1;
      if (meeting.meet(!status.ok() || (index == 0 && Clock::now() >= end))) return status;
    }
  }));
  const std::chrono::duration<double> wall = Clock::now() - begin;
  return static_cast<double>(done * batch_bytes) / wall.count() / 1e9;
}

Status Copies::time_blocks(std::chrono::milliseconds window, tool::Histogram& block_ns) {
  Clock::time_point now = Clock::now();
  const Clock::time_point end = now + window;
  while (now < end) {
    TE_RETURN_IF_ERROR(copy(next_));
    ++next_;
    const Clock::time_point after = Clock::now();
    block_ns.record(static_cast<uint64_t>((after - now).count()));
    now = after;
  }
  return {};
}

}  // namespace te::bench
