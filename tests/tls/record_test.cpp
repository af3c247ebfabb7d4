// Records of TLS 1.3: what is sealed opens, and nothing else does.
#include "tls/record.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>

#include "base/guarded_copy.h"
#include "base/log.h"
#include "support/facts.h"
#include "support/fails_with.h"
#include "support/fragile_memory.h"

namespace te::test {
namespace {

using tls::Content;
using tls::kHeaderSize;
using tls::RecordKeys;
using tls::RecordOpener;
using tls::RecordSealer;
using tls::Suite;

size_t secret_size(Suite suite) { return suite == Suite::kAes256Gcm ? 48 : 32; }

RecordKeys keys(Suite suite, bool encrypts, std::byte fill = std::byte{7}) {
  Secret secret(secret_size(suite));
  std::fill_n(secret.data(), secret.size(), fill);
  Result<RecordKeys> made = RecordKeys::make(suite, std::move(secret), encrypts);
  EXPECT_TRUE(made.ok()) << made.status().to_string();
  return made.take();
}

std::vector<std::byte> random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& each : bytes) each = static_cast<std::byte>(random());
  return bytes;
}

class Record : public testing::TestWithParam<Suite> {
 protected:
  std::vector<std::byte> seal(const std::vector<std::byte>& plain,
                              Content content = Content::kApplication) {
    std::vector<std::byte> record(tls::kMaxRecord);
    std::copy(plain.begin(), plain.end(), record.begin() + kHeaderSize);
    record.resize(sealer_.seal(record.data(), plain.size(), content));
    return record;
  }
  testing::AssertionResult opens_to(std::vector<std::byte> record,
                                    const std::vector<std::byte>& plain,
                                    Content content = Content::kApplication) {
    const Result<RecordOpener::Opened> opened = opener_.open(record);
    if (!opened.ok()) return testing::AssertionFailure() << opened.status().to_string();
    if (opened->content != content) return testing::AssertionFailure() << "of another content";
    if (!std::equal(plain.begin(), plain.end(), opened->bytes.begin(), opened->bytes.end())) {
      return testing::AssertionFailure() << "other bytes";
    }
    return testing::AssertionSuccess();
  }

  RecordSealer sealer_{keys(GetParam(), true)};
  RecordOpener opener_{keys(GetParam(), false)};
};

