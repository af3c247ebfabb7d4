#include "core/wire.h"

#include <gtest/gtest.h>

namespace te::wire {
namespace {

using namespace std::string_literals;

template <typename Array>
std::string text_of(const Array& bytes) {
  return std::string(bytes.begin(), bytes.end());
}

// docs/wire.md shows the same bytes. Whoever changes one of them changes kVersion too.
const std::string kHello =
    "TTE1"                              // magic
    "\x03\0\x03\0"                      // version, oldest version
    "\x01\0\x02\0\0\0\0\0"              // kind, lane, reserved
    "\x08\x07\x06\x05\x04\x03\x02\x01"  // features
    "\x11\0\0\0\0\0\0\0"                // instance
    "\x22\0\0\0\0\0\0\0"                // target instance
    "\x33\0\0\0\0\0\0\0"                // session
    "\x44\0\0\0\0\0\0\0"s;              // epoch

Hello hello() {
  Hello hello;
  hello.kind = ChannelKind::kTcpData;
  hello.lane = 2;
  hello.features = 0x0102030405060708;
  hello.instance = 0x11;
  hello.target_instance = 0x22;
  hello.session = 0x33;
  hello.epoch = 0x44;
  return hello;
}

Code decode_hello(const std::string& bytes) { return Hello::decode(as_bytes(bytes)).code(); }

std::string with(std::string bytes, size_t at, const std::string& value) {
  return bytes.replace(at, value.size(), value);
}

TEST(Hello, BytesAreFixed) {
  EXPECT_EQ(kVersion, 3u);
  EXPECT_EQ(text_of(hello().encode()), kHello);
}

TEST(Hello, RoundTrip) {
  const Result<Hello> decoded = Hello::decode(as_bytes(kHello));
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
  EXPECT_EQ(decoded->version, 3u);
  EXPECT_EQ(decoded->oldest_version, 3u);
  EXPECT_EQ(decoded->kind, ChannelKind::kTcpData);
  EXPECT_EQ(decoded->lane, 2u);
  EXPECT_EQ(decoded->features, 0x0102030405060708u);
  EXPECT_EQ(decoded->instance, 0x11u);
  EXPECT_EQ(decoded->target_instance, 0x22u);
  EXPECT_EQ(decoded->session, 0x33u);
  EXPECT_EQ(decoded->epoch, 0x44u);
  EXPECT_EQ(text_of(decoded->encode()), kHello);
}

TEST(Hello, OtherBytesAreNotOurs) {
  EXPECT_EQ(decode_hello(with(kHello, 0, "GET ")), Code::kProtocol);
  EXPECT_EQ(decode_hello(with(kHello, 3, "2")), Code::kProtocol);
  EXPECT_EQ(decode_hello(with(kHello, 8, "\x02"s)), Code::kProtocol);  // an unknown kind
  EXPECT_EQ(decode_hello(with(kHello, 8, "\x01\x01"s)), Code::kProtocol);
}

TEST(Hello, VersionsMustMeet) {
  // Version, then the oldest that the peer understands.
  EXPECT_EQ(decode_hello(with(kHello, 4, "\x09\0\x03\0"s)), Code::kOk);
  EXPECT_EQ(decode_hello(with(kHello, 4, "\xff\xff\0\0"s)), Code::kOk);
  EXPECT_EQ(decode_hello(with(kHello, 4, "\x09\0\x04\0"s)), Code::kUnsupported);
  EXPECT_EQ(decode_hello(with(kHello, 4, "\x02\0\x02\0"s)), Code::kUnsupported);
  const Status status = Hello::decode(as_bytes(with(kHello, 4, "\x09\0\x07\0"s))).status();
  EXPECT_NE(status.message().find("versions 7 to 9, this engine 3 to 3"), std::string::npos)
      << status.message();
}

TEST(Hello, ANewerVersionIsToldByThePrefixAlone) {
  const std::string newer = with(kHello, 4, "\x09\0\x04\0"s);
  EXPECT_EQ(decode_hello(newer.substr(0, Hello::kPrefix)), Code::kUnsupported);
}

TEST(Hello, CutShortAnywhereIsRefused) {
  for (size_t length = 0; length < kHello.size(); ++length) {
    EXPECT_EQ(decode_hello(kHello.substr(0, length)), Code::kProtocol) << length;
  }
  EXPECT_EQ(decode_hello(kHello + '\0'), Code::kProtocol);
}

const std::string kAnswer =
    "TTE1"                              // magic
    "\x03\0\0\0"                        // version, reserved
    "\xf7\xff\xff\xff\0\0\0\0"          // code, reserved
    "\x08\x07\x06\x05\x04\x03\x02\x01"  // features
    "\x11\0\0\0\0\0\0\0"                // instance
    "\0\x04\0\0\x07\0\0\0"s;            // window, reserved

Code decode_answer(const std::string& bytes) { return HelloAnswer::decode(as_bytes(bytes)).code(); }

TEST(HelloAnswer, BytesAreFixed) {
  HelloAnswer answer;
  answer.code = Code::kStale;
  answer.features = 0x0102030405060708;
  answer.instance = 0x11;
  answer.window = 1024;
  answer.reserved = 7;
  EXPECT_EQ(text_of(answer.encode()), kAnswer);
  const Result<HelloAnswer> decoded = HelloAnswer::decode(as_bytes(kAnswer));
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
  EXPECT_EQ(decoded->code, Code::kStale);
  EXPECT_EQ(decoded->features, 0x0102030405060708u);
  EXPECT_EQ(decoded->instance, 0x11u);
  EXPECT_EQ(decoded->window, 1024u);
  EXPECT_EQ(text_of(decoded->encode()), kAnswer);
}

TEST(HelloAnswer, AVersionWeDoNotSpeakCountsOnlyWhenAccepted) {
  const std::string accepted = with(kAnswer, 8, "\0\0\0\0"s);
  EXPECT_EQ(decode_answer(accepted), Code::kOk);
  EXPECT_EQ(decode_answer(with(accepted, 4, "\x04"s)), Code::kUnsupported);
  EXPECT_EQ(decode_answer(with(accepted, 4, "\0"s)), Code::kUnsupported);
  // A refusal of a newer peer still says why.
  const Result<HelloAnswer> refused = HelloAnswer::decode(as_bytes(with(kAnswer, 4, "\x04"s)));
  ASSERT_TRUE(refused.ok());
  EXPECT_EQ(refused->code, Code::kStale);
}

TEST(HelloAnswer, CodesOfANewerPeerAreInternal) {
  for (const std::string& value :
       {"\x01\0\0\0"s, "\xf0\xff\xff\xff"s, "\0\0\0\x80"s, "\xff\xff\xff\x7f"s}) {
    const Result<HelloAnswer> decoded = HelloAnswer::decode(as_bytes(with(kAnswer, 8, value)));
    ASSERT_TRUE(decoded.ok());
    EXPECT_EQ(decoded->code, Code::kInternal);
  }
}

TEST(HelloAnswer, OtherBytesAreRefused) {
  EXPECT_EQ(decode_answer(with(kAnswer, 0, "HTTP")), Code::kProtocol);
  for (size_t length = 0; length < kAnswer.size(); ++length) {
    EXPECT_EQ(decode_answer(kAnswer.substr(0, length)), Code::kProtocol) << length;
  }
  EXPECT_EQ(decode_answer(kAnswer + '\0'), Code::kProtocol);
}

TEST(HelloAnswer, RefusalsAreExplained) {
  for (const auto& [code, says] : {std::pair<Code, const char*>{Code::kStale, "another run"},
                                   {Code::kBusy, "max_inbound_connections"},
                                   {Code::kUnsupported, "protocol version"},
                                   {Code::kInternal, "refused (internal)"}}) {
    HelloAnswer answer;
    answer.code = code;
    const Status status = refusal(answer, "10.0.0.1:80");
    EXPECT_EQ(status.code(), code);
    EXPECT_NE(status.message().find("10.0.0.1:80"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find(says), std::string::npos) << status.message();
  }
}

TEST(Silence, NamesTheTimeAndItsSetting) {
  EXPECT_EQ(silence(250), "no answer within 250 ms (connect_timeout_ms)");
}

const std::string kHeader =
    "\x03\x80\0\0"                      // type, reserved
    "\xfe\xff\xff\xff"                  // code
    "\x08\x07\x06\x05\x04\x03\x02\x01"  // id
    "\x05\0\0\0\0\0\0\0"s;              // length

TEST(ControlHeader, BytesAreFixed) {
  ControlHeader header;
  header.type = static_cast<ControlType>(0x8003);
  header.code = Code::kNotFound;
  header.id = 0x0102030405060708;
  header.length = 5;
  EXPECT_EQ(text_of(header.encode()), kHeader);
  const Result<ControlHeader> decoded = ControlHeader::decode(as_bytes(kHeader));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->type, header.type);
  EXPECT_EQ(decoded->code, Code::kNotFound);
  EXPECT_EQ(decoded->id, header.id);
  EXPECT_EQ(decoded->length, 5u);
}

TEST(ControlHeader, TypesAreFixed) {
  EXPECT_EQ(static_cast<uint16_t>(ControlType::kPing), 1u);
  EXPECT_EQ(static_cast<uint16_t>(ControlType::kDescribe), 2u);
  EXPECT_EQ(static_cast<uint16_t>(ControlType::kNotify), 3u);
  EXPECT_EQ(static_cast<uint16_t>(ControlType::kExchange), 4u);
  EXPECT_EQ(static_cast<uint16_t>(ControlType::kLinks), 5u);
  EXPECT_EQ(static_cast<uint16_t>(ControlType::kAnswer), 0x8000u);
}

TEST(ControlHeader, CutShortAnywhereIsRefused) {
  for (size_t length = 0; length < kHeader.size(); ++length) {
    EXPECT_EQ(ControlHeader::decode(as_bytes(kHeader.substr(0, length))).code(), Code::kProtocol);
  }
  EXPECT_EQ(ControlHeader::decode(as_bytes(kHeader + "x")).code(), Code::kProtocol);
}

const std::string kNotify =
    "\x11\0\0\0\0\0\0\0"  // sender
    "\x22\0\0\0\0\0\0\0"  // sequence
    "\x02\0\0\0ab"        // name
    "\x03\0\0\0x\0y"s;    // message

TEST(NotifyBody, BytesAreFixed) {
  NotifyBody body;
  body.sender = 0x11;
  body.sequence = 0x22;
  body.notification = {"ab", "x\0y"s};
  EXPECT_EQ(body.encode(), kNotify);
  const Result<NotifyBody> decoded = NotifyBody::decode(kNotify);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->sender, 0x11u);
  EXPECT_EQ(decoded->sequence, 0x22u);
  EXPECT_EQ(decoded->notification.name, "ab");
  EXPECT_EQ(decoded->notification.message, "x\0y"s);
}

TEST(NotifyBody, CutShortAnywhereIsRefused) {
  for (size_t length = 0; length < kNotify.size(); ++length) {
    EXPECT_EQ(NotifyBody::decode(kNotify.substr(0, length)).code(), Code::kProtocol) << length;
  }
  EXPECT_EQ(NotifyBody::decode(kNotify + "x").code(), Code::kProtocol);
  EXPECT_EQ(NotifyBody::decode(with(kNotify, 16, "\xff\xff\xff\xff"s)).code(), Code::kProtocol);
}

TEST(NotifyBody, TextsHaveALimit) {
  NotifyBody body;
  body.notification = {std::string(kMaxNotificationText, 'n'),
                       std::string(kMaxNotificationText, 'm')};
  EXPECT_TRUE(NotifyBody::decode(body.encode()).ok());
  body.notification.message += 'm';
  EXPECT_EQ(NotifyBody::decode(body.encode()).code(), Code::kProtocol);
  body.notification = {std::string(kMaxNotificationText + 1, 'n'), ""};
  EXPECT_EQ(NotifyBody::decode(body.encode()).code(), Code::kProtocol);
}

const std::string kExchangeBytes =
    "\x04\0\0\0rdma"    // transport
    "\x03\0\0\0x\0y"s;  // hello

TEST(ExchangeBody, BytesAreFixed) {
  EXPECT_EQ((ExchangeBody{"rdma", "x\0y"s}).encode(), kExchangeBytes);
  const Result<ExchangeBody> decoded = ExchangeBody::decode(kExchangeBytes);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->transport, "rdma");
  EXPECT_EQ(decoded->hello, "x\0y"s);
}

TEST(ExchangeBody, CutShortAnywhereIsRefused) {
  for (size_t length = 0; length < kExchangeBytes.size(); ++length) {
    EXPECT_EQ(ExchangeBody::decode(kExchangeBytes.substr(0, length)).code(), Code::kProtocol);
  }
  EXPECT_EQ(ExchangeBody::decode(kExchangeBytes + "x").code(), Code::kProtocol);
}

TEST(ExchangeBody, NameAndHelloHaveLimits) {
  ExchangeBody body{std::string(kMaxTransportName, 'n'), std::string(kMaxExchange, 'h')};
  EXPECT_TRUE(ExchangeBody::decode(body.encode()).ok());
  body.hello += 'h';
  EXPECT_EQ(ExchangeBody::decode(body.encode()).code(), Code::kProtocol);
  body = {std::string(kMaxTransportName + 1, 'n'), ""};
  EXPECT_EQ(ExchangeBody::decode(body.encode()).code(), Code::kProtocol);
  body = {"", "nobody"};
  EXPECT_EQ(ExchangeBody::decode(body.encode()).code(), Code::kProtocol);
}

}  // namespace
}  // namespace te::wire
