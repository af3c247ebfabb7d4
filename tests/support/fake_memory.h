// A kind of memory that no transport reaches and the processor cannot touch: a memory file that is
// mapped twice, without any access where engines know it, and with all where its driver copies.
//
// Threads: any.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <map>
#include <optional>
#include <thread>

#include "base/log.h"
#include "base/memory_file.h"
#include "base/mutex.h"
#include "platform/memory_driver.h"

namespace te::test {

// There for as long as it lives; engines that were made meanwhile end before.
class FakeMemoryDriver final : public MemoryDriver, public DeviceMemory {
 public:
  static constexpr auto kKind = static_cast<MemoryKind>(40);

  explicit FakeMemoryDriver(MemoryKind kind = kKind) : kind_(kind) { add_memory_driver(*this); }
  ~FakeMemoryDriver() override { remove_memory_driver(*this); }

  MemoryKind kind() const override { return kind_; }
  Status classify(std::span<const BufferEntry> ranges,
                  std::span<ClassifiedRange> found) const override {
    for (size_t i = 0; i < ranges.size(); ++i) {
      const auto* begin = static_cast<const std::byte*>(ranges[i].addr);
      if (found[i].driver != nullptr) continue;
      if (behind(begin, ranges[i].length) == nullptr) continue;
      found[i] = {.driver = this,
                  .rights = Rights::kBoth,
                  .location = kind_ == MemoryKind::kCuda ? "cuda:1" : "",
                  .device = std::shared_ptr<const DeviceMemory>(std::shared_ptr<void>(), this)};
    }
    return {};
  }
  // They are over when it returns.
  Result<std::unique_ptr<PendingCopies>> start(std::span<const MemoryCopy> ranges) const override {
    for (const MemoryCopy& each : ranges) {
      TE_RETURN_IF_ERROR(begin_copy(each.length));
      std::byte* const to = behind(each.to, each.length);
      const std::byte* const from = behind(each.from, each.length);
      std::memcpy(to == nullptr ? each.to : to, from == nullptr ? each.from : from, each.length);
      under_way.fetch_sub(1);
    }
    return std::unique_ptr<PendingCopies>(std::make_unique<Done>());
  }

  void add(const std::byte* at, std::byte* view, size_t length) {
    MutexLock lock(mutex_);
    ranges_[at] = {view, length};
  }
  void remove(const std::byte* at) {
    MutexLock lock(mutex_);
    ranges_.erase(at);
  }

  mutable std::atomic<uint64_t> copies{0}, largest{0};
  std::atomic<uint64_t> fails_after{UINT64_MAX};  // so many copies
  std::atomic<int64_t> takes_ms{0};               // each copy
  mutable std::atomic<int> under_way{0}, most_under_way{0};

 private:
  class Done final : public PendingCopies {
   public:
    Status wait() override { return {}; }
  };
  struct Range {
    std::byte* view;
    size_t length;
  };

  // Null: the range is not of this kind.
  std::byte* behind(const std::byte* at, size_t length) const {
    MutexLock lock(mutex_);
    auto found = ranges_.upper_bound(at);
    if (found == ranges_.begin()) return nullptr;
    --found;
    const auto begin = static_cast<size_t>(at - found->first);
    if (begin > found->second.length || length > found->second.length - begin) return nullptr;
    return found->second.view + begin;
  }
  Status begin_copy(size_t length) const {
    if (copies.fetch_add(1) >= fails_after.load()) {
      return Status(Code::kInvalidArgument, "the copy engine is on fire");
    }
    if (length > largest.load()) largest.store(length);
    const int now = under_way.fetch_add(1) + 1;
    if (now > most_under_way.load()) most_under_way.store(now);
    if (takes_ms.load() != 0) std::this_thread::sleep_for(std::chrono::milliseconds(takes_ms));
    return {};
  }

  const MemoryKind kind_;
  mutable Mutex mutex_;
  std::map<const std::byte*, Range> ranges_ TE_GUARDED_BY(mutex_);
};

class FakeMemory {
 public:
  FakeMemory(FakeMemoryDriver& driver, size_t length) : driver_(driver), length_(length) {
    Result<MemoryFile> file = MemoryFile::create("te-fake-memory", length);
    EXPECT_TRUE(file.ok()) << file.status().to_string();
    file_.emplace(file.take());
    void* const closed = ::mmap(nullptr, length, PROT_NONE, MAP_SHARED, file_->fd(), 0);
    EXPECT_NE(closed, MAP_FAILED);
    data_ = static_cast<std::byte*>(closed);
    driver_.add(data_, file_->data(), length);
  }
  ~FakeMemory() {
    driver_.remove(data_);
    ::munmap(data_, length_);
  }
  FakeMemory(const FakeMemory&) = delete;
  FakeMemory& operator=(const FakeMemory&) = delete;

  // For engines: to touch it is a fault.
  std::byte* data() const { return data_; }
  // The same bytes, for the test.
  std::byte* view() const { return file_->data(); }
  size_t size() const { return length_; }

 private:
  FakeMemoryDriver& driver_;
  const size_t length_;
  std::optional<MemoryFile> file_;
  std::byte* data_ = nullptr;
};

}  // namespace te::test
