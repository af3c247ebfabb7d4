#include "transport/rdma/message.h"

#include <gtest/gtest.h>

namespace te::rdma {
namespace {

Address some_address() {
  Address address;
  for (size_t i = 0; i < address.gid.size(); ++i) address.gid[i] = static_cast<uint8_t>(i + 1);
  address.lid = 0x1234;
  address.queue_pair = 0xABCDEF;
  address.first_number = 0x123456;
  address.mtu = 5;
  address.reads = 16;
  address.infiniband = true;
  return address;
}

void expect_same(const Address& a, const Address& b) {
  EXPECT_EQ(a.gid, b.gid);
  EXPECT_EQ(a.lid, b.lid);
  EXPECT_EQ(a.queue_pair, b.queue_pair);
  EXPECT_EQ(a.first_number, b.first_number);
  EXPECT_EQ(a.mtu, b.mtu);
  EXPECT_EQ(a.reads, b.reads);
  EXPECT_EQ(a.infiniband, b.infiniband);
}

template <typename Decode>
void expect_whole(const Bytes& good, Decode&& decode) {
  EXPECT_TRUE(decode(good).ok());
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_EQ(decode(good.substr(0, length)).code(), Code::kProtocol) << length;
  }
  EXPECT_EQ(decode(good + '\0').code(), Code::kProtocol);
}

TEST(RdmaOffer, TellsTheKindOfEachNic) {
  rails::Advertisement offer;
  for (const bool infiniband : {false, true}) {
    offer.nics.push_back({"mlx5_0", 0, NicAddress{infiniband}.encode()});
  }
  EXPECT_EQ(offer.nics[1].address, "\x01");
  const Result<std::vector<NicAddress>> got = decode_addresses(offer);
  ASSERT_TRUE(got.ok());
  ASSERT_EQ(got->size(), 2u);
  EXPECT_FALSE((*got)[0].infiniband);
  EXPECT_TRUE((*got)[1].infiniband);
  for (const Bytes& bad : {Bytes(), Bytes("\2"), Bytes("\1\1")}) {
    offer.nics[1].address = bad;
    EXPECT_EQ(decode_addresses(offer).code(), Code::kProtocol);
  }
  offer.nics[1].address = "\1";
  offer.driver = "x";
  EXPECT_EQ(decode_addresses(offer).code(), Code::kProtocol);
}

TEST(RdmaHello, ConnectSurvivesTheWay) {
  Connect connect;
  connect.id = 0x0123456789ABCDEF;
  connect.nic = 7;
  connect.from = some_address();
  const Bytes bytes = encode(Hello(connect));
  const Result<Hello> got = decode_hello(as_bytes(bytes));
  ASSERT_TRUE(got.ok());
  ASSERT_TRUE(std::holds_alternative<Connect>(*got));
  EXPECT_EQ(std::get<Connect>(*got).id, connect.id);
  EXPECT_EQ(std::get<Connect>(*got).nic, 7u);
  expect_same(std::get<Connect>(*got).from, connect.from);
  expect_whole(bytes, [](const Bytes& part) { return decode_hello(as_bytes(part)); });
}

TEST(RdmaHello, DisconnectSurvivesTheWay) {
  const Bytes bytes = encode(Hello(Disconnect{{1, UINT64_MAX, 3}}));
  const Result<Hello> got = decode_hello(as_bytes(bytes));
  ASSERT_TRUE(got.ok());
  ASSERT_TRUE(std::holds_alternative<Disconnect>(*got));
  EXPECT_EQ(std::get<Disconnect>(*got).ids, (std::vector<uint64_t>{1, UINT64_MAX, 3}));
  expect_whole(bytes, [](const Bytes& part) { return decode_hello(as_bytes(part)); });
  const Disconnect many{std::vector<uint64_t>(Disconnect::kMaxIds + 1)};
  EXPECT_EQ(decode_hello(as_bytes(encode(Hello(many)))).code(), Code::kProtocol);
}

TEST(RdmaHello, TheBytesAreThoseOfTheDocument) {
  Connect connect;
  connect.id = 0x1122334455667788;
  connect.nic = 2;
  connect.from = some_address();
  EXPECT_EQ(encode(Hello(connect)),
            Bytes("\x04\0\0\0"
                  "\x01"
                  "\x02\0\0\0"
                  "\x88\x77\x66\x55\x44\x33\x22\x11"
                  "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F\x10"
                  "\x34\x12"
                  "\xEF\xCD\xAB\0"
                  "\x56\x34\x12\0"
                  "\x05\x10\x01",
                  46));
  EXPECT_EQ(encode(Hello(Disconnect{{5}})), Bytes("\x04\0\0\0"
                                                  "\x02"
                                                  "\0\0\0\0"
                                                  "\0\0\0\0\0\0\0\0"
                                                  "\x01\0\0\0"
                                                  "\x05\0\0\0\0\0\0\0",
                                                  29));
}

TEST(RdmaHello, RefusesNumbersThatNoNicHas) {
  const auto decodes = [](const Address& address) {
    return decode_answer(as_bytes(encode_answer(address))).ok();
  };
  EXPECT_TRUE(decodes(some_address()));
  Address address = some_address();
  address.mtu = 0;
  EXPECT_FALSE(decodes(address));
  address.mtu = 6;
  EXPECT_FALSE(decodes(address));
  address = some_address();
  address.queue_pair = 1 << 24;
  EXPECT_FALSE(decodes(address));
  address = some_address();
  address.first_number = 1 << 24;
  EXPECT_FALSE(decodes(address));
  Bytes other_version = encode_answer(some_address());
  other_version[0] = 3;
  EXPECT_FALSE(decode_answer(as_bytes(other_version)).ok());
  expect_whole(encode_answer(some_address()),
               [](const Bytes& part) { return decode_answer(as_bytes(part)); });
}

}  // namespace
}  // namespace te::rdma
