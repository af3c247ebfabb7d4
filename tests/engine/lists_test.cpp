// Lists of blocks and of ranges: one task each, over each transport, with bytes compared.
#include <algorithm>
#include <numeric>
#include <random>
#include <thread>

#include "engine/pair.h"

namespace te::test {
namespace {

constexpr uint64_t kBlock = 1'000;
constexpr uint64_t kBlocks = 1'500;  // of each of two regions
constexpr uint64_t kSecond = 2 << 20;

std::vector<uint64_t> shuffled(uint64_t count, uint64_t seed) {
  std::vector<uint64_t> result(count);
  std::iota(result.begin(), result.end(), 0);
  std::shuffle(result.begin(), result.end(), std::mt19937_64(seed));
  return result;
}

std::string transport_name(const testing::TestParamInfo<const char*>& tested) {
  std::string name = tested.param;
  std::replace(name.begin(), name.end(), ':', '_');
  return name;
}

class Lists : public testing::TestWithParam<const char*> {
 protected:
  BlockList blocks(Opcode opcode, const std::vector<uint64_t>& here,
                   const std::vector<uint64_t>& there) {
    regions_ = {{pair_.local(), pair_.address(), kBlock},
                {pair_.local() + kSecond, pair_.address() + kSecond, kBlock}};
    return {opcode, pair_.segment(), regions_, here, there};
  }
  // Whether each block is where the list says.
  testing::AssertionResult is_moved(const BlockList& list) {
    const bool write = list.opcode == Opcode::kWrite;
    for (const uint64_t begin : {uint64_t{0}, kSecond}) {
      for (size_t i = 0; i < list.source_blocks.size(); ++i) {
        const std::byte* here = pair_.local() + begin + list.source_blocks[i] * kBlock;
        const std::byte* there = pair_.remote() + begin + list.target_blocks[i] * kBlock;
        if (std::memcmp(here, there, kBlock) != 0) {
          return testing::AssertionFailure() << (write ? "WRITE" : "READ") << " of block " << i;
        }
      }
    }
    return testing::AssertionSuccess();
  }
  template <typename List>
  TransferStatus run(const List& list, const SubmitOptions& options = {}) {
    const BatchId batch = *pair_.initiator().allocate_batch(1);
    const Status status = pair_.initiator().submit_list(batch, list, options);
    EXPECT_TRUE(status.ok()) << status.to_string();
    EXPECT_TRUE(pair_.initiator().wait(batch).ok());
    const TransferStatus end = *pair_.initiator().status(batch, 0);
    why_ = pair_.initiator().task_error(batch, 0)->status;
    EXPECT_TRUE(pair_.initiator().free_batch(batch).ok());
    return end;
  }
  template <typename List>
  Status refusal(const List& list) {
    const BatchId batch = *pair_.initiator().allocate_batch(1);
    Status status = pair_.initiator().submit_list(batch, list);
    EXPECT_TRUE(pair_.initiator().free_batch(batch).ok());
    return status;
  }

