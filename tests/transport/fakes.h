// What the layers above and below a transport's parts are in their tests.
//
// Threads: as the contracts that they stand for say.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "transport/transport.h"

namespace te::test {

// Does nothing; paths need one to belong to.
class NullTransport : public Transport {
 public:
  std::string_view name() const override { return "null"; }
  Capabilities capabilities() const override { return {}; }
  std::vector<DeviceLoad> loads() const override { return {}; }
  Result<Bytes> register_memory(const Buffer&) override { return Bytes(); }
  void unregister_memory(const Buffer&) override {}
  std::vector<std::shared_ptr<Path>> make_paths(const Peer&, ByteView) override { return {}; }
  void warm_up(Path&) override {}
  void adopt(tls::Connection, const wire::Hello&, std::shared_ptr<void>) override {}
  void submit(SliceList) override {}
  void sweep(Path&) override {}
  void reset(Path&) override {}
  void stop() override {}
};

// Keeps what came back, and fails the test when a slice comes back twice.
class RecordingHost final : public TransportHost {
 public:
  void done(Slice* slice, Code code) override {
    MutexLock lock(mutex_);
    EXPECT_TRUE(codes_.emplace(slice, code).second) << "a slice came back twice";
    changed_.notify_all();
  }
  uint64_t instance() const override { return 0x1234; }
  void exchange(const Peer&, std::string_view, Bytes, Answered) override {
    ADD_FAILURE() << "this transport should not need an exchange";
  }
  void fence(const Peer& peer, std::string_view, Bytes hello) override {
    MutexLock lock(mutex_);
    fences_.emplace_back(peer.instance, std::move(hello));
  }
  // What was asked for, as (instance, hello).
  std::vector<std::pair<uint64_t, Bytes>> fences() {
    MutexLock lock(mutex_);
    return fences_;
  }

  size_t count() {
    MutexLock lock(mutex_);
    return codes_.size();
  }
  // Whether `count` slices came back in time.
  bool wait_for(size_t count) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    MutexLock lock(mutex_);
    while (codes_.size() < count) {
      if (!changed_.wait_until(mutex_, until)) return false;
    }
    return true;
  }
  // What the slice ended with; kInternal while it has not.
  Code code_of(const Slice* slice) {
    MutexLock lock(mutex_);
    const auto found = codes_.find(slice);
    return found == codes_.end() ? Code::kInternal : found->second;
  }
  void forget() {
    MutexLock lock(mutex_);
    codes_.clear();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::map<const Slice*, Code> codes_ TE_GUARDED_BY(mutex_);
  std::vector<std::pair<uint64_t, Bytes>> fences_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::test
