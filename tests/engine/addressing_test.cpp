// How target_offset is read: as an offset or as an address, never as the wrong one of the two.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "engine/fabric.h"
#include "engine/pair.h"

namespace te::test {
namespace {

constexpr uint64_t kBig = 64 << 20;
constexpr uint64_t kSmall = 64 << 10;

// Memory below the end of a segment that has a buffer of kBig.
class LowMemory {
 public:
  LowMemory() {
    for (uint64_t at = 4 << 20; at < kBig / 2 && data_ == nullptr; at += 1 << 20) {
      void* memory = ::mmap(reinterpret_cast<void*>(at), kSmall, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
      if (memory != MAP_FAILED && memory == reinterpret_cast<void*>(at)) {
        data_ = static_cast<std::byte*>(memory);
      }
    }
    EXPECT_NE(data_, nullptr) << "no low address is free";
  }
  ~LowMemory() { ::munmap(data_, kSmall); }
  LowMemory(const LowMemory&) = delete;
  LowMemory& operator=(const LowMemory&) = delete;

  std::byte* data() { return data_; }
  uint64_t address() { return reinterpret_cast<uint64_t>(data_); }

 private:
  std::byte* data_ = nullptr;
};

class AddressingOf : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    for (std::unique_ptr<Engine>* engine : {&target_, &initiator_}) {
      *engine = make_engine(kOneNic, "");
      const Status installed = (*engine)->install_transport(GetParam());
      if (!installed.ok()) GTEST_SKIP() << installed.to_string();
    }
    big_ = std::make_unique<Registered>(*target_, kBig);
    local_ = std::make_unique<Registered>(*initiator_, kSmall);
    std::memset(local_->data(), 0x55, kSmall);
    segment_ = *initiator_->open_segment(target_->local_endpoint());
  }

  Status write(uint64_t target_offset, Addressing addressing) {
    const TransferRequest request{Opcode::kWrite, local_->data(), segment_, target_offset, kSmall};
    SubmitOptions options;
    options.addressing = addressing;
    const BatchId batch = *initiator_->allocate_batch(1);
    Status status = initiator_->submit(batch, {&request, 1}, options);
    if (status.ok()) {
      EXPECT_TRUE(initiator_->wait(batch, std::chrono::seconds(30)).ok());
      status = initiator_->task_error(batch, 0)->status;
      EXPECT_EQ(status.ok(), initiator_->status(batch, 0)->state == TaskState::kCompleted);
    }
    EXPECT_TRUE(initiator_->free_batch(batch).ok());
    return status;
  }
  // Whether the big buffer is as it was, but for kSmall bytes at `except`.
  bool big_untouched(uint64_t except = kBig) {
    const uint64_t behind = std::min(except + kSmall, kBig);
    return other_than(big_->data(), except, std::byte{0}) == kSame &&
           other_than(big_->data() + behind, kBig - behind, std::byte{0}) == kSame;
  }

