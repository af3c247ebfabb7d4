// What registered memory allows: found out at registration, stated by the caller, kept at both
// ends.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "engine/fabric.h"
#include "engine/pair.h"

namespace te::test {
namespace {

constexpr uint64_t kLength = 64 << 10;

class Mapped {
 public:
  Mapped() {
    void* memory =
        ::mmap(nullptr, kLength, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    data_ = static_cast<std::byte*>(memory);
  }
  ~Mapped() { ::munmap(data_, kLength); }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;

  void protect(int protection) { EXPECT_EQ(::mprotect(data_, kLength, protection), 0); }
  std::byte* data() { return data_; }
  uint64_t address() { return reinterpret_cast<uint64_t>(data_); }

 private:
  std::byte* data_ = nullptr;
};

Access described(Engine& engine, uint64_t address) {
  const Result<SegmentInfo> info = engine.describe_segment(kLocalSegment);
  EXPECT_TRUE(info.ok());
  for (const SegmentBuffer& buffer : info->buffers) {
    if (buffer.address == address) return buffer.access;
  }
  ADD_FAILURE() << "not registered";
  return Access::kNone;
}

TEST(Access, WhatTheMemoryAllowsIsOffered) {
  std::unique_ptr<Engine> engine = make_engine();
  Mapped memory;
  EXPECT_TRUE(engine->register_memory(memory.data(), kLength).ok());
  EXPECT_EQ(described(*engine, memory.address()), Access::kReadWrite);
  EXPECT_TRUE(engine->unregister_memory(memory.data()).ok());
  memory.protect(PROT_READ);
  EXPECT_TRUE(engine->register_memory(memory.data(), kLength).ok());
  EXPECT_EQ(described(*engine, memory.address()), Access::kRead);
  EXPECT_TRUE(engine->unregister_memory(memory.data()).ok());
  memory.protect(PROT_WRITE);
  EXPECT_TRUE(engine->register_memory(memory.data(), kLength).ok());
  EXPECT_EQ(described(*engine, memory.address()), Access::kWrite);
  EXPECT_TRUE(engine->unregister_memory(memory.data()).ok());
}

TEST(Access, WhatIsStatedAndCannotBeIsAnError) {
  std::unique_ptr<Engine> engine = make_engine();
  Mapped memory;
  memory.protect(PROT_READ);
  const std::string where = fmt::format("{} bytes at {:#x}", kLength, memory.address());
  for (const Access access : {Access::kWrite, Access::kReadWrite}) {
    EXPECT_TRUE(fails_with(engine->register_memory(memory.data(), kLength, "*", access),
                           Code::kPermission, where));
  }
  EXPECT_TRUE(engine->register_memory(memory.data(), kLength, "*", Access::kRead).ok());
  EXPECT_TRUE(engine->unregister_memory(memory.data()).ok());
  EXPECT_TRUE(engine->register_memory(memory.data(), kLength, "*", Access::kNone).ok());
  EXPECT_EQ(described(*engine, memory.address()), Access::kNone);
  EXPECT_TRUE(engine->unregister_memory(memory.data()).ok());
  for (const auto unknown : {static_cast<Access>(77), static_cast<Access>(-1)}) {
    EXPECT_TRUE(fails_with(engine->register_memory(memory.data(), kLength, "*", unknown),
                           Code::kInvalidArgument, "give one of Access"));
    EXPECT_EQ(engine->allocate(kLength, {.access = unknown}).code(), Code::kInvalidArgument);
  }
  EXPECT_EQ(engine->allocate(kLength, {.huge_pages = static_cast<HugePages>(9)}).code(),
            Code::kInvalidArgument);
  memory.protect(PROT_NONE);
  EXPECT_TRUE(
      fails_with(engine->register_memory(memory.data(), kLength), Code::kInvalidArgument, where));
  EXPECT_TRUE(fails_with(engine->register_memory(memory.data(), kLength, "*", false),
                         Code::kInvalidArgument, "PROT_NONE"));
}

TEST(Access, ABatchWithMemoryThatIsNotThereRegistersNothing) {
  std::unique_ptr<Engine> engine = make_engine();
  Mapped memory;
  ASSERT_EQ(::munmap(memory.data() + kLength / 2, kLength / 2), 0);
  std::vector<BufferEntry> entries;
  for (uint64_t at = 0; at < kLength; at += 4096) entries.push_back({memory.data() + at, 4096});
  EXPECT_TRUE(fails_with(engine->register_memory_batch(entries), Code::kInvalidArgument,
                         fmt::format("4096 bytes at {:#x}", memory.address() + kLength / 2)));
  EXPECT_EQ(engine->describe_segment(kLocalSegment)->buffers.size(), 0u);
}

class AccessOver : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const bool self = GetParam() == "self";
    for (std::unique_ptr<Engine>* engine : {&target_, &initiator_}) {
      if (self && engine == &initiator_) break;
      *engine = make_engine(kOneNic, self ? "tcp" : "");
      if (self) continue;
      const Status installed = (*engine)->install_transport(GetParam());
      if (!installed.ok()) GTEST_SKIP() << installed.to_string();
    }
  }

