#include "support/moves.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "base/log.h"
#include "support/bytes.h"

namespace te::test {
namespace {

constexpr std::byte kGuard{0xA5};
constexpr uint64_t kMargin = 64;

class Mover {
 public:
  Mover(Engine& engine, SegmentId segment, const MoveOptions& options, size_t index)
      : engine_(engine),
        segment_(segment),
        options_(options),
        random_(index + 1),
        part_(options.remote_size / options.threads),
        base_(options.remote_at + index * part_),
        memory_(part_ + 2 * kMargin, kGuard) {}

  // Empty when all is right.
  std::string run(std::atomic<uint64_t>& moved) {
    Status status = engine_.register_memory(memory_.data(), memory_.size());
    std::string error = status.ok() ? "" : status.to_string();
    do {
      if (!error.empty()) break;
      error = round(moved);
    } while (moved.load() < options_.volume);
    status = engine_.unregister_memory(memory_.data());
    if (error.empty() && !status.ok()) error = status.to_string();
    return error;
  }

 private:
  std::string round(std::atomic<uint64_t>& moved) {
    const uint64_t seed = random_();
    // The local bytes and the target's begin at different odd places.
    const uint64_t shift = random_() % 63 + 1, skip = random_() % 31 + 1;
    const uint64_t length = part_ - skip;
    std::byte* local = memory_.data() + shift;
    stamp(local, length, seed);
    std::string error = move(Opcode::kWrite, local, base_ + skip, length);
    if (!error.empty()) return "WRITE: " + error;
    if (options_.check_target) {
      error = options_.check_target(seed, base_ + skip, length);
      if (!error.empty()) return "at the target: " + error;
    }
    std::fill(memory_.begin(), memory_.end(), kGuard);
    error = move(Opcode::kRead, local, base_ + skip, length);
    if (!error.empty()) return "READ: " + error;
    if (const size_t at = difference(local, length, seed); at != kSame) {
      return fmt::format("byte {} of {} came back wrong", at, length);
    }
    if (other_than(memory_.data(), shift, kGuard) != kSame ||
        other_than(local + length, memory_.size() - shift - length, kGuard) != kSame) {
      return "bytes beside the READ were touched";
    }
    moved.fetch_add(2 * length);
    return {};
  }

  std::vector<TransferRequest> pieces(Opcode opcode, std::byte* local, uint64_t at,
                                      uint64_t length) {
    std::vector<TransferRequest> requests;
    const uint64_t longest = options_.piece_max == 0 ? length : options_.piece_max;
    for (uint64_t done = 0; done < length;) {
      // From single bytes to megabytes, equally often by order of magnitude.
      const uint64_t most = std::min(longest, uint64_t{1} << (random_() % 27));
      const uint64_t piece = std::min(length - done, random_() % most + 1);
      requests.push_back({opcode, local + done, segment_, at + done, piece});
      done += piece;
      if (requests.size() == 4096 && done < length) {
        requests.push_back({opcode, local + done, segment_, at + done, length - done});
        break;
      }
    }
    std::shuffle(requests.begin(), requests.end(), random_);
    return requests;
  }

  std::string move(Opcode opcode, std::byte* local, uint64_t at, uint64_t length) {
    const std::vector<TransferRequest> requests = pieces(opcode, local, at, length);
    const size_t share = requests.size() / options_.batches_beside + 1;
    std::vector<BatchId> batches;
    std::string error;
    uint64_t bytes = 0;
    for (size_t first = 0; first < requests.size() && error.empty(); first += share) {
      const size_t count = std::min(share, requests.size() - first);
      Result<BatchId> batch = engine_.allocate_batch(count);
      if (!batch.ok()) return batch.status().to_string();
      batches.push_back(*batch);
      const Status status = engine_.submit(*batch, {requests.data() + first, count});
      if (!status.ok()) error = status.to_string();
    }
    for (const BatchId batch : batches) {
      if (Status status = engine_.wait(batch); !status.ok()) error = status.to_string();
      const TransferStatus status = *engine_.batch_status(batch);
      bytes += status.transferred_bytes;
      if (status.state != TaskState::kCompleted && error.empty()) {
        error = first_error(batch, share);
      }
      if (Status freed = engine_.free_batch(batch); !freed.ok()) error = freed.to_string();
    }
    if (error.empty() && bytes != length) error = fmt::format("{} of {} bytes", bytes, length);
    return error;
  }

  std::string first_error(BatchId batch, size_t count) {
    for (size_t task = 0; task < count; ++task) {
      Result<TaskError> why = engine_.task_error(batch, task);
      if (why.ok() && !why->status.ok()) return why->status.to_string();
    }
    return "a batch did not complete, and no task says why";
  }

  Engine& engine_;
  const SegmentId segment_;
  const MoveOptions& options_;
  std::mt19937_64 random_;
  const uint64_t part_;
  const uint64_t base_;
  std::vector<std::byte> memory_;
};

}  // namespace

MoveResult move_and_verify(Engine& engine, SegmentId segment, const MoveOptions& options) {
  std::atomic<uint64_t> moved{0};
  std::mutex mutex;
  MoveResult result;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < options.threads; ++i) {
    threads.emplace_back([&, i] {
      const std::string error = Mover(engine, segment, options, i).run(moved);
      if (error.empty()) return;
      const std::lock_guard lock(mutex);
      if (result.error.empty()) result.error = fmt::format("thread {}: {}", i, error);
      moved.store(options.volume);  // the others need not go on
    });
  }
  for (std::thread& thread : threads) thread.join();
  result.bytes = moved.load();
  return result;
}

}  // namespace te::test
