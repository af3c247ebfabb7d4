// The local segment over transports that take their time, refuse, come and go.
#include "engine/memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <future>
#include <map>
#include <random>
#include <thread>

#include "base/options.h"
#include "engine/memory_fixture.h"
#include "engine/pair.h"
#include "support/fake_memory.h"
#include "transport/fakes.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;

// Runs it on another thread; false when it does not come back in time.
template <typename Call>
bool in_time(Call&& call) {
  std::packaged_task<void()> task(std::forward<Call>(call));
  std::future<void> done = task.get_future();
  std::thread thread(std::move(task));
  const bool ended = done.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  if (!ended) std::abort();  // whatever it waits for is about to be gone
  thread.join();
  return ended;
}

TEST_F(MemoryTest, NobodyWaitsForATransportThatTakesItsTime) {
  ASSERT_TRUE(add(0).ok());
  tcp_->hold(piece(1));
  std::thread slow([this] { EXPECT_TRUE(add(1, 3).ok()); });
  ASSERT_TRUE(tcp_->wait_until_held());
  EXPECT_TRUE(in_time([this] {
    Buffer* known = pin(0);
    EXPECT_NE(known, nullptr);
    if (known != nullptr) known->release();
    for (const size_t index : {1, 2, 3}) {
      EXPECT_EQ(pin(index), nullptr) << "not registered yet";
      EXPECT_EQ(remove(index).code(), Code::kNotFound);
      EXPECT_EQ(add_part(index).code(), Code::kAlreadyExists);
    }
    EXPECT_EQ(memory_.descriptor()->size(), 1u);
    EXPECT_TRUE(add(10, 5).ok());
    EXPECT_TRUE(remove(12).ok());
    EXPECT_EQ(memory_.descriptor()->size(), 5u);
  }));
  tcp_->let_go();
  slow.join();
  EXPECT_EQ(memory_.descriptor()->size(), 8u);
  EXPECT_EQ(tcp_->live(), 8u);
}

// Others see a large batch half done: the lock is let go many times on the way. One look may miss
// that, so batches come and go until both halves were seen.
TEST_F(MemoryTest, TheLockIsLetGoWithinALargeBatch) {
  enum Phase { kNone, kAdding, kRemoving };
  std::atomic<Phase> phase{kNone};
  std::atomic<bool> seen[3] = {};
  std::atomic<bool> stop{false};
  std::thread watcher([&] {
    while (!stop) {
      ReaderLock lock(memory_.mutex());
      const size_t size = memory_.registry().size();
      if (size > 0 && size < kPieces) seen[phase] = true;
    }
  });
  std::vector<void*> addresses;
  for (size_t i = 0; i < kPieces; ++i) addresses.push_back(piece(i));
  const auto both_seen = [&] {
    phase = kAdding;
    EXPECT_TRUE(add(0, kPieces).ok());
    phase = kRemoving;
    EXPECT_TRUE(memory_.remove(addresses).ok());
    return seen[kAdding] && seen[kRemoving];
  };
  EXPECT_TRUE(eventually(both_seen))
      << "while adding: " << seen[kAdding] << ", while removing: " << seen[kRemoving];
  stop = true;
  watcher.join();
}