TEST_P(Record, WhatIsSealedOpens) {
  for (const size_t size : {0ul, 1ul, 15ul, 16ul, 17ul, 4'096ul, tls::kMaxPlaintext}) {
    const std::vector<std::byte> plain = random_bytes(size, size);
    const std::vector<std::byte> record = seal(plain);
    EXPECT_EQ(record.size(), kHeaderSize + size + tls::kTrailerSize);
    EXPECT_EQ(tls::record_size(record.data()), record.size());
    EXPECT_TRUE(opens_to(record, plain)) << size;
  }
  // Zeros at the end are data, not padding.
  EXPECT_TRUE(opens_to(seal(std::vector<std::byte>(100)), std::vector<std::byte>(100)));
  EXPECT_TRUE(
      opens_to(seal(random_bytes(2, 1), Content::kAlert), random_bytes(2, 1), Content::kAlert));
}

TEST_P(Record, WhatIsSealedFromMemoryOfAnApplicationOpens) {
  const FaultHandler handler;
  for (const size_t size : {1ul, 17ul, 4'096ul, tls::kMaxPlaintext}) {
    const std::vector<std::byte> plain = random_bytes(size, size);
    std::vector<std::byte> record(tls::kMaxRecord);
    const std::optional<size_t> sealed = sealer_.seal_from(plain.data(), record.data(), size);
    ASSERT_TRUE(sealed.has_value());
    record.resize(*sealed);
    EXPECT_TRUE(opens_to(record, plain));
    EXPECT_TRUE(opens_to(seal(plain), plain));
  }
}

TEST_P(Record, MemoryThatCannotBeReadLeavesNoTrace) {
  FragileMemory memory(2 * 4'096);
  ASSERT_NE(memory.data(), nullptr);
  ASSERT_TRUE(memory.damage(Damage::kProtected, 4'096, 4'096));
  std::vector<std::byte> record(tls::kMaxRecord);
  {
    const FaultHandler handler;
    EXPECT_EQ(sealer_.seal_from(memory.data(), record.data(), 2 * 4'096), std::nullopt);
  }
  // Without the handler it is not tried.
  EXPECT_EQ(sealer_.seal_from(memory.data(), record.data(), 16), std::nullopt);
  const std::vector<std::byte> plain = random_bytes(100, 1);
  EXPECT_TRUE(opens_to(seal(plain), plain));
}

TEST_P(Record, EachBitCounts) {
  const std::vector<std::byte> plain = random_bytes(40, 1);
  const std::vector<std::byte> record = seal(plain);
  for (size_t bit = 0; bit < record.size() * 8; ++bit) {
    std::vector<std::byte> other = record;
    other[bit / 8] ^= std::byte{1} << (bit % 8);
    RecordOpener opener(keys(GetParam(), false));
    EXPECT_TRUE(fails_with(opener.open(other), Code::kProtocol, "TLS")) << bit;
  }
  EXPECT_TRUE(opens_to(record, plain));
}

TEST_P(Record, ARecordOpensOnceAndInItsOrder) {
  const std::vector<std::byte> a = random_bytes(10, 1), b = random_bytes(10, 2);
  const std::vector<std::byte> first = seal(a), second = seal(b);
  {
    RecordOpener opener(keys(GetParam(), false));
    std::vector<std::byte> early = second;
    EXPECT_TRUE(fails_with(opener.open(early), Code::kProtocol, "verify"));
  }
  EXPECT_TRUE(opens_to(first, a));
  EXPECT_TRUE(opens_to(second, b));
  EXPECT_FALSE(opens_to(second, b)) << "a repetition";
}

TEST_P(Record, OtherKeysOpenNothing) {
  std::vector<std::byte> record = seal(random_bytes(10, 1));
  RecordOpener opener(keys(GetParam(), false, std::byte{8}));
  EXPECT_TRUE(fails_with(opener.open(record), Code::kProtocol, "verify"));
}

TEST_P(Record, SizesThatNoRecordHasAreRefused) {
  for (const size_t size :
       {0ul, 4ul, 5ul, kHeaderSize + tls::kTrailerSize - 1, tls::kMaxReceived + 1}) {
    std::vector<std::byte> record(size);
    if (size >= kHeaderSize) {
      record[0] = std::byte{23};
      record[3] = static_cast<std::byte>((size - kHeaderSize) >> 8);
      record[4] = static_cast<std::byte>(size - kHeaderSize);
    }
    EXPECT_TRUE(fails_with(opener_.open(record), Code::kProtocol, "not a protected record"));
  }
}

TEST_P(Record, KeysChangeOnBothSides) {
  for (int i = 0; i < 1'100; ++i)
    EXPECT_TRUE(opens_to(seal(random_bytes(3, 1)), random_bytes(3, 1)));
  std::vector<std::byte> record(tls::kMaxRecord);
  record.resize(sealer_.seal_key_update(record.data()));
  const std::vector<std::byte> after = seal(random_bytes(9, 2));
  const Result<RecordOpener::Opened> opened = opener_.open(record);
  ASSERT_TRUE(opened.ok());
  ASSERT_EQ(opened->content, Content::kHandshake);
  bool answer = true;
  EXPECT_TRUE(opener_.handle_handshake(opened->bytes, &answer).ok());
  EXPECT_FALSE(answer);
  EXPECT_TRUE(opens_to(after, random_bytes(9, 2)));
}

TEST_P(Record, AFloodOfKeyUpdatesIsRefused) {
  std::vector<std::byte> record(tls::kMaxRecord);
  record.resize(sealer_.seal_key_update(record.data()));
  const Result<RecordOpener::Opened> opened = opener_.open(record);
  ASSERT_TRUE(opened.ok());
  bool answer = false;
  EXPECT_TRUE(fails_with(opener_.handle_handshake(opened->bytes, &answer), Code::kProtocol,
                         "changes its keys after 1 records"));
  for (const uint8_t type : {4, 24}) {
    const std::vector<std::byte> message = {std::byte{type}, std::byte{0}, std::byte{0},
                                            std::byte{1}, std::byte{2}};
    EXPECT_TRUE(fails_with(opener_.handle_handshake(message, &answer), Code::kProtocol,
                           "unexpected message"));
  }
}

INSTANTIATE_TEST_SUITE_P(Of, Record,
                         testing::Values(Suite::kAes128Gcm, Suite::kAes256Gcm, Suite::kChaCha20),
                         [](const auto& tested) {
                           return fmt::format("{:04x}", static_cast<int>(tested.param));
                         });

}  // namespace
}  // namespace te::test
