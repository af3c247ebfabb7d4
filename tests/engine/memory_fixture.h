// A local segment over transports that take their time, refuse, come and go.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/options.h"
#include "engine/memory.h"
#include "support/facts.h"
#include "transport/fakes.h"

namespace te::test {

// Knows what is registered with it, and fails the test where a buffer is registered twice.
class Keeper final : public NullTransport {
 public:
  explicit Keeper(std::string name, bool local = false) : name_(std::move(name)), local_(local) {}

  std::string_view name() const override { return name_; }
  Capabilities capabilities() const override {
    Capabilities capabilities;
    capabilities.registers_local_memory = local_;
    capabilities.reach = reach;
    capabilities.key_size = sizeof(uint64_t);
    return capabilities;
  }
  Result<Bytes> register_memory(const Buffer& buffer) override {
    MutexLock lock(mutex_);
    if (buffer.address == refused_) return Status(Code::kResource, "refused");
    if (buffer.address == slow_) {
      ++waiting_;
      changed_.notify_all();
      while (buffer.address == slow_) changed_.wait(mutex_);
      --waiting_;
    }
    EXPECT_TRUE(live_.emplace(&buffer, ++last_key_).second) << "registered twice";
    return Bytes(reinterpret_cast<const char*>(&last_key_), sizeof last_key_);
  }
  void unregister_memory(const Buffer& buffer) override {
    MutexLock lock(mutex_);
    const auto key = buffer.keys.find(name_);
    ASSERT_NE(key, buffer.keys.end());
    ASSERT_TRUE(live_.contains(&buffer)) << "not registered";
    EXPECT_EQ(load<uint64_t>(as_bytes(key->second).data()), live_[&buffer]);
    live_.erase(&buffer);
  }
  void stop() override {
    MutexLock lock(mutex_);
    live_.clear();
    stopped_ = true;
  }

  Reach reach;

  // Registrations of the buffer that begins there last until they are let go, or are refused.
  void hold(const void* address) {
    MutexLock lock(mutex_);
    slow_ = reinterpret_cast<uint64_t>(address);
  }
  void let_go() {
    MutexLock lock(mutex_);
    slow_ = 0;
    changed_.notify_all();
  }
  void refuse(const void* address) {
    MutexLock lock(mutex_);
    refused_ = reinterpret_cast<uint64_t>(address);
  }
  bool wait_until_held() {
    return eventually([this] {
      MutexLock lock(mutex_);
      return waiting_ > 0;
    });
  }
  size_t live() {
    MutexLock lock(mutex_);
    return live_.size();
  }
  // Whether peers can still touch something there.
  bool reaches(const void* address) {
    MutexLock lock(mutex_);
    for (const auto& [buffer, key] : live_) {
      if (buffer->address == reinterpret_cast<uint64_t>(address)) return true;
    }
    return false;
  }

 private:
  const std::string name_;
  const bool local_;
  Mutex mutex_;
  CondVar changed_;
  std::map<const Buffer*, uint64_t> live_ TE_GUARDED_BY(mutex_);
  uint64_t last_key_ TE_GUARDED_BY(mutex_) = 0;
  uint64_t slow_ TE_GUARDED_BY(mutex_) = 0;
  uint64_t refused_ TE_GUARDED_BY(mutex_) = 0;
  int waiting_ TE_GUARDED_BY(mutex_) = 0;
  bool stopped_ TE_GUARDED_BY(mutex_) = false;
};

class MemoryTest : public testing::Test {
 protected:
  static constexpr size_t kPiece = 256;
  static constexpr size_t kPieces = 4'000;

  void SetUp() override { transports_.add(tcp_, false); }

  std::byte* piece(size_t index) { return bytes_.data() + index * kPiece; }
  std::vector<BufferEntry> entries(size_t first, size_t count) {
    std::vector<BufferEntry> result;
    for (size_t i = 0; i < count; ++i) result.push_back({piece(first + i), kPiece});
    return result;
  }
  Status add(size_t first, size_t count = 1) {
    return memory_.add(entries(first, count), "*", Access::kDefault);
  }
  // Half of a piece: not the range that add() registers.
  Status add_part(size_t index) {
    const BufferEntry half{piece(index), kPiece / 2};
    return memory_.add({&half, 1}, "*", Access::kDefault);
  }
  Status remove(size_t index) {
    void* address = piece(index);
    return memory_.remove({&address, 1});
  }
  // As a submission finds and pins it.
  Buffer* pin(size_t index) {
    ReaderLock lock(memory_.mutex());
    Buffer* buffer = memory_.registry().find(reinterpret_cast<uint64_t>(piece(index)));
    return buffer != nullptr && buffer->pin() ? buffer : nullptr;
  }
  Status install(const std::shared_ptr<Keeper>& transport) {
    const WriterLock barrier(memory_.barrier());
    transports_.add(transport, false);
    return memory_.introduce(*transport);
  }
  void uninstall(const std::shared_ptr<Keeper>& transport) {
    const WriterLock barrier(memory_.barrier());
    ASSERT_TRUE(transports_.retire(transport->name()).ok());
    memory_.forget(*transport);
    transport->stop();
  }

  RecordingHost host_;
  const Config config_ = {};
  Transports transports_{host_, config_, [] { return Status(Code::kUnsupported, "no topology"); }};
  Memory memory_{1, config_, transports_};
  std::shared_ptr<Keeper> tcp_ = std::make_shared<Keeper>("tcp");
  std::vector<std::byte> bytes_ = std::vector<std::byte>(kPiece * kPieces);
};

}  // namespace te::test