  LowMemory low_;
  std::unique_ptr<Engine> target_, initiator_;
  std::unique_ptr<Registered> big_, local_;
  SegmentId segment_ = -1;
};

TEST_P(AddressingOf, AGivenModeWorksWhateverOtherBuffersThereAre) {
  ASSERT_TRUE(target_->register_memory(low_.data(), kSmall).ok());
  EXPECT_TRUE(write(low_.address(), Addressing::kAddress).ok());
  EXPECT_EQ(other_than(low_.data(), kSmall, std::byte{0x55}), kSame);
  EXPECT_TRUE(big_untouched());
  std::memset(low_.data(), 0, kSmall);
  EXPECT_TRUE(write(low_.address(), Addressing::kOffset).ok());
  EXPECT_EQ(other_than(low_.data(), kSmall, std::byte{0}), kSame);
  EXPECT_EQ(other_than(big_->data() + low_.address(), kSmall, std::byte{0x55}), kSame);
  EXPECT_TRUE(big_untouched(low_.address()));
  EXPECT_TRUE(target_->unregister_memory(low_.data()).ok());
}

TEST_P(AddressingOf, AutoRefusesWhatCouldBeEitherAndNamesTheModes) {
  ASSERT_TRUE(target_->register_memory(low_.data(), kSmall).ok());
  ASSERT_TRUE(initiator_->sync_segment_cache().ok());
  EXPECT_TRUE(fails_with(write(low_.address(), Addressing::kAuto), Code::kInvalidArgument,
                         "set the addressing mode, to offset or to address"));
  // Elsewhere nothing is unclear.
  EXPECT_TRUE(write(0, Addressing::kAuto).ok());
  EXPECT_TRUE(write(kBig - kSmall, Addressing::kAuto).ok());
  EXPECT_TRUE(write(reinterpret_cast<uint64_t>(big_->data()) + kSmall, Addressing::kAuto).ok());
  EXPECT_EQ(other_than(big_->data(), 2 * kSmall, std::byte{0x55}), kSame);
  EXPECT_EQ(other_than(low_.data(), kSmall, std::byte{0}), kSame);
  EXPECT_TRUE(target_->unregister_memory(low_.data()).ok());
}

TEST_P(AddressingOf, TheAddressOfABufferThatIsGoneNeverLeadsIntoAnother) {
  ASSERT_TRUE(target_->register_memory(low_.data(), kSmall).ok());
  ASSERT_TRUE(initiator_->sync_segment_cache().ok());
  ASSERT_TRUE(target_->unregister_memory(low_.data()).ok());
  for (const bool fresh : {false, true}) {
    if (fresh) {
      ASSERT_TRUE(initiator_->sync_segment_cache().ok());
    }
    EXPECT_EQ(write(low_.address(), Addressing::kAuto).code(), Code::kInvalidArgument);
    EXPECT_FALSE(write(low_.address(), Addressing::kAddress).ok());
  }
  EXPECT_TRUE(big_untouched());
  EXPECT_EQ(other_than(low_.data(), kSmall, std::byte{0}), kSame);
}

// What the initiator knows is older than the buffer that makes the number ambiguous.
TEST_P(AddressingOf, AutoIsNotWrongByAnOldDescription) {
  ASSERT_TRUE(write(low_.address(), Addressing::kAuto).ok()) << "an offset, and nothing else yet";
  std::memset(big_->data(), 0, kBig);
  ASSERT_TRUE(target_->register_memory(low_.data(), kSmall).ok());
  EXPECT_TRUE(fails_with(write(low_.address(), Addressing::kAuto), Code::kInvalidArgument,
                         "set the addressing mode"));
  EXPECT_TRUE(big_untouched());
  EXPECT_EQ(other_than(low_.data(), kSmall, std::byte{0}), kSame);
  EXPECT_TRUE(write(low_.address(), Addressing::kOffset).ok());
  EXPECT_TRUE(write(low_.address(), Addressing::kAddress).ok());
  EXPECT_TRUE(target_->unregister_memory(low_.data()).ok());
}

// The same the other way round: a number that is an address becomes an offset too.
TEST_P(AddressingOf, AutoIsNotWrongWhenTheSegmentGrows) {
  big_.reset();
  target_ = make_engine(kOneNic, "");
  ASSERT_TRUE(target_->install_transport(GetParam()).ok());
  segment_ = *initiator_->open_segment(target_->local_endpoint());
  ASSERT_TRUE(target_->register_memory(low_.data(), kSmall).ok());
  ASSERT_TRUE(write(low_.address(), Addressing::kAuto).ok()) << "an address, and nothing else yet";
  std::memset(low_.data(), 0, kSmall);
  big_ = std::make_unique<Registered>(*target_, kBig);
  EXPECT_TRUE(fails_with(write(low_.address(), Addressing::kAuto), Code::kInvalidArgument,
                         "set the addressing mode"));
  EXPECT_TRUE(big_untouched());
  EXPECT_EQ(other_than(low_.data(), kSmall, std::byte{0}), kSame);
  EXPECT_TRUE(target_->unregister_memory(low_.data()).ok());
}

// Requests with a mode go on while keys change under them.
TEST_P(AddressingOf, TransfersSurviveThatKeysChange) {
  std::atomic<bool> stop{false};
  std::thread changing([&] {
    for (uint64_t at = 0; at < kSmall && !stop; at += 4096) {
      EXPECT_TRUE(target_->register_memory(low_.data() + at, 4096).ok());
    }
    stop = true;
  });
  int rounds = 0;
  for (; !stop || rounds < 5; ++rounds) {
    std::memset(big_->data(), 0, kSmall);
    EXPECT_TRUE(write(0, Addressing::kOffset).ok());
    EXPECT_EQ(other_than(big_->data(), kSmall, std::byte{0x55}), kSame);
  }
  changing.join();
  for (uint64_t at = 0; at < kSmall; at += 4096) {
    EXPECT_TRUE(target_->unregister_memory(low_.data() + at).ok());
  }
}

INSTANTIATE_TEST_SUITE_P(Transports, AddressingOf, testing::Values("tcp", "shm", "fabric:tcp"),
                         [](const auto& parameter) {
                           std::string name = parameter.param;
                           std::replace(name.begin(), name.end(), ':', '_');
                           return name;
                         });

// What an engine reads by default, and what sets it.
TEST(AddressingMode, OfAnEngine) {
  const auto reads = [](Engine& engine, std::byte* at, uint64_t target_offset) {
    return transfer(engine, {{Opcode::kRead, at, kLocalSegment, target_offset, 1}}).state ==
           TaskState::kCompleted;
  };
  const auto refuses = [](Engine& engine, std::byte* at, uint64_t target_offset) {
    const BatchId batch = *engine.allocate_batch(1);
    const TransferRequest request{Opcode::kRead, at, kLocalSegment, target_offset, 1};
    const Code code = engine.submit(batch, {&request, 1}).code();
    EXPECT_TRUE(engine.free_batch(batch).ok());
    return code == Code::kOutOfRange;
  };
  std::vector<std::byte> memory(4096);
  const auto address = reinterpret_cast<uint64_t>(memory.data());
  EngineOptions options;
  options.host = "127.0.0.1";
  std::unique_ptr<Engine> engine = Engine::create(options).take();
  ASSERT_TRUE(engine->register_memory(memory.data(), memory.size()).ok());
  EXPECT_TRUE(reads(*engine, memory.data(), 0)) << "offset, where nothing was set";
  EXPECT_TRUE(refuses(*engine, memory.data(), address));
  EXPECT_TRUE(engine->set_addressing(Addressing::kAddress).ok());
  EXPECT_TRUE(refuses(*engine, memory.data(), 0));
  EXPECT_TRUE(reads(*engine, memory.data(), address));
  EXPECT_TRUE(engine->set_addressing(Addressing::kAuto).ok());
  EXPECT_TRUE(reads(*engine, memory.data(), 0));
  EXPECT_TRUE(reads(*engine, memory.data(), address));
  for (const int bad : {-1, 0, 4}) {
    EXPECT_TRUE(fails_with(engine->set_addressing(static_cast<Addressing>(bad)),
                           Code::kInvalidArgument, "addressing"));
  }
  EXPECT_EQ(
      engine->submit(*engine->allocate_batch(1), {}, {.addressing = static_cast<Addressing>(7)})
          .code(),
      Code::kInvalidArgument);
  // The setting has precedence over the option.
  options.addressing = Addressing::kOffset;
  options.config["addressing"] = "address";
  engine = Engine::create(options).take();
  ASSERT_TRUE(engine->register_memory(memory.data(), memory.size()).ok());
  EXPECT_TRUE(refuses(*engine, memory.data(), 0));
  EXPECT_TRUE(reads(*engine, memory.data(), address));
  options.config["addressing"] = "both";
  EXPECT_TRUE(fails_with(Engine::create(options).status(), Code::kInvalidArgument, "addressing"));
}

}  // namespace
}  // namespace te::test