TEST_F(MemoryTest, ARefusedBatchLeavesNothingBehind) {
  ASSERT_TRUE(add(0).ok());
  tcp_->refuse(piece(700));
  const uint64_t generation = memory_.generation();
  EXPECT_TRUE(fails_with(add(1, 1'000), Code::kResource, "tcp: refused"));
  EXPECT_EQ(tcp_->live(), 1u);
  EXPECT_EQ(memory_.descriptor()->size(), 1u);
  EXPECT_EQ(memory_.generation(), generation);
  tcp_->refuse(nullptr);
  EXPECT_TRUE(add(1, 1'000).ok());
  EXPECT_EQ(memory_.descriptor()->buffer(1).offset, kPiece) << "the layout has holes";
  // An overlap in the middle of a batch.
  std::vector<BufferEntry> overlapping = entries(1'500, 1'000);
  overlapping[700] = {piece(10), 2 * kPiece};
  EXPECT_TRUE(fails_with(memory_.add(overlapping, "*", Access::kDefault), Code::kAlreadyExists,
                         "buffer 700"));
  EXPECT_EQ(tcp_->live(), 1'001u);
}

TEST_F(MemoryTest, InstallingAndRegisteringDoNotMeet) {
  ASSERT_TRUE(add(0, 5).ok());
  const auto second = std::make_shared<Keeper>("rdma", true);
  // A registration that waits for its transport keeps the other one out, and is not missed by it.
  tcp_->hold(piece(5));
  std::thread registering([this] { EXPECT_TRUE(add(5).ok()); });
  ASSERT_TRUE(tcp_->wait_until_held());
  std::atomic<bool> installed{false};
  std::thread installing([&] {
    EXPECT_TRUE(install(second).ok());
    installed = true;
  });
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_FALSE(installed);
  tcp_->let_go();
  registering.join();
  installing.join();
  EXPECT_EQ(second->live(), 6u);
  // And the other way round.
  const auto third = std::make_shared<Keeper>("shm");
  third->hold(piece(0));
  std::thread slow([&] { EXPECT_TRUE(install(third).ok()); });
  ASSERT_TRUE(third->wait_until_held());
  std::atomic<int> ended{0};
  std::thread late([&] {
    EXPECT_TRUE(add(6).ok());
    ++ended;
  });
  std::thread gone([&] {
    EXPECT_TRUE(remove(1).ok());
    EXPECT_FALSE(third->reaches(piece(1)));
    ++ended;
  });
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_EQ(ended, 0);
  EXPECT_TRUE(in_time([this] { EXPECT_NE(memory_.descriptor(), nullptr); }));
  third->let_go();
  for (std::thread* thread : {&slow, &late, &gone}) thread->join();
  EXPECT_EQ(tcp_->live(), 6u);
  EXPECT_EQ(second->live(), 6u);
  EXPECT_EQ(third->live(), 6u);
}

TEST_F(MemoryTest, ATransportThatRefusesABufferGetsNone) {
  ASSERT_TRUE(add(0, 10).ok());
  const auto second = std::make_shared<Keeper>("rdma", true);
  second->refuse(piece(7));
  EXPECT_EQ(install(second).code(), Code::kResource);
  EXPECT_EQ(second->live(), 0u);
  uninstall(second);
  EXPECT_TRUE(remove(7).ok());
}

TEST_F(MemoryTest, NoKeyOutlivesItsBufferWhileTransportsComeAndGo) {
  constexpr int kThreads = 3;
  std::atomic<bool> stop{false};
  std::mutex keepers_mutex;
  std::shared_ptr<Keeper> current;
  std::thread installer([&] {
    while (!stop) {
      const auto keeper = std::make_shared<Keeper>("shm");
      {
        const std::scoped_lock lock(keepers_mutex);
        current = keeper;
      }
      EXPECT_TRUE(install(keeper).ok());
      std::this_thread::yield();
      uninstall(keeper);
      EXPECT_EQ(keeper->live(), 0u);
    }
  });
  std::vector<std::thread> threads;
  std::atomic<int> rounds{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      while (!stop) {
        const size_t first = static_cast<size_t>(t) * 1'000 + random() % 900;
        const size_t count = 1 + random() % 50;
        ASSERT_TRUE(add(first, count).ok());
        if (random() % 2 == 0) (void)memory_.descriptor();
        std::vector<void*> addresses;
        for (size_t i = 0; i < count; ++i) addresses.push_back(piece(first + i));
        ASSERT_TRUE(memory_.remove(addresses).ok());
        std::shared_ptr<Keeper> keeper;
        {
          const std::scoped_lock lock(keepers_mutex);
          keeper = current;
        }
        for (size_t i = 0; i < count; ++i) {
          ASSERT_FALSE(tcp_->reaches(piece(first + i)));
          ASSERT_FALSE(keeper && keeper->reaches(piece(first + i)));
        }
        ++rounds;
      }
    });
  }
  EXPECT_TRUE(eventually([&] { return rounds > 500; }, std::chrono::seconds(20))) << rounds;
  stop = true;
  for (std::thread& thread : threads) thread.join();
  installer.join();
  EXPECT_EQ(tcp_->live(), 0u);
  EXPECT_EQ(memory_.descriptor()->size(), 0u);
}

// What is described while buffers come and go contradicts itself never.
TEST_F(MemoryTest, DescriptionsAreOfOneTime) {
  std::atomic<bool> stop{false};
  ASSERT_TRUE(add(0, 1'500).ok());
  std::thread changing([&] {
    std::mt19937 random(1);
    while (!stop) {
      const size_t first = random() % 1'400;
      std::vector<void*> addresses;
      for (size_t i = 0; i < 100; ++i) addresses.push_back(piece(first + i));
      ASSERT_TRUE(memory_.remove(addresses).ok());
      ASSERT_TRUE(add(first, 100).ok());
    }
  });
  for (int i = 0; i < 100; ++i) {
    const std::shared_ptr<const Bytes> bytes = memory_.encoded_descriptor(Rights::kBoth);
    const Result<Descriptor> decoded = Descriptor::decode(*bytes);
    EXPECT_TRUE(decoded.ok()) << decoded.status().to_string();
    EXPECT_GE(decoded.ok() ? decoded->size() : 0, 1'400u);
  }
  stop = true;
  changing.join();
}

// A buffer at a low address makes numbers ambiguous: what peers know of the buffer that has them as
// offsets is worthless from then on, and what is under way ends as it began.
TEST_F(MemoryTest, KeysChangeWhereNumbersBecomeAmbiguous) {
  constexpr size_t kLarge = 64 << 20;
  const auto nic = std::make_shared<Keeper>("rdma", true);
  ASSERT_TRUE(install(nic).ok());
  void* large = ::mmap(nullptr, kLarge, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  void* low = MAP_FAILED;
  for (uint64_t at = 4 << 20; at < kLarge && low == MAP_FAILED; at += 1 << 20) {
    low = ::mmap(reinterpret_cast<void*>(at), 4096, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  }
  ASSERT_NE(large, MAP_FAILED);
  ASSERT_NE(low, MAP_FAILED);
  const BufferEntry large_entry{large, kLarge}, low_entry{low, 4096};
  ASSERT_TRUE(memory_.add({&large_entry, 1}, "*", Access::kDefault).ok());
  ASSERT_TRUE(add(0, 3).ok());
  const std::shared_ptr<const Descriptor> before = memory_.descriptor();
  Buffer* used = nullptr;
  {
    ReaderLock lock(memory_.mutex());
    used = memory_.registry().find(reinterpret_cast<uint64_t>(large));
    ASSERT_TRUE(used->pin());
  }
  std::atomic<bool> registered{false};
  std::thread registering([&] {
    EXPECT_TRUE(memory_.add({&low_entry, 1}, "*", Access::kDefault).ok());
    registered = true;
  });
  // The NIC's key goes when the use under way ended, and the low buffer is not offered before.
  EXPECT_TRUE(eventually([&] {
    ReaderLock lock(memory_.mutex());
    return memory_.registry().find(reinterpret_cast<uint64_t>(large)) != used;
  }));
  Buffer* again = nullptr;
  EXPECT_TRUE(in_time([&] {
    ReaderLock lock(memory_.mutex());
    again = memory_.registry().find(reinterpret_cast<uint64_t>(large));
    EXPECT_TRUE(again->pin()) << "new uses do not wait";
  }));
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(registered);
  used->release();
  registering.join();
  const std::shared_ptr<const Descriptor> after = memory_.descriptor();
  ASSERT_EQ(before->size(), 4u);
  ASSERT_EQ(after->size(), 5u);
  EXPECT_TRUE(contains(after->ambiguous, reinterpret_cast<uint64_t>(low)));
  for (size_t buffer = 0; buffer < 4; ++buffer) {
    EXPECT_EQ(after->buffer(buffer).address, before->buffer(buffer).address);
    for (const size_t transport : {0, 1}) {
      const auto key = [&](const Descriptor& descriptor) {
        return load<uint64_t>(descriptor.key(buffer, transport));
      };
      EXPECT_EQ(key(*before) == key(*after), buffer != 0) << buffer;
    }
  }
  EXPECT_EQ(tcp_->live(), 5u);
  EXPECT_EQ(nic->live(), 5u);
  again->release();
  for (void* address : {large, low}) EXPECT_TRUE(memory_.remove({&address, 1}).ok());
  EXPECT_FALSE(tcp_->reaches(large) || nic->reaches(large));
  ::munmap(large, kLarge);
  ::munmap(low, 4096);
}

// Where no transport knows the local memory, nobody waits for its uses but who unregisters it.
TEST_F(MemoryTest, UnregisteringWaitsForUsesOfWhatWasReplaced) {
  constexpr size_t kLarge = 64 << 20;
  void* large = ::mmap(nullptr, kLarge, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  void* low = MAP_FAILED;
  for (uint64_t at = 4 << 20; at < kLarge && low == MAP_FAILED; at += 1 << 20) {
    low = ::mmap(reinterpret_cast<void*>(at), 4096, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  }
  ASSERT_TRUE(large != MAP_FAILED && low != MAP_FAILED);
  const BufferEntry large_entry{large, kLarge}, low_entry{low, 4096};
  ASSERT_TRUE(memory_.add({&large_entry, 1}, "*", Access::kDefault).ok());
  Buffer* used = nullptr;
  {
    ReaderLock lock(memory_.mutex());
    used = memory_.registry().find(reinterpret_cast<uint64_t>(large));
    ASSERT_TRUE(used->pin());
  }
  EXPECT_TRUE(in_time([&] {
    EXPECT_TRUE(memory_.add({&low_entry, 1}, "*", Access::kDefault).ok());
  }));
  std::atomic<bool> removed{false};
  std::thread removing([&] {
    EXPECT_TRUE(memory_.remove({&large, 1}).ok());
    removed = true;
  });
  EXPECT_TRUE(eventually([&] { return !tcp_->reaches(large); }));
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(removed);
  used->release();
  removing.join();
  EXPECT_TRUE(memory_.remove({&low, 1}).ok());
  ::munmap(large, kLarge);
  ::munmap(low, 4096);
}

// An engine's memory where there is another kind than host memory.
class OtherMemory : public testing::Test {
 protected:
  Status add(void* at, size_t length, const char* location = "*") {
    const BufferEntry entry{at, length};
    return memory_.add({&entry, 1}, location, Access::kDefault);
  }

  FakeMemoryDriver driver_{MemoryKind::kCuda};
  FakeMemory fake_{driver_, 8192};
  std::vector<std::byte> host_memory_ = std::vector<std::byte>(8192);
  RecordingHost host_;
  const Config config_ = {};
  Transports transports_{host_, config_, {}};
  Memory memory_{1, config_, transports_};
};

TEST_F(OtherMemory, IsRegisteredWithTheTransportsThatReachIt) {
  const auto tcp = std::make_shared<Keeper>("tcp");
  const auto rdma = std::make_shared<Keeper>("rdma");
  const auto efa = std::make_shared<Keeper>("efa", true);
  rdma->reach.remote.add(MemoryKind::kCuda);
  efa->reach.local.add(MemoryKind::kCuda);
  for (const auto& transport : {tcp, rdma, efa}) transports_.add(transport, false);
  ASSERT_TRUE(add(fake_.data(), 4096).ok());
  ASSERT_TRUE(add(host_memory_.data(), 4096).ok());
  for (const auto& transport : {tcp, rdma, efa}) {
    EXPECT_TRUE(transport->reaches(host_memory_.data())) << transport->name();
    EXPECT_EQ(transport->reaches(fake_.data()), transport != tcp) << transport->name();
  }
  // The same for what is installed later.
  const auto late = std::make_shared<Keeper>("shm");
  {
    const WriterLock barrier(memory_.barrier());
    transports_.add(late, false);
    ASSERT_TRUE(memory_.introduce(*late).ok());
  }
  EXPECT_TRUE(late->reaches(host_memory_.data()));
  EXPECT_FALSE(late->reaches(fake_.data()));
  const std::shared_ptr<const Descriptor> descriptor = memory_.descriptor();
  ASSERT_EQ(descriptor->size(), 2u);
  EXPECT_EQ(descriptor->buffer(0).kind, MemoryKind::kCuda);
  EXPECT_EQ(descriptor->buffer(0).rights, Rights::kBoth) << "though its pages have no access";
  EXPECT_EQ(descriptor->buffer(1).kind, MemoryKind::kHost);
  for (void* address :
       {static_cast<void*>(fake_.data()), static_cast<void*>(host_memory_.data())}) {
    EXPECT_TRUE(memory_.remove({&address, 1}).ok());
  }
  for (const auto& transport : {tcp, rdma, efa, late}) EXPECT_EQ(transport->live(), 0u);
}

TEST_F(OtherMemory, ItsLocationIsForItAlone) {
  EXPECT_TRUE(add(fake_.data(), 4096, "cuda:1").ok());
  EXPECT_TRUE(add(fake_.data(), 4096, "*").ok()) << "not the same as its own location";
  for (const char* wrong : {"cuda:0", "cpu:0"}) {
    const Status elsewhere = add(fake_.data() + 4096, 4096, wrong);
    EXPECT_TRUE(fails_with(elsewhere, Code::kInvalidArgument, std::string("'") + wrong + "'"));
    EXPECT_TRUE(fails_with(elsewhere, Code::kInvalidArgument, "memory of 'cuda:1'"));
  }
  const Status refused = add(host_memory_.data(), 4096, "cuda:1");
  EXPECT_TRUE(fails_with(refused, Code::kInvalidArgument, "'cuda:1'"));
  EXPECT_TRUE(fails_with(refused, Code::kInvalidArgument, "host memory"));
  EXPECT_TRUE(add(host_memory_.data(), 4096, "cpu:0").ok());
}

}  // namespace
}  // namespace te::test
