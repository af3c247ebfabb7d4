#include "bench_worker.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "pattern.h"
#include "stop_signals.h"

namespace te::tool {
namespace {

constexpr std::chrono::milliseconds kStopCheck{100};
constexpr uint64_t kChunk = 1 << 20;  // bytes per request when memory is filled or read back
constexpr uint64_t kChunksAtOnce = 16;
constexpr uint64_t kMargin = 8;  // bytes checked before and after an odd range

const char* verb(Opcode opcode) { return opcode == Opcode::kRead ? "read" : "write"; }

// Another seed for the bytes inside an odd range than for those around it.
uint64_t inner_seed(uint64_t seed) { return ~seed; }

}  // namespace

Worker::Worker(Engine& engine, const CaseSpec& spec, const Region& region,
               std::atomic<bool>& failed)
    : engine_(engine),
      spec_(spec),
      region_(region),
      failed_(failed),
      blocks_(region.length / spec.block_size) {
  requests_buffer_.reserve(std::max(spec.batch_size, kChunksAtOnce));
}

bool Worker::stopping() const {
  return stop_signal() != 0 || failed_.load(std::memory_order_relaxed);
}

void Worker::add_error(uint64_t count, const std::string& text) {
  errors_ += count;
  if (first_error_.empty()) first_error_ = text;
  failed_ = true;
}

void Worker::note(const Status& status) {
  if (!status.ok()) add_error(1, status.to_string());
}

void Worker::fill(uint64_t seed, uint64_t remote, uint64_t local, uint64_t length) {
  fill_pattern(seed, region_.remote_offset + remote, {view() + local, length});
  note(region_.memory->put(region_.local + local, length));
}

void Worker::clear(uint64_t length) {
  std::memset(view(), 0, length);
  note(region_.memory->put(region_.local, length));
}

void Worker::prepare() {
  if (spec_.verify) {
    fill(spec_.seed, 0, 0, region_.length);
    if (spec_.opcode == Opcode::kRead) {
      if (!move_all(Opcode::kWrite, region_.length)) return;
      clear(region_.length);
    }
  }
  if (stopping()) return;
  next_blocks();
  transfer();
  next_block_ = 0;
}

void Worker::measure(Clock::time_point deadline) {
  end_ = Clock::now();
  uint64_t handed_out = 0;
  while (!stopping() && end_ < deadline) {
    next_blocks();
    if (!transfer()) break;
    end_ = Clock::now();
    latency_ns_.record(last_latency_ns_);
    requests_ += spec_.batch_size;
    handed_out += spec_.batch_size;
    bytes_.fetch_add(spec_.batch_size * spec_.block_size, std::memory_order_relaxed);
  }
  blocks_moved_ = std::min(handed_out, blocks_);
}

void Worker::next_blocks() {
  requests_buffer_.clear();
  for (uint64_t i = 0; i < spec_.batch_size; ++i) {
    const uint64_t offset = next_block_ * spec_.block_size;
    requests_buffer_.push_back({spec_.opcode, data() + offset, region_.segment,
                                region_.remote_offset + offset, spec_.block_size});
    next_block_ = next_block_ + 1 == blocks_ ? 0 : next_block_ + 1;
  }
}

bool Worker::transfer() {
  const Result<BatchId> batch = engine_.allocate_batch(requests_buffer_.size());
  if (!batch.ok()) {
    add_error(requests_buffer_.size(), batch.status().to_string());
    return false;
  }
  bool cancelled = false;
  const Clock::time_point begin = Clock::now();
  Status status = engine_.submit(*batch, requests_buffer_);
  if (status.ok()) status = await(*batch, cancelled);
  last_latency_ns_ = static_cast<uint64_t>((Clock::now() - begin).count());

  bool completed = false;
  if (!status.ok()) {
    add_error(requests_buffer_.size(), status.to_string());
  } else if (const Result<TransferStatus> end = engine_.batch_status(*batch); !end.ok()) {
    add_error(requests_buffer_.size(), end.status().to_string());
  } else if (end->state == TaskState::kCompleted) {
    completed = true;
  } else if (!cancelled) {
    count_failures(*batch);
  }
  if (const Status freed = engine_.free_batch(*batch); !freed.ok()) {
    add_error(0, freed.to_string());
    return false;
  }
  return completed;
}

Status Worker::await(BatchId batch, bool& cancelled) {
  const auto cancel_when_stopping = [&] {
    if (cancelled || !stopping()) return Status();
    cancelled = true;
    return engine_.cancel(batch);
  };
  if (spec_.wait == Wait::kSleep) {
    for (;;) {
      const Status status = engine_.wait(batch, kStopCheck);
      if (status.code() != Code::kTimeout) return status;
      TE_RETURN_IF_ERROR(cancel_when_stopping());
    }
  }
  for (;;) {
    const Result<TransferStatus> status = engine_.batch_status(batch);
    if (!status.ok()) return status.status();
    if (is_terminal(status->state)) return {};
    TE_RETURN_IF_ERROR(cancel_when_stopping());
    std::this_thread::yield();
  }
}

void Worker::count_failures(BatchId batch) {
  for (size_t task = 0; task < requests_buffer_.size(); ++task) {
    const Result<TransferStatus> end = engine_.status(batch, task);
    if (end.ok() && end->state == TaskState::kCompleted) continue;
    const Result<TaskError> error = engine_.task_error(batch, task);
    const Status& reason = error.ok() ? error->status : error.status();
    const TransferRequest& request = requests_buffer_[task];
    add_error(1, fmt::format("{} of {} bytes at offset {}: {}", verb(request.opcode),
                             request.length, request.target_offset, reason.to_string()));
  }
}

bool Worker::move(Opcode opcode, uint64_t local, uint64_t remote, uint64_t length) {
  requests_buffer_.clear();
  requests_buffer_.push_back(
      {opcode, data() + local, region_.segment, region_.remote_offset + remote, length});
  return transfer();
}

bool Worker::move_all(Opcode opcode, uint64_t length) {
  for (uint64_t done = 0; done < length;) {
    if (stopping()) return false;
    requests_buffer_.clear();
    while (done < length && requests_buffer_.size() < kChunksAtOnce) {
      const uint64_t count = std::min(kChunk, length - done);
      requests_buffer_.push_back(
          {opcode, data() + done, region_.segment, region_.remote_offset + done, count});
      done += count;
    }
    if (!transfer()) return false;
  }
  return true;
}

bool Worker::expect(uint64_t seed, uint64_t remote, uint64_t local, uint64_t length) {
  const uint64_t position = region_.remote_offset + remote;
  note(region_.memory->get(region_.local + local, length));
  const auto wrong = find_mismatch(seed, position, {view() + local, length});
  if (!wrong) {
    verified_bytes_ += length;
    return true;
  }
  add_error(1,
            fmt::format("verify ({} of blocks of {} bytes, seed {}): at segment offset {} the byte "
                        "is 0x{:02x} but 0x{:02x} was written; {} of the {} bytes from offset {} "
                        "are wrong",
                        verb(spec_.opcode), spec_.block_size, spec_.seed, wrong->position,
                        static_cast<unsigned>(wrong->found), static_cast<unsigned>(wrong->expected),
                        wrong->wrong_bytes, length, position));
  return false;
}

void Worker::verify() {
  if (!spec_.verify || stopping()) return;
  verify_moved();
  // Short ones, long ones, both sides off alignment differently, and one that ends a byte short.
  const uint64_t large = spec_.block_size;
  for (const OddRange& range : {OddRange{3, 1, 1}, OddRange{1, 3, 7}, OddRange{5, 2, large - 1},
                                OddRange{2, 7, large}, OddRange{1, 1, large + 1}}) {
    if (range.length == 0) continue;
    if (std::max(range.local, range.remote + kMargin) + range.length > region_.length) continue;
    if (stopping()) return;
    verify_odd_range(range);
  }
}

void Worker::verify_moved() {
  const uint64_t length = blocks_moved_ * spec_.block_size;
  if (spec_.opcode == Opcode::kWrite) {
    clear(length);
    if (!move_all(Opcode::kRead, length)) return;
  }
  expect(spec_.seed, 0, 0, length);
}

// Writes one range over a known background, then reads back a little more on each side, at yet
// another alignment: the range must be there and nothing beside it touched.
void Worker::verify_odd_range(const OddRange& range) {
  const uint64_t end = range.remote + range.length;
  const uint64_t window = end + kMargin;
  fill(spec_.seed, 0, 0, window);
  if (!move(Opcode::kWrite, 0, 0, window)) return;
  fill(inner_seed(spec_.seed), range.remote, range.local, range.length);
  if (!move(Opcode::kWrite, range.local, range.remote, range.length)) return;
  clear(window);
  // From remote byte 1 to local byte 0.
  if (!move(Opcode::kRead, 0, 1, window - 1)) return;
  expect(spec_.seed, 1, 0, range.remote - 1) &&
      expect(inner_seed(spec_.seed), range.remote, range.remote - 1, range.length) &&
      expect(spec_.seed, end, end - 1, kMargin);
}

}  // namespace te::tool
