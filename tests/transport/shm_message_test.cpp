#include "transport/shm/message.h"

#include <gtest/gtest.h>

namespace te::shm {
namespace {

std::string hex(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[static_cast<unsigned char>(byte) >> 4];
    text += kDigits[static_cast<unsigned char>(byte) & 15];
  }
  return text;
}

TEST(ShmMessage, HasTheseBytes) {
  Message message;
  message.kind = Kind::kMapped;
  message.code = Code::kStale;
  message.index = 0x01020304;
  message.generation = 0x1112131415161718;
  message.value = 0x2122232425262728;
  message.length = 0x3132333435363738;
  message.type = 0x41424344;
  for (size_t i = 0; i < message.data.size(); ++i) message.data[i] = static_cast<uint8_t>(i);
  const auto bytes = message.encode();
  EXPECT_EQ(
      hex({bytes.data(), bytes.size()}),
      "5453484d03000400f7ffffff0403020118171615141312112827262524232221383736353433323144434241"
      "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324252627"
      "28292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f");
  const Result<Message> decoded = Message::decode(as_bytes({bytes.data(), bytes.size()}));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->kind, message.kind);
  EXPECT_EQ(decoded->code, message.code);
  EXPECT_EQ(decoded->index, message.index);
  EXPECT_EQ(decoded->generation, message.generation);
  EXPECT_EQ(decoded->value, message.value);
  EXPECT_EQ(decoded->length, message.length);
  EXPECT_EQ(decoded->type, message.type);
  EXPECT_EQ(decoded->data, message.data);
}

TEST(ShmMessage, KeysAndOffersHaveTheseBytes) {
  EXPECT_EQ(hex(RangeKey{0x01020304, 0x1112131415161718, Way::kOpened}.encode()),
            "04030201181716151413121102");
  Advertisement advertisement;
  advertisement.token.fill(0xAA);
  advertisement.cookie.fill(0xBB);
  const Bytes bytes = advertisement.encode();
  EXPECT_EQ(hex(bytes),
            "0300" + std::string(2 * 8, 'a') + std::string(2 * 8, 'a') + std::string(4 * 16, 'b'));
  EXPECT_EQ(bytes.size(), Advertisement::kSize);
}

TEST(ShmMessage, RefusesWhatIsNotOne) {
  const auto right = Message().encode();
  const std::string bytes(right.data(), right.size());
  const auto code = [](std::string changed) { return Message::decode(as_bytes(changed)).code(); };
  EXPECT_EQ(code(bytes), Code::kOk);
  EXPECT_EQ(code(bytes.substr(1)), Code::kProtocol);
  EXPECT_EQ(code(bytes + "x"), Code::kProtocol);
  EXPECT_EQ(code(""), Code::kProtocol);
  const auto with = [&bytes](size_t at, char byte) {
    std::string changed = bytes;
    changed[at] = byte;
    return changed;
  };
  EXPECT_EQ(code(with(0, 'x')), Code::kProtocol) << "the magic number";
  EXPECT_EQ(code(with(4, 1)), Code::kUnsupported) << "the version";
  EXPECT_EQ(code(with(6, 0)), Code::kProtocol) << "the kind";
  EXPECT_EQ(code(with(6, 9)), Code::kProtocol) << "the kind";
  EXPECT_EQ(code(with(8, 1)), Code::kProtocol) << "the code";
}

}  // namespace
}  // namespace te::shm
