#include "directory/record.h"

#include <gtest/gtest.h>

#include "directory/base64.h"

namespace te {
namespace {

constexpr const char* kGood =
    R"({"host":"10.0.0.1","port":12345,"instance":"00c0ffee00c0ffee","version":1})";

TEST(Record, RoundTrip) {
  for (const Locator& locator :
       {Locator{"10.0.0.1", 1, 0}, Locator{"fe80::1%eth0", 65535, UINT64_MAX},
        Locator{"node-1.rack_2.example", 80, 0x00c0ffee00c0ffee}}) {
    const Result<std::string> text = encode_record(locator);
    ASSERT_TRUE(text.ok()) << text.status().to_string();
    const Result<Locator> decoded = decode_record(*text);
    ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
    EXPECT_EQ(*decoded, locator);
  }
}

TEST(Record, TextIsFixed) {
  const Result<Locator> decoded = decode_record(kGood);
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
  EXPECT_EQ(*decoded, (Locator{"10.0.0.1", 12345, 0x00c0ffee00c0ffee}));
  EXPECT_EQ(*encode_record({"10.0.0.1", 12345, 0x00c0ffee00c0ffee}),
            R"({"host":"10.0.0.1","instance":"00c0ffee00c0ffee","port":12345,"version":1})");
}

TEST(Record, UnknownFieldsAreIgnored) {
  const Result<Locator> decoded = decode_record(
      R"({"extra":{"a":[1,null]},"host":"h","port":1,"instance":"0000000000000001","version":1})");
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
  EXPECT_EQ(decoded->instance, 1u);
}

struct BadRecord {
  const char* text;
  const char* says;
};

TEST(Record, HostileTextsAreRefused) {
  const BadRecord cases[] = {
      {"", "not JSON"},
      {"{", "not JSON"},
      {"\xff\xfe", "not JSON"},
      {"[]", "not a JSON object"},
      {"17", "not a JSON object"},
      {"{}", "'version'"},
      {R"({"host":"h","port":1,"instance":"0000000000000001","version":2})", "version is 2"},
      {R"({"host":"h","port":1,"instance":"0000000000000001","version":"1"})", "'version'"},
      {R"({"port":1,"instance":"0000000000000001","version":1})", "'host'"},
      {R"({"host":7,"port":1,"instance":"0000000000000001","version":1})", "'host'"},
      {R"({"host":"","port":1,"instance":"0000000000000001","version":1})", "'host'"},
      {R"({"host":"a b","port":1,"instance":"0000000000000001","version":1})", "'host'"},
      {R"({"host":"h\u0000","port":1,"instance":"0000000000000001","version":1})", "'host'"},
      {R"({"host":"h","port":-1,"instance":"0000000000000001","version":1})", "'port'"},
      {R"({"host":"h","port":0,"instance":"0000000000000001","version":1})", "'port'"},
      {R"({"host":"h","port":65536,"instance":"0000000000000001","version":1})", "'port'"},
      {R"({"host":"h","port":80.5,"instance":"0000000000000001","version":1})", "'port'"},
      {R"({"host":"h","port":"80","instance":"0000000000000001","version":1})", "'port'"},
      {R"({"host":"h","port":1e99,"instance":"0000000000000001","version":1})", "'port'"},
      {R"({"host":"h","port":1,"instance":1,"version":1})", "'instance'"},
      {R"({"host":"h","port":1,"instance":"1","version":1})", "'instance'"},
      {R"({"host":"h","port":1,"instance":"000000000000000g","version":1})", "'instance'"},
      {R"({"host":"h","port":1,"instance":"-000000000000001","version":1})", "'instance'"},
  };
  for (const BadRecord& bad : cases) {
    const Result<Locator> decoded = decode_record(bad.text);
    ASSERT_FALSE(decoded.ok()) << bad.text;
    EXPECT_EQ(decoded.code(), Code::kProtocol) << bad.text;
    EXPECT_NE(decoded.status().message().find(bad.says), std::string::npos)
        << bad.text << " -> " << decoded.status().message();
  }
}

TEST(Record, SizesAreLimited) {
  std::string padded = kGood;
  padded.resize(kMaxRecordBytes, ' ');
  EXPECT_TRUE(decode_record(padded).ok());
  padded.push_back(' ');
  EXPECT_EQ(decode_record(padded).code(), Code::kProtocol);
  EXPECT_EQ(decode_record(std::string(kMaxRecordBytes, '[')).code(), Code::kProtocol);

  const std::string long_host = R"({"host":")" + std::string(256, 'a') +
                                R"(","port":1,"instance":"0000000000000001","version":1})";
  EXPECT_EQ(decode_record(long_host).code(), Code::kProtocol);
}

TEST(Record, WhatOthersCouldNotReadIsNotWritten) {
  EXPECT_EQ(encode_record({"", 1, 1}).code(), Code::kInvalidArgument);
  EXPECT_EQ(encode_record({"a\"b", 1, 1}).code(), Code::kInvalidArgument);
  EXPECT_EQ(encode_record({"\xff", 1, 1}).code(), Code::kInvalidArgument);
  EXPECT_EQ(encode_record({"h", 0, 1}).code(), Code::kInvalidArgument);
}

TEST(Record, KeysOfNames) {
  EXPECT_EQ(*record_key("a/b"), "transfer_engine/segments/a/b");
  EXPECT_EQ(record_key("").code(), Code::kInvalidArgument);
  EXPECT_TRUE(record_key(std::string(kMaxNameBytes, 'n')).ok());
  EXPECT_EQ(record_key(std::string(kMaxNameBytes + 1, 'n')).code(), Code::kInvalidArgument);
}

TEST(Base64, KnownTexts) {
  // The vectors of RFC 4648.
  const std::pair<const char*, const char*> cases[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [plain, coded] : cases) {
    EXPECT_EQ(base64_encode(plain), coded);
    EXPECT_EQ(base64_decode(coded), plain);
  }
  std::string all;
  for (int i = 0; i < 256; ++i) all.push_back(static_cast<char>(i));
  EXPECT_EQ(base64_decode(base64_encode(all)), all);
}

TEST(Base64, ForeignTextsAreRefused) {
  for (const char* text : {"A", "AA", "AAA", "A===", "====", "AA=A", "AA-A", "AAA\n", "=AAA"}) {
    EXPECT_FALSE(base64_decode(text).has_value()) << text;
  }
}

}  // namespace
}  // namespace te