  // One request of 100 bytes to `remote`, which peers may do `access` to.
  Status request(Opcode opcode, std::byte* local, Mapped& remote, SegmentId segment) {
    const TransferRequest request{opcode, local, segment, remote.address(), 100};
    Engine& engine = initiator();
    const BatchId batch = *engine.allocate_batch(1);
    Status status = engine.submit(batch, {&request, 1});
    if (status.ok()) {
      EXPECT_TRUE(engine.wait(batch, std::chrono::seconds(30)).ok());
      status = engine.task_error(batch, 0)->status;
      EXPECT_EQ(status.ok(), engine.status(batch, 0)->state == TaskState::kCompleted);
    }
    EXPECT_TRUE(engine.free_batch(batch).ok());
    return status;
  }
  Engine& initiator() { return initiator_ ? *initiator_ : *target_; }
  SegmentId segment() {
    if (!initiator_) return kLocalSegment;
    return *initiator_->open_segment(target_->local_endpoint());
  }

  std::unique_ptr<Engine> target_, initiator_;
};

TEST_P(AccessOver, PeersDoWhatIsOfferedAndNothingElse) {
  Mapped local;
  ASSERT_TRUE(initiator().register_memory(local.data(), kLength, "*", Access::kNone).ok());
  const SegmentId to = segment();
  for (const Access access : {Access::kNone, Access::kRead, Access::kWrite, Access::kReadWrite}) {
    Mapped remote;
    std::memset(remote.data(), 0x33, kLength);
    ASSERT_TRUE(target_->register_memory(remote.data(), kLength, "*", access).ok());
    for (const Opcode opcode : {Opcode::kRead, Opcode::kWrite}) {
      std::memset(local.data(), 0x55, kLength);
      const bool allowed = access == Access::kReadWrite ||
                           access == (opcode == Opcode::kRead ? Access::kRead : Access::kWrite);
      const Status status = request(opcode, local.data(), remote, to);
      if (allowed) {
        EXPECT_TRUE(status.ok()) << status.to_string();
      } else {
        EXPECT_TRUE(fails_with(status, Code::kPermission, "the target's buffer of 65536 bytes"));
      }
      const std::byte there{opcode == Opcode::kWrite && allowed ? uint8_t{0x55} : uint8_t{0x33}};
      const std::byte here{opcode == Opcode::kRead && allowed ? uint8_t{0x33} : uint8_t{0x55}};
      EXPECT_EQ(other_than(remote.data(), 100, there), kSame);
      EXPECT_EQ(other_than(local.data(), 100, here), kSame);
    }
    ASSERT_TRUE(target_->unregister_memory(remote.data()).ok());
  }
}

TEST_P(AccessOver, ReadOnlyMemoryIsReadAndNeverWritten) {
  Mapped weights, local;
  std::memset(weights.data(), 0x44, kLength);
  weights.protect(PROT_READ);
  ASSERT_TRUE(target_->register_memory(weights.data(), kLength).ok());
  ASSERT_TRUE(initiator().register_memory(local.data(), kLength).ok());
  const SegmentId to = segment();
  EXPECT_TRUE(request(Opcode::kRead, local.data(), weights, to).ok());
  EXPECT_EQ(other_than(local.data(), 100, std::byte{0x44}), kSame);
  EXPECT_TRUE(fails_with(request(Opcode::kWrite, local.data(), weights, to), Code::kPermission,
                         "is offered to this engine for READ only"));
}

TEST_P(AccessOver, TheLocalSideIsNamedWhereItIsTheOne) {
  Mapped weights, remote;
  std::memset(weights.data(), 0x44, kLength);
  weights.protect(PROT_READ);
  ASSERT_TRUE(initiator().register_memory(weights.data(), kLength).ok());
  ASSERT_TRUE(target_->register_memory(remote.data(), kLength).ok());
  const SegmentId to = segment();
  EXPECT_TRUE(fails_with(request(Opcode::kRead, weights.data(), remote, to), Code::kPermission,
                         "the local buffer of 65536 bytes"));
  EXPECT_TRUE(request(Opcode::kWrite, weights.data(), remote, to).ok());
  EXPECT_EQ(other_than(remote.data(), 100, std::byte{0x44}), kSame);
}

INSTANTIATE_TEST_SUITE_P(Transports, AccessOver,
                         testing::Values("tcp", "shm", "self", "fabric:tcp"),
                         [](const auto& parameter) {
                           std::string name = parameter.param;
                           std::replace(name.begin(), name.end(), ':', '_');
                           return name;
                         });

}  // namespace
}  // namespace te::test
