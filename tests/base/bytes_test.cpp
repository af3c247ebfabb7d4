#include "base/bytes.h"

#include <gtest/gtest.h>

#include <array>

namespace te {
namespace {

TEST(ByteReader, NumbersAreLittleEndian) {
  ByteReader in(as_bytes("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\xff"));
  EXPECT_EQ(in.number<uint8_t>(), 0x01u);
  EXPECT_EQ(in.number<uint16_t>(), 0x0302u);
  EXPECT_EQ(in.number<uint32_t>(), 0x07060504u);
  EXPECT_EQ(in.remaining(), 8u);
  EXPECT_FALSE(in.complete());
  EXPECT_EQ(in.number<uint64_t>(), 0xff0e0d0c0b0a0908u);
  EXPECT_TRUE(in.complete());
}

TEST(ByteReader, SignedNumbersKeepTheirSign) {
  ByteReader in(as_bytes("\xfe\xff\xff\xff\x80"));
  EXPECT_EQ(in.number<int32_t>(), -2);
  EXPECT_EQ(in.number<int8_t>(), -128);
  EXPECT_TRUE(in.complete());
}

TEST(ByteReader, EveryNumberIsBounded) {
  const std::string bytes(8, '\x11');
  for (size_t length = 0; length < 8; ++length) {
    ByteReader in(as_bytes(std::string_view(bytes).substr(0, length)));
    EXPECT_EQ(in.number<uint64_t>(), 0u) << length;
    EXPECT_FALSE(in.ok()) << length;
  }
}

TEST(ByteReader, StaysBadAndYieldsNothing) {
  ByteReader in(as_bytes("abcdef"));
  EXPECT_EQ(in.number<uint64_t>(), 0u);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.number<uint8_t>(), 0u);  // there would be bytes for it
  EXPECT_EQ(in.view(1), "");
  EXPECT_EQ(in.view(0), "");
  EXPECT_EQ(in.text(100), "");
  EXPECT_EQ(in.remaining(), 0u);
  EXPECT_FALSE(in.ok());
  EXPECT_FALSE(in.complete());
}

TEST(ByteReader, ViewPointsIntoTheInput) {
  const std::string_view bytes = "abcdef";
  ByteReader in(as_bytes(bytes));
  const std::string_view view = in.view(4);
  EXPECT_EQ(view, "abcd");
  EXPECT_EQ(view.data(), bytes.data());
  EXPECT_EQ(in.view(2), "ef");
  EXPECT_TRUE(in.complete());
  EXPECT_EQ(in.view(0), "");
  EXPECT_TRUE(in.ok());
}

TEST(ByteReader, HugeViewIsRefused) {
  for (const uint64_t length : {uint64_t{7}, uint64_t{1} << 32, UINT64_MAX - 1, UINT64_MAX}) {
    ByteReader in(as_bytes("abcdef"));
    EXPECT_EQ(in.view(length), "") << length;
    EXPECT_FALSE(in.ok()) << length;
  }
}

TEST(ByteReader, TextHonoursItsLimit) {
  ByteWriter out;
  out.text("hello");
  const Bytes bytes = out.take();
  ASSERT_EQ(bytes, std::string("\x05\0\0\0hello", 9));
  {
    ByteReader in(as_bytes(bytes));
    EXPECT_EQ(in.text(5), "hello");
    EXPECT_TRUE(in.complete());
  }
  {
    ByteReader in(as_bytes(bytes));
    EXPECT_EQ(in.text(4), "");
    EXPECT_FALSE(in.ok());
  }
}

TEST(ByteReader, TextCutShortIsRefused) {
  ByteWriter out;
  out.text("hello");
  const Bytes bytes = out.take();
  for (size_t length = 0; length < bytes.size(); ++length) {
    ByteReader in(as_bytes(std::string_view(bytes).substr(0, length)));
    EXPECT_EQ(in.text(UINT32_MAX), "") << length;
    EXPECT_FALSE(in.ok()) << length;
  }
}

TEST(ByteReader, TextWithAForgedLengthIsRefused) {
  ByteReader in(as_bytes("\xff\xff\xff\xffhello"));
  EXPECT_EQ(in.text(UINT32_MAX), "");
  EXPECT_FALSE(in.ok());
}

TEST(ByteReader, EmptyInput) {
  ByteReader in(ByteView{});
  EXPECT_TRUE(in.complete());
  EXPECT_EQ(in.number<uint8_t>(), 0u);
  EXPECT_FALSE(in.ok());
}

TEST(ByteWriter, WritesWhatTheReaderReads) {
  ByteWriter out;
  out.reserve(64);
  out.number(uint8_t{0xab});
  out.number(int32_t{-15});
  out.number(UINT64_MAX - 1);
  out.text("");
  out.text(std::string_view("a\0b", 3));
  out.raw("xyz");
  const Bytes bytes = out.take();
  ASSERT_EQ(bytes.size(), 1u + 4 + 8 + 4 + 4 + 3 + 3);

  ByteReader in(as_bytes(bytes));
  EXPECT_EQ(in.number<uint8_t>(), 0xabu);
  EXPECT_EQ(in.number<int32_t>(), -15);
  EXPECT_EQ(in.number<uint64_t>(), UINT64_MAX - 1);
  EXPECT_EQ(in.text(0), "");
  EXPECT_EQ(in.text(3), std::string_view("a\0b", 3));
  EXPECT_EQ(in.view(3), "xyz");
  EXPECT_TRUE(in.complete());
}

TEST(Bytes, LoadAndStoreNeedNoAlignment) {
  std::array<std::byte, 16> bytes{};
  for (size_t at = 0; at < 8; ++at) {
    store(bytes.data() + at, uint64_t{0x0123456789abcdef});
    EXPECT_EQ(load<uint64_t>(bytes.data() + at), 0x0123456789abcdefu);
    EXPECT_EQ(bytes[at], std::byte{0xef});
    EXPECT_EQ(bytes[at + 7], std::byte{0x01});
  }
}

}  // namespace
}  // namespace te
