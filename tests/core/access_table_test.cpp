#include "core/access_table.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

namespace te {
namespace {

AccessKey must_add(AccessTable& table, uint64_t address, uint64_t length) {
  Result<AccessKey> key = table.add(address, length, Rights::kBoth);
  EXPECT_TRUE(key.ok()) << key.status().to_string();
  return key.ok() ? *key : AccessKey{};
}

Code probe(AccessTable& table, const AccessKey& key, uint64_t address, uint64_t length) {
  const Code code = table.acquire(key, address, length, Rights::kRead);
  if (code == Code::kOk) table.release(key);
  return code;
}

TEST(AccessKey, TravelsAsTwentyBytes) {
  AccessKey key;
  key.index = 0x01020304;
  for (size_t i = 0; i < key.secret.size(); ++i) key.secret[i] = static_cast<uint8_t>(0xa0 + i);
  std::byte bytes[AccessKey::kSize];
  key.encode(bytes);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes), sizeof bytes),
            "\x04\x03\x02\x01\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf");
  const AccessKey again = AccessKey::decode(bytes);
  EXPECT_EQ(again.index, key.index);
  EXPECT_EQ(again.secret, key.secret);
}

TEST(AccessTable, AllowsTheRangeAndNothingElse) {
  AccessTable table;
  const AccessKey key = must_add(table, 1000, 100);
  for (const auto& [address, length] :
       {std::pair<uint64_t, uint64_t>{1000, 100}, {1000, 1}, {1099, 1}, {1050, 50}, {1100, 0}}) {
    EXPECT_EQ(probe(table, key, address, length), Code::kOk) << address << "+" << length;
  }
  for (const auto& [address, length] : {std::pair<uint64_t, uint64_t>{999, 1},
                                        {999, 2},
                                        {1000, 101},
                                        {1001, 100},
                                        {1099, 2},
                                        {1100, 1},
                                        {1101, 0},
                                        {0, 100},
                                        {0, UINT64_MAX},
                                        {1050, UINT64_MAX},
                                        {1050, UINT64_MAX - 1049},
                                        {UINT64_MAX, 1},
                                        {UINT64_MAX, UINT64_MAX}}) {
    EXPECT_EQ(probe(table, key, address, length), Code::kOutOfRange) << address << "+" << length;
  }
}

TEST(AccessTable, EveryBitOfTheSecretCounts) {
  AccessTable table;
  const AccessKey key = must_add(table, 1000, 100);
  for (size_t bit = 0; bit < 128; ++bit) {
    AccessKey wrong = key;
    wrong.secret[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    EXPECT_EQ(probe(table, wrong, 1000, 1), Code::kStale) << bit;
  }
  EXPECT_EQ(probe(table, key, 1000, 1), Code::kOk);
}

TEST(AccessTable, ARangeAllowsWhatItWasAddedFor) {
  AccessTable table;
  for (const Rights rights : {Rights::kNone, Rights::kRead, Rights::kWrite, Rights::kBoth}) {
    const AccessKey key = *table.add(1000, 100, rights);
    for (const Rights wanted : {Rights::kRead, Rights::kWrite}) {
      const Code code = table.acquire(key, 1000, 100, wanted);
      EXPECT_EQ(code, contains(rights, wanted) ? Code::kOk : Code::kPermission);
      if (code == Code::kOk) table.release(key);
      EXPECT_EQ(table.acquire(key, 1000, 101, wanted), Code::kOutOfRange);
    }
    table.remove(key);  // waits for ever if a refused access pinned it
  }
}

TEST(AccessTable, ForgedIndicesAreStale) {
  AccessTable table;
  const AccessKey key = must_add(table, 1000, 100);
  for (const uint32_t index : {key.index + 1, 1023u, 1024u, 1u << 20, (1u << 24) - 1, 1u << 24,
                               UINT32_MAX - 1, UINT32_MAX}) {
    AccessKey wrong = key;
    wrong.index = index;
    EXPECT_EQ(probe(table, wrong, 1000, 1), Code::kStale) << index;
    table.remove(wrong);
  }
  EXPECT_EQ(probe(table, AccessKey{}, 1000, 1), Code::kStale);
  EXPECT_EQ(probe(table, key, 1000, 1), Code::kOk);
}

TEST(AccessTable, ARemovedKeyIsStaleForGood) {
  AccessTable table;
  const AccessKey old = must_add(table, 1000, 100);
  table.remove(old);
  EXPECT_EQ(probe(table, old, 1000, 1), Code::kStale);
  table.remove(old);
  // The place is used again, the key is not.
  const AccessKey now = must_add(table, 1000, 100);
  EXPECT_EQ(now.index, old.index);
  EXPECT_NE(now.secret, old.secret);
  EXPECT_EQ(probe(table, old, 1000, 1), Code::kStale);
  table.remove(old);  // takes nothing away from its successor
  EXPECT_EQ(probe(table, now, 1000, 1), Code::kOk);
}

TEST(AccessTable, ManyKeysStayApart) {
  constexpr uint64_t kCount = 5'000;  // several chunks
  AccessTable table;
  std::vector<AccessKey> keys;
  std::set<uint32_t> indices;
  for (uint64_t i = 0; i < kCount; ++i) {
    keys.push_back(must_add(table, 1'000'000 + i * 100, 100));
    indices.insert(keys.back().index);
  }
  EXPECT_EQ(indices.size(), kCount);
  for (uint64_t i = 0; i < kCount; i += 2) table.remove(keys[i]);
  for (uint64_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(probe(table, keys[i], 1'000'000 + i * 100, 100), i % 2 ? Code::kOk : Code::kStale);
    EXPECT_NE(probe(table, keys[i], 1'000'000 + i * 100 + 1, 100), Code::kOk);
  }
  for (uint64_t i = 0; i < kCount / 2; ++i) {
    EXPECT_LT(must_add(table, 10, 10).index, kCount);  // freed places come first
  }
}

TEST(AccessTable, RemoveWaitsForAnAccessUnderWay) {
  AccessTable table;
  const AccessKey key = must_add(table, 1000, 100);
  ASSERT_EQ(table.acquire(key, 1000, 1, Rights::kRead), Code::kOk);
  ASSERT_EQ(table.acquire(key, 1050, 1, Rights::kRead), Code::kOk);
  std::atomic<bool> released{false}, removed_early{false};
  std::thread remover([&] {
    table.remove(key);
    removed_early = !released;
  });
  // New accesses are refused while the old ones go on.
  while (probe(table, key, 1000, 1) == Code::kOk) std::this_thread::yield();
  EXPECT_EQ(probe(table, key, 1000, 1), Code::kStale);
  table.release(key);
  EXPECT_EQ(probe(table, key, 1000, 1), Code::kStale);
  released = true;
  table.release(key);
  remover.join();
  EXPECT_FALSE(removed_early);
}

// What the range says while it is pinned must hold: `inside` is never true after remove() returned.
TEST(AccessTable, NothingIsPinnedAfterRemove) {
  AccessTable table;
  for (int round = 0; round < 50; ++round) {
    const AccessKey key = must_add(table, 1000, 100);
    std::atomic<bool> gone{false};
    std::atomic<int> violations{0}, rounds{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        while (table.acquire(key, 1000, 100, Rights::kRead) == Code::kOk) {
          if (gone) ++violations;
          ++rounds;
          table.release(key);
        }
      });
    }
    while (rounds == 0) std::this_thread::yield();
    table.remove(key);
    gone = true;
    for (std::thread& thread : threads) thread.join();
    ASSERT_EQ(violations, 0);
  }
}

}  // namespace
}  // namespace te
