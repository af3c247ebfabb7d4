#include "transport/fabric/message.h"

#include <gtest/gtest.h>

namespace te::fabric {
namespace {

Advertisement offer_of(size_t nics, uint32_t pieces, bool virtual_addresses) {
  Advertisement advertisement;
  advertisement.provider = "tcp;ofi_rxm";
  advertisement.protocol = 11;
  advertisement.address_format = 2;
  advertisement.virtual_addresses = virtual_addresses;
  advertisement.pieces = pieces;
  for (size_t i = 0; i < nics; ++i) {
    advertisement.nics.push_back(
        {"NIC" + std::to_string(i), "name" + std::to_string(i), 100 + i, 7 * i});
  }
  return advertisement;
}

TEST(FabricOffer, SurvivesTheWay) {
  const Advertisement sent = offer_of(3, 4, true);
  const Bytes bytes = sent.encode();
  const Result<Advertisement> got = Advertisement::decode(as_bytes(bytes));
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->encode(), bytes);
  EXPECT_EQ(got->provider, "tcp;ofi_rxm");
  EXPECT_TRUE(got->virtual_addresses);
  ASSERT_EQ(got->nics.size(), 3u);
  EXPECT_EQ(got->nics[2].address, "name2");
  EXPECT_EQ(got->nics[2].liveness_address, 102u);
  EXPECT_EQ(got->nics[2].liveness_key, 14u);
}

TEST(FabricOffer, RefusesWhatIsCutOffOrTooMuch) {
  const Bytes good = offer_of(2, 1, false).encode();
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_EQ(Advertisement::decode(as_bytes(good.substr(0, length))).code(), Code::kProtocol)
        << length;
  }
  EXPECT_EQ(Advertisement::decode(as_bytes(good + "x")).code(), Code::kProtocol);
  const auto refused = [](const Advertisement& advertisement) {
    return Advertisement::decode(as_bytes(advertisement.encode())).code() == Code::kProtocol;
  };
  EXPECT_TRUE(refused(offer_of(0, 1, false)));
  EXPECT_TRUE(refused(offer_of(Advertisement::kMaxNics + 1, 1, false)));
  EXPECT_TRUE(refused(offer_of(1, 0, false)));
  EXPECT_TRUE(refused(offer_of(1, Advertisement::kMaxPieces + 1, false)));
  Advertisement endless = offer_of(1, 1, false);
  endless.nics[0].address.assign(Advertisement::kMaxName + 1, 'n');
  EXPECT_TRUE(refused(endless));
  EXPECT_FALSE(refused(offer_of(Advertisement::kMaxNics, Advertisement::kMaxPieces, true)));
}

TEST(FabricHello, SurvivesTheWayAndRefusesWhatIsNoHello) {
  const Hello sent{Hello::Type::kRetire, 3, 0x1122334455667788, 9};
  const Bytes bytes = sent.encode();
  const Result<Hello> got = Hello::decode(as_bytes(bytes));
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->encode(), bytes);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(Hello::decode(as_bytes(bytes.substr(0, length))).code(), Code::kProtocol) << length;
  }
  EXPECT_EQ(Hello::decode(as_bytes(bytes + "x")).code(), Code::kProtocol);
  for (const char type : {'\0', '\4'}) {
    Bytes other = bytes;
    other[4] = type;
    EXPECT_EQ(Hello::decode(as_bytes(other)).code(), Code::kProtocol);
  }
}

TEST(FabricHello, CarriesRanges) {
  Hello hello{Hello::Type::kTouch, 1, 2, 3, {}};
  hello.ranges = {{1000, 20, 7, false}, {5000, 4096, 8, true}};
  const Bytes bytes = hello.encode();
  const Result<Hello> got = Hello::decode(as_bytes(bytes));
  ASSERT_TRUE(got.ok());
  ASSERT_EQ(got->ranges.size(), 2u);
  EXPECT_EQ(got->ranges[1].address, 5000u);
  EXPECT_TRUE(got->ranges[1].write);
  EXPECT_EQ(got->encode(), bytes);
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(Hello::decode(as_bytes(bytes.substr(0, length))).code(), Code::kProtocol) << length;
  }
  Bytes other = bytes;
  other.back() = 2;
  EXPECT_EQ(Hello::decode(as_bytes(other)).code(), Code::kProtocol);
  hello.ranges.resize(Hello::kMaxRanges + 1);
  EXPECT_EQ(Hello::decode(as_bytes(hello.encode())).code(), Code::kProtocol);
}

}  // namespace
}  // namespace te::fabric
