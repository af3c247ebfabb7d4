#include "transport/shm/range_table.h"

#include <fcntl.h>

#include <bit>
#include <cerrno>
#include <thread>

#include "base/log.h"
#include "base/random.h"

namespace te::shm {

namespace {

template <typename Wanted>
bool holds(const HazardPage& page, Wanted&& wanted) {
  for (const HazardSlot& slot : page.slots) {
    for (const std::atomic<uint32_t>& range : slot.ranges) {
      if (wanted(range.load(std::memory_order_acquire))) return true;
    }
  }
  return false;
}

}  // namespace

bool HazardPage::names(uint32_t index) const {
  return holds(*this, [index](uint32_t range) { return range == index + 1; });
}

bool HazardPage::any() const {
  return holds(*this, [](uint32_t range) { return range != 0; });
}

Result<std::unique_ptr<RangeTable>> RangeTable::create() {
  Result<MemoryFile> file = MemoryFile::create("transfer-engine-ranges", kTableBytes);
  if (!file.ok()) return file.status();
  TE_RETURN_IF_ERROR(file->close_for_writers());
  return std::unique_ptr<RangeTable>(new RangeTable(file.take()));
}

RangeTable::RangeTable(MemoryFile file)
    : file_(std::move(file)), next_generation_(random_u64() | 1) {}

Result<RangeKey> RangeTable::add(const Entry& entry) {
  MutexLock lock(mutex_);
  RangeKey key{};
  if (free_.empty() && used_ == kMaxRanges) {
    return error(Code::kBusy, "{} ranges are registered already, the most there can be", used_);
  }
  key.index = free_.empty() ? used_ : free_.back();
  // What takes memory comes first, and leaves room for what release() needs.
  if (free_.capacity() <= used_) free_.reserve(2 * static_cast<size_t>(used_) + 64);
  if (removed_.size() <= key.index) removed_.resize(free_.capacity());
  if (entry.way == Way::kMapped) files_[key.index] = entry.memory_file;
  if (free_.empty()) {
    ++used_;
  } else {
    free_.pop_back();
  }
  key.generation = next_generation_++;
  if (key.generation == 0) key.generation = next_generation_++;
  key.way = entry.way;
  SharedRange& shared = range(key.index);
  shared.address = entry.address;
  shared.length = entry.length;
  shared.rights = static_cast<uint64_t>(entry.rights);
  shared.generation.store(key.generation, std::memory_order_release);
  return key;
}

bool RangeTable::remove(const RangeKey& key) {
  MutexLock lock(mutex_);
  if (key.index >= used_) return false;
  SharedRange& entry = range(key.index);
  if (entry.generation.load(std::memory_order_relaxed) != key.generation) return false;
  entry.generation.store(0, std::memory_order_release);
  files_.erase(key.index);
  removed_[key.index] = key.generation;  // add() made room
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return true;
}

void RangeTable::release(const RangeKey& key) {
  MutexLock lock(mutex_);
  if (key.index >= removed_.size() || removed_[key.index] != key.generation) return;
  removed_[key.index] = 0;
  free_.push_back(key.index);
}

void RangeTable::close() {
  MutexLock lock(mutex_);
  for (uint32_t i = 0; i < used_; ++i) range(i).generation.store(0, std::memory_order_release);
  files_.clear();
  std::atomic_thread_fence(std::memory_order_seq_cst);
}

Result<RangeTable::File> RangeTable::file_of(uint32_t index, uint64_t generation) {
  MutexLock lock(mutex_);
  const auto found = files_.find(index);
  if (found == files_.end() ||
      range(index).generation.load(std::memory_order_relaxed) != generation) {
    return Status(Code::kStale, "no such range");
  }
  File file;
  file.fd = Fd(::fcntl(found->second, F_DUPFD_CLOEXEC, 0));
  file.length = range(index).length;
  if (!file.fd.valid()) return Status(Code::kResource, errno_text(errno));
  return file;
}

const SharedRange* RangeView::find(const RangeKey& key) const {
  if (key.index >= kMaxRanges || key.generation == 0) return nullptr;
  const auto* ranges = reinterpret_cast<const SharedRange*>(table_.data());
  const SharedRange& found = ranges[key.index];
  return found.generation.load(std::memory_order_acquire) == key.generation ? &found : nullptr;
}

namespace {

// There are more slots than threads of a process copy at a time, so this hardly ever waits; and if,
// then for a copy.
size_t take_slot(std::atomic<uint64_t>& used) {
  static_assert(HazardPage::kSlots == 64);
  for (uint64_t now = used.load(std::memory_order_relaxed);;) {
    if (now == UINT64_MAX) {
      std::this_thread::yield();
      now = used.load(std::memory_order_relaxed);
      continue;
    }
    const auto free = static_cast<size_t>(std::countr_one(now));
    if (used.compare_exchange_weak(now, now | (uint64_t{1} << free), std::memory_order_acquire)) {
      return free;
    }
  }
}

}  // namespace

HazardHold::HazardHold(HazardPage& page, std::atomic<uint64_t>& used)
    : used_(used), number_(take_slot(used)), slot_(page.slots[number_]) {}

HazardHold::~HazardHold() {
  clear();
  used_.fetch_and(~(uint64_t{1} << number_), std::memory_order_release);
}

bool HazardHold::name(uint32_t index) {
  if (count_ > 0 && slot_.ranges[count_ - 1].load(std::memory_order_relaxed) == index + 1) {
    return true;
  }
  if (count_ == HazardSlot::kRanges) return false;
  slot_.ranges[count_++].store(index + 1, std::memory_order_relaxed);
  return true;
}

void HazardHold::clear() {
  for (size_t i = 0; i < count_; ++i) slot_.ranges[i].store(0, std::memory_order_release);
  count_ = 0;
}

}  // namespace te::shm