  Pair pair_{{}, GetParam()};
  std::vector<BlockRegion> regions_;
  Status why_;
};

TEST_P(Lists, BlocksInAnyOrderGoWhereTheListSays) {
  const std::vector<uint64_t> here = shuffled(kBlocks, 1), there = shuffled(kBlocks, 2);
  for (uint64_t round = 0; round < 3; ++round) {
    stamp(pair_.local(), Pair::kSize, 2 * round + 1);
    const BlockList writes = blocks(Opcode::kWrite, here, there);
    const TransferStatus end = run(writes);
    EXPECT_EQ(end.state, TaskState::kCompleted) << why_.to_string();
    EXPECT_EQ(end.transferred_bytes, 2 * kBlocks * kBlock);
    EXPECT_TRUE(is_moved(writes));
    stamp(pair_.remote(), Pair::kSize, 2 * round + 2);
    const BlockList reads = blocks(Opcode::kRead, there, here);
    EXPECT_EQ(run(reads).state, TaskState::kCompleted) << why_.to_string();
    EXPECT_TRUE(is_moved(reads));
  }
}

TEST_P(Lists, BlocksInOrderAreOneRange) {
  std::vector<uint64_t> order(kBlocks);
  std::iota(order.begin(), order.end(), 0);
  stamp(pair_.local(), Pair::kSize, 9);
  const BlockList list = blocks(Opcode::kWrite, order, order);
  const Result<PreparedList> prepared = pair_.initiator().prepare(list);
  ASSERT_TRUE(prepared.ok()) << prepared.status().to_string();
  EXPECT_EQ(prepared->ranges(), 2u);
  EXPECT_EQ(prepared->bytes(), 2 * kBlocks * kBlock);
  EXPECT_EQ(run(*prepared).state, TaskState::kCompleted);
  EXPECT_TRUE(is_moved(list));
}

TEST_P(Lists, RangesOfAnyLengthGoWhereTheListSays) {
  std::mt19937_64 random(3);
  std::vector<uint64_t> sources, offsets, lengths;
  uint64_t at = 0, sum = 0;
  while (at < Pair::kSize - 300'000) {
    const uint64_t length = random() % 20 == 0 ? random() % 250'000 : random() % 5'000;
    sources.push_back(reinterpret_cast<uint64_t>(pair_.local()) + at);
    offsets.push_back(pair_.address() + at);
    lengths.push_back(length);
    sum += length;
    at += length + random() % 3;
  }
  const std::vector<uint64_t> order = shuffled(sources.size(), 4);
  const auto sorted = [&order](const std::vector<uint64_t>& from) {
    std::vector<uint64_t> result;
    for (const uint64_t index : order) result.push_back(from[index]);
    return result;
  };
  const std::vector<uint64_t> a = sorted(sources), b = sorted(offsets), c = sorted(lengths);
  stamp(pair_.local(), Pair::kSize, 5);
  const TransferStatus end = run(AddressList{Opcode::kWrite, pair_.segment(), a, b, c});
  EXPECT_EQ(end.state, TaskState::kCompleted) << why_.to_string();
  EXPECT_EQ(end.transferred_bytes, sum);
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(std::memcmp(reinterpret_cast<void*>(a[i]), reinterpret_cast<void*>(b[i]), c[i]), 0)
        << "range " << i;
  }
}

TEST_P(Lists, APreparedListGoesOnWhereThePeerRegistersAgain) {
  const std::vector<uint64_t> here = shuffled(kBlocks, 6), there = shuffled(kBlocks, 7);
  const BlockList list = blocks(Opcode::kWrite, here, there);
  const Result<PreparedList> prepared = pair_.initiator().prepare(list);
  ASSERT_TRUE(prepared.ok()) << prepared.status().to_string();
  for (uint64_t round = 0; round < 4; ++round) {
    stamp(pair_.local(), Pair::kSize, 20 + round);
    EXPECT_EQ(run(*prepared).state, TaskState::kCompleted) << why_.to_string();
    EXPECT_TRUE(is_moved(list));
    ASSERT_TRUE(pair_.target().unregister_memory(pair_.remote()).ok());
    ASSERT_TRUE(pair_.target().register_memory(pair_.remote(), Pair::kSize).ok());
  }
}

TEST_P(Lists, WrongOnesAreRefusedWhole) {
  const std::vector<uint64_t> one = {0}, beyond = {kSecond};
  EXPECT_TRUE(fails_with(refusal(blocks(Opcode::kWrite, beyond, one)), Code::kInvalidArgument,
                         "registered"));
  EXPECT_TRUE(fails_with(pair_.initiator().prepare(blocks(Opcode::kWrite, beyond, one)),
                         Code::kInvalidArgument, "registered"));
  EXPECT_TRUE(fails_with(refusal(blocks(Opcode::kWrite, one, {})), Code::kInvalidArgument,
                         "1 source blocks and 0 target blocks"));
  EXPECT_TRUE(fails_with(refusal(PreparedList()), Code::kInvalidArgument, "not prepared"));
  BlockList nowhere = blocks(Opcode::kWrite, one, one);
  nowhere.target_id = 12'345;
  EXPECT_TRUE(fails_with(refusal(nowhere), Code::kNotFound, "12345"));
  // Whether the target has registered it meanwhile, it alone knows.
  EXPECT_EQ(run(blocks(Opcode::kWrite, one, beyond)).state, TaskState::kFailed);
  EXPECT_EQ(why_.code(), Code::kOutOfRange) << why_.to_string();
  EXPECT_EQ(run(blocks(Opcode::kWrite, {}, {})).state, TaskState::kCompleted);
  EXPECT_TRUE(pair_.works());
}

TEST_P(Lists, ANotificationFollowsTheLastByte) {
  const std::vector<uint64_t> here = shuffled(kBlocks, 8), there = shuffled(kBlocks, 9);
  stamp(pair_.local(), Pair::kSize, 30);
  const BlockList list = blocks(Opcode::kWrite, here, there);
  EXPECT_EQ(run(list, {.notification = Notification{"blocks", "all"}}).state,
            TaskState::kCompleted);
  EXPECT_EQ(pair_.target().take_notifications().size(), 1u);
  EXPECT_TRUE(is_moved(list));
}

// Buffers that adjoin, with other borders here than there, and others again after the target
// registered them anew.
TEST_P(Lists, ARangeGoesOnInTheNextBuffer) {
  static constexpr size_t kBytes = 1 << 20;
  std::vector<std::byte> here(kBytes), there(kBytes);
  const auto register_parts = [](Engine& engine, std::byte* begin, std::vector<size_t> borders) {
    borders.push_back(kBytes);
    size_t from = 0;
    for (const size_t border : borders) {
      ASSERT_TRUE(engine.register_memory(begin + from, border - from).ok());
      from = border;
    }
  };
  const auto unregister_parts = [](Engine& engine, std::byte* begin, std::vector<size_t> borders) {
    borders.insert(borders.begin(), 0);
    for (const size_t border : borders) {
      ASSERT_TRUE(engine.unregister_memory(begin + border).ok());
    }
  };
  const std::vector<size_t> first = {300'001, 700'003}, second = {100'007, 650'021, 900'001};
  register_parts(pair_.initiator(), here.data(), {4'099, 500'009});
  register_parts(pair_.target(), there.data(), first);
  const std::vector<uint64_t> sources = {reinterpret_cast<uint64_t>(here.data())};
  const std::vector<uint64_t> targets = {reinterpret_cast<uint64_t>(there.data())};
  const std::vector<uint64_t> lengths = {kBytes};
  const AddressList writes{Opcode::kWrite, pair_.segment(), sources, targets, lengths};
  const SubmitOptions options{.addressing = Addressing::kAddress};
  stamp(here.data(), kBytes, 40);
  const TransferStatus end = run(writes, options);
  EXPECT_EQ(end.state, TaskState::kCompleted) << why_.to_string();
  EXPECT_EQ(end.transferred_bytes, kBytes);
  EXPECT_EQ(difference(there.data(), kBytes, 40), kSame);
  const Result<PreparedList> prepared = pair_.initiator().prepare(writes);
  ASSERT_TRUE(prepared.ok()) << prepared.status().to_string();
  EXPECT_EQ(prepared->ranges(), 1u);
  unregister_parts(pair_.target(), there.data(), first);
  register_parts(pair_.target(), there.data(), second);
  stamp(here.data(), kBytes, 41);
  const TransferStatus again = run(*prepared, options);
  EXPECT_EQ(again.state, TaskState::kCompleted) << why_.to_string();
  EXPECT_EQ(again.transferred_bytes, kBytes);
  EXPECT_EQ(difference(there.data(), kBytes, 41), kSame);
  unregister_parts(pair_.initiator(), here.data(), {4'099, 500'009});
  unregister_parts(pair_.target(), there.data(), second);
}

INSTANTIATE_TEST_SUITE_P(Over, Lists, testing::Values("tcp", "shm", "fabric:tcp"), transport_name);

// A range that comes while the list waits for it, and a target that restarts.
TEST(ListRecovery, ARangeThatIsRegisteredLaterIsWaitedFor) {
  std::unique_ptr<Engine> target = make_engine();
  std::unique_ptr<Engine> engine = make_engine({{"retry_window_ms", "5000"}});
  std::vector<std::byte> memory(1 << 20);
  Registered local(*engine, 1 << 20);
  const Result<SegmentId> id = engine->open_segment(target->local_endpoint());
  ASSERT_TRUE(id.ok());
  ASSERT_TRUE(target->register_memory(memory.data(), memory.size()).ok());
  stamp(local.data(), 1 << 20, 3);
  const std::vector<uint64_t> here = shuffled(1'000, 1), there = shuffled(1'000, 2);
  const std::vector<BlockRegion> regions = {{local.data(), 0, 1'000}};
  const BatchId batch = *engine->allocate_batch(1);
  ASSERT_TRUE(engine->submit_list(batch, BlockList{Opcode::kWrite, *id, regions, here, there}).ok())
      << "what the target offers now is not known yet";
  ASSERT_TRUE(engine->wait(batch, std::chrono::seconds(20)).ok());
  EXPECT_EQ(engine->status(batch, 0)->state, TaskState::kCompleted)
      << engine->task_error(batch, 0)->status.to_string();
  for (size_t i = 0; i < here.size(); ++i) {
    ASSERT_EQ(std::memcmp(local.data() + here[i] * 1'000, memory.data() + there[i] * 1'000, 1'000),
              0);
  }
  EXPECT_TRUE(engine->free_batch(batch).ok());
}

}  // namespace
}  // namespace te::test
