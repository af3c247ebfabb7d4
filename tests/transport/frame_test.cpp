// The bytes of docs/wire.md. Whoever changes one of them changes wire::kVersion too.
#include <gtest/gtest.h>

#include "core/wire.h"
#include "transport/frames.h"

namespace te::tcp::test {
namespace {

using namespace std::string_literals;

AccessKey some_key() {
  AccessKey key;
  key.index = 0x04030201;
  for (size_t i = 0; i < key.secret.size(); ++i) key.secret[i] = static_cast<uint8_t>('a' + i);
  return key;
}

TEST(Frame, RequestBytesAreFixed) {
  EXPECT_EQ(wire::kVersion, 3u);
  EXPECT_EQ(write_frame({{0x1122334455667788, 5, some_key()}}, "hello"),
            "\x01\0\x01\0\0\0\0\0"              // type, reserved, count, reserved
            "\x05\0\0\0\0\0\0\0"                // payload
            "\x88\x77\x66\x55\x44\x33\x22\x11"  // address
            "\x05\0\0\0"                        // length
            "\x01\x02\x03\x04"                  // key: index
            "abcdefghijklmnop"                  // key: secret
            "hello"s);
  EXPECT_EQ(read_frame({{1, 2, some_key()}, {3, 4, some_key()}}),
            "\x02\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0"
            "\x01\0\0\0\0\0\0\0\x02\0\0\0\x01\x02\x03\x04"
            "abcdefghijklmnop"
            "\x03\0\0\0\0\0\0\0\x04\0\0\0\x01\x02\x03\x04"
            "abcdefghijklmnop"s);
}

TEST(Frame, AnswerBytesAreFixed) {
  EXPECT_EQ(ack(0x0102030405060708), "\x01\0\0\0\0\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01"s);
  EXPECT_EQ(data(7, 3, "xyz"), "\x02\0\0\0\x03\0\0\0\x07\0\0\0\0\0\0\0xyz"s);
  EXPECT_EQ(refused(9, Code::kStale), "\x03\x09\0\0\x01\0\0\0\x09\0\0\0\0\0\0\0"s);
}

TEST(Frame, RequestHeadersAreChecked) {
  for (int type = 0; type < 256; ++type) {
    for (const uint16_t count : {uint16_t{0}, uint16_t{1}, kMaxRequestsPerFrame,
                                 uint16_t{kMaxRequestsPerFrame + 1}, uint16_t{UINT16_MAX}}) {
      for (const uint64_t payload : {uint64_t{0}, uint64_t{1}, UINT64_MAX}) {
        const std::string bytes = request_bytes(static_cast<uint8_t>(type), count, payload, {});
        const RequestHeader header = RequestHeader::decode(as_bytes(bytes).data());
        EXPECT_EQ(header.count, count);
        EXPECT_EQ(header.payload, payload);
        const bool asks = type == 1 && count == 0 && payload == 0;
        EXPECT_EQ(header.valid(), asks || (count >= 1 && count <= kMaxRequestsPerFrame &&
                                           (type == 1 || (type == 2 && payload == 0))))
            << type << " " << count << " " << payload;
      }
    }
  }
}

TEST(Frame, EntriesRoundTrip) {
  const std::string bytes = read_frame({{UINT64_MAX, UINT32_MAX, some_key()}});
  const RequestEntry entry = RequestEntry::decode(as_bytes(bytes).data() + RequestHeader::kSize);
  EXPECT_EQ(entry.address, UINT64_MAX);
  EXPECT_EQ(entry.length, UINT32_MAX);
  EXPECT_EQ(entry.key.index, some_key().index);
  EXPECT_EQ(entry.key.secret, some_key().secret);
}

TEST(Frame, AnswersRoundTripAndUnknownCodesAreInternal) {
  for (int code = 0; code < 256; ++code) {
    std::string bytes = answer_bytes(AnswerType::kError, Code::kOk, 5, UINT64_MAX);
    bytes[1] = static_cast<char>(code);
    const AnswerHeader header = AnswerHeader::decode(as_bytes(bytes).data());
    EXPECT_EQ(header.type, AnswerType::kError);
    EXPECT_EQ(header.count, 5u);
    EXPECT_EQ(header.sequence, UINT64_MAX);
    EXPECT_EQ(static_cast<int>(header.code), code <= 15 ? -code : -15);
  }
}

}  // namespace
}  // namespace te::tcp::test
