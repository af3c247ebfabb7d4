#include "core/stage_message.h"

#include <gtest/gtest.h>

#include <string>

#include "core/wire.h"

namespace te::stage {
namespace {

using namespace std::string_literals;

Copy some_copy() {
  Copy copy{0x1122334455667788, 3, 1, true, {{0x7000, 4096, {}}, {0x100, 1, {}}}};
  copy.ranges[0].key.index = 9;
  copy.ranges[0].key.secret.fill(0xAB);
  copy.ranges[1].key.index = 2;
  copy.ranges[1].key.secret.fill(0xCD);
  return copy;
}

const std::string kCopy =
    "\x02\0\0\0"                        // version
    "\x02"                              // type
    "\x88\x77\x66\x55\x44\x33\x22\x11"  // lease
    "\x03\0\0\0\0\0\0\0"                // sequence
    "\x01\0\0\0"                        // part
    "\x01"                              // into the part
    "\x02\0\0\0"                        // ranges
    "\0\x70\0\0\0\0\0\0"                // address
    "\0\x10\0\0\0\0\0\0"                // length
    "\x09\0\0\0"s +                     // key: index, secret
    std::string(16, '\xAB') +
    "\0\x01\0\0\0\0\0\0"
    "\x01\0\0\0\0\0\0\0"
    "\x02\0\0\0"s +
    std::string(16, '\xCD');

void expect_whole(const Bytes& good) {
  const Result<Hello> hello = decode_hello(as_bytes(good));
  ASSERT_TRUE(hello.ok());
  EXPECT_EQ(encode(*hello), good);
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_EQ(decode_hello(as_bytes(good.substr(0, length))).code(), Code::kProtocol) << length;
  }
  EXPECT_EQ(decode_hello(as_bytes(good + '\0')).code(), Code::kProtocol);
}

TEST(StageMessage, TheBytesAreThoseOfTheDocument) {
  EXPECT_EQ(encode(Hello(some_copy())), kCopy);
  EXPECT_EQ(encode(Hello(Open{5, 2, 1 << 20})),
            "\x02\0\0\0\x01\x05\0\0\0\0\0\0\0\x02\0\0\0\0\0\x10\0\0\0\0\0"s);
  EXPECT_EQ(encode(Hello(Close{5})), "\x02\0\0\0\x03\x05\0\0\0\0\0\0\0"s);
  EXPECT_EQ(encode_answer({0x7000, 1 << 20}), "\x02\0\0\0\0\x70\0\0\0\0\0\0\0\0\x10\0\0\0\0\0"s);
}

TEST(StageMessage, HellosSurviveTheWay) {
  expect_whole(kCopy);
  expect_whole(encode(Hello(Open{5, kMaxParts, kMaxPartBytes})));
  expect_whole(encode(Hello(Close{5})));
  const Result<Hello> hello = decode_hello(as_bytes(kCopy));
  ASSERT_TRUE(hello.ok());
  const Copy& copy = std::get<Copy>(*hello);
  EXPECT_EQ(copy.lease, 0x1122334455667788u);
  EXPECT_EQ(copy.sequence, 3u);
  EXPECT_EQ(copy.part, 1u);
  EXPECT_TRUE(copy.into_part);
  ASSERT_EQ(copy.ranges.size(), 2u);
  EXPECT_EQ(copy.ranges[0].address, 0x7000u);
  EXPECT_EQ(copy.ranges[0].length, 4096u);
  EXPECT_EQ(copy.ranges[0].key.index, 9u);
  EXPECT_EQ(copy.ranges[0].key.secret, some_copy().ranges[0].key.secret);
  EXPECT_EQ(copy.ranges[1].address, 0x100u);
  EXPECT_EQ(copy.ranges[1].length, 1u);
  EXPECT_EQ(copy.ranges[1].key.secret, some_copy().ranges[1].key.secret);
}

TEST(StageMessage, RefusesWhatIsTooMuchOrNothing) {
  const auto refused = [](const Hello& hello) {
    return decode_hello(as_bytes(encode(hello))).code() == Code::kProtocol;
  };
  EXPECT_TRUE(refused(Open{5, 0, 4096}));
  EXPECT_TRUE(refused(Open{5, kMaxParts + 1, 4096}));
  EXPECT_TRUE(refused(Open{5, 1, 0}));
  EXPECT_TRUE(refused(Open{5, 1, kMaxPartBytes + 1}));
  for (const auto change :
       {+[](Copy& copy) { copy.sequence = 0; }, +[](Copy& copy) { copy.part = kMaxParts; },
        +[](Copy& copy) { copy.ranges[1].length = 0; },
        +[](Copy& copy) { copy.ranges[0].length = kMaxPartBytes + 1; },
        +[](Copy& copy) { copy.ranges[0].length = kMaxPartBytes; },  // with the other one
        +[](Copy& copy) { copy.ranges[1].length = UINT64_MAX; },     // likewise
        +[](Copy& copy) { copy.ranges.clear(); },
        +[](Copy& copy) {
          copy.ranges.resize(kMaxRanges + 1, {1, 1, {}});
        }}) {
    Copy copy = some_copy();
    change(copy);
    EXPECT_TRUE(refused(copy));
  }
  Bytes other = kCopy;
  other[0] = 1;  // version
  EXPECT_EQ(decode_hello(as_bytes(other)).code(), Code::kProtocol);
  other = kCopy;
  other[25] = 2;  // into the part
  EXPECT_EQ(decode_hello(as_bytes(other)).code(), Code::kProtocol);
  for (const char type : {'\0', '\4'}) {
    other = kCopy;
    other[4] = type;
    EXPECT_EQ(decode_hello(as_bytes(other)).code(), Code::kProtocol);
  }
}

TEST(StageMessage, AsManyRangesAsThereMayBeFitIntoAnExchange) {
  Copy copy = some_copy();
  copy.ranges.resize(kMaxRanges, {1, 1, {}});
  const Bytes bytes = encode(copy);
  EXPECT_LE(bytes.size(), wire::kMaxExchange);
  const Result<Hello> hello = decode_hello(as_bytes(bytes));
  ASSERT_TRUE(hello.ok());
  EXPECT_EQ(std::get<Copy>(*hello).ranges.size(), kMaxRanges);
  EXPECT_EQ(encode(*hello), bytes);
}

TEST(StageMessage, AnswersAreChecked) {
  const Bytes good = encode_answer({0x7000, 4096});
  const Result<Opened> opened = decode_answer(as_bytes(good));
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(opened->address, 0x7000u);
  EXPECT_EQ(opened->part_bytes, 4096u);
  EXPECT_FALSE(decode_answer(as_bytes(good.substr(1))).ok());
  EXPECT_FALSE(decode_answer(as_bytes(good + "x")).ok());
  EXPECT_FALSE(decode_answer(as_bytes(encode_answer({0x7000, 0}))).ok());
  EXPECT_FALSE(decode_answer(as_bytes(encode_answer({0x7000, kMaxPartBytes + 1}))).ok());
}

}  // namespace
}  // namespace te::stage
