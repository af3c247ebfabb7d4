// What the cases of conformance_test.cpp have in common. Programs say over which ways they run.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "rdma/devices.h"
#include "support/bytes.h"
#include "support/engines.h"
#include "support/facts.h"

namespace te::test {

// Registered memory. Where the processor does not reach it, tests see its bytes elsewhere.
class SomeMemory {
 public:
  SomeMemory(std::shared_ptr<void> owner, std::byte* at, std::byte* data, size_t size)
      : owner_(std::move(owner)), at_(at), data_(data), size_(size) {}

  std::byte* at() const { return at_; }      // for engines
  std::byte* data() const { return data_; }  // for the test
  size_t size() const { return size_; }

 private:
  std::shared_ptr<void> owner_;
  std::byte* at_;
  std::byte* data_;
  size_t size_;
};

using MakeMemory = SomeMemory (*)(Engine& engine, size_t length);

inline SomeMemory host_memory(Engine& engine, size_t length) {
  const auto owner = std::make_shared<Registered>(engine, length);
  return {owner, owner->data(), owner->data(), length};
}

inline SomeMemory allocated_memory(Engine& engine, size_t length) {
  const auto owner = std::make_shared<Registered>(engine, length, Registered::Allocated());
  return {owner, owner->data(), owner->data(), length};
}

struct Way {
  const char* title;
  const char* transport;  // null: the one inside the engine
  std::map<std::string, std::string> config = {};
  bool on_rdma_devices = false;    // of the virtual machine
  MakeMemory local = host_memory;  // of the initiator
  MakeMemory remote = host_memory;
};

inline void PrintTo(const Way& way, std::ostream* out) { *out << way.title; }

class Conformance : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    const Way& way = GetParam();
    if (way.on_rdma_devices) TE_NEEDS_RDMA_VM();
    initiator_ = make_engine(way.config, "");
    if (way.transport == nullptr) return;
    other_ = make_engine(way.config, "");
    for (Engine* engine : {initiator_.get(), other_.get()}) {
      const Status installed = engine->install_transport(way.transport);
      if (installed.code() == Code::kUnsupported) GTEST_SKIP() << installed.message();
      ASSERT_TRUE(installed.ok()) << installed.to_string();
    }
  }

  Engine& initiator() { return *initiator_; }
  Engine& target() { return other_ ? *other_ : *initiator_; }
  SegmentId open() {
    Result<SegmentId> id = initiator().open_segment(target().local_endpoint());
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    return id.ok() ? *id : -1;
  }
  // Fewer on the virtual machine, whose processor is emulated.
  static int rounds(int usual) { return GetParam().on_rdma_devices ? usual / 4 : usual; }
  SomeMemory local_memory(size_t length) { return GetParam().local(initiator(), length); }
  SomeMemory remote_memory(size_t length) { return GetParam().remote(target(), length); }
  // Where `memory` begins in the target's segment.
  static uint64_t address_of(const SomeMemory& memory) {
    return reinterpret_cast<uint64_t>(memory.at());
  }

  // Batches of so much that no machine moves all of it between the two calls: the same ranges again
  // and again. ThreadSanitizer would report that two threads fill one range: there each request
  // fills a range of its own.
  void cancel_batches(Opcode opcode) {
    constexpr uint64_t kLength = 64 << 20, kPiece = 1 << 20,
                       kRequests = kThreadSanitized ? 512
                                   : kSanitized     ? 2048
                                                    : 8192,
                       kFilled = kThreadSanitized ? kRequests * kPiece : kLength;
    SomeMemory local = local_memory(opcode == Opcode::kRead ? kFilled : kLength);
    SomeMemory remote = remote_memory(opcode == Opcode::kWrite ? kFilled : kLength);
    const SegmentId segment = open();
    for (int round = 0; round < rounds(10); ++round) {
      const BatchId batch = *initiator().allocate_batch(kRequests);
      std::vector<TransferRequest> requests;
      for (uint64_t i = 0; i < kRequests; ++i) {
        const uint64_t at = i * kPiece;
        requests.push_back({opcode, local.at() + at % local.size(), segment,
                            address_of(remote) + at % remote.size(), kPiece});
      }
      ASSERT_TRUE(initiator().submit(batch, requests).ok());
      ASSERT_TRUE(initiator().cancel(batch).ok());
      ASSERT_TRUE(initiator().wait(batch, std::chrono::seconds(10)).ok());
      uint64_t completed = 0;
      for (size_t i = 0; i < kRequests; ++i) {
        const TransferStatus status = *initiator().status(batch, i);
        ASSERT_TRUE(status.state == TaskState::kCompleted || status.state == TaskState::kCancelled)
            << static_cast<int>(status.state);
        completed += status.state == TaskState::kCompleted ? 1 : 0;
      }
      ASSERT_LT(completed, kRequests) << "the call did nothing";
      // Quiet: what is terminal is not touched any more.
      std::memset(local.data(), 0x5A, local.size());
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      ASSERT_EQ(other_than(local.data(), local.size(), std::byte{0x5A}), kSame);
      ASSERT_TRUE(initiator().free_batch(batch).ok());
    }
    // And it still works.
    fill(local.data(), kLength, 77);
    const TransferRequest all{Opcode::kWrite, local.at(), segment, address_of(remote), kLength};
    EXPECT_EQ(transfer(initiator(), {all}).state, TaskState::kCompleted);
    EXPECT_EQ(std::memcmp(local.data(), remote.data(), kLength), 0);
  }

  std::unique_ptr<Engine> initiator_;
  std::unique_ptr<Engine> other_;
};

}  // namespace te::test
