#include "transport/fabric/message.h"

#include <gtest/gtest.h>

namespace te::fabric {
namespace {

ProviderInfo some_provider() { return {"tcp;ofi_rxm", 11, 2, true}; }
NicAddress some_address() { return {"name", 0x100, 7}; }

template <typename T>
void expect_whole(const Bytes& good) {
  EXPECT_TRUE(T::decode(as_bytes(good)).ok());
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_EQ(T::decode(as_bytes(good.substr(0, length))).code(), Code::kProtocol) << length;
  }
  EXPECT_EQ(T::decode(as_bytes(good + 'x')).code(), Code::kProtocol);
}

TEST(FabricOffer, TheBytesAreThoseOfTheDocument) {
  EXPECT_EQ(some_provider().encode(), Bytes("\x0B\0\0\0tcp;ofi_rxm\x0B\0\0\0\x02\0\0\0\x01", 24));
  EXPECT_EQ(some_address().encode(),
            Bytes("\x04\0\0\0name\0\x01\0\0\0\0\0\0\x07\0\0\0\0\0\0\0", 24));
  expect_whole<ProviderInfo>(some_provider().encode());
  expect_whole<NicAddress>(some_address().encode());
}

TEST(FabricOffer, SurvivesTheWay) {
  rails::Advertisement offer;
  offer.driver = some_provider().encode();
  offer.nics = {{"lo", 0, NicAddress().encode()}, {"eth0", 0, some_address().encode()}};
  const Result<Advertised> got = Advertised::decode(offer);
  ASSERT_TRUE(got.ok());
  EXPECT_TRUE(got->provider.talks_to(some_provider()));
  EXPECT_TRUE(got->provider.virtual_addresses);
  ASSERT_EQ(got->nics.size(), 2u);
  EXPECT_EQ(got->nics[1].name, "name");
  EXPECT_EQ(got->nics[1].liveness_address, 0x100u);
  EXPECT_EQ(got->nics[1].liveness_key, 7u);
  offer.nics[1].address.pop_back();
  EXPECT_EQ(Advertised::decode(offer).code(), Code::kProtocol);
}

TEST(FabricOffer, RefusesWhatIsTooMuch) {
  NicAddress endless = some_address();
  endless.name.assign(NicAddress::kMaxName + 1, 'n');
  EXPECT_EQ(NicAddress::decode(as_bytes(endless.encode())).code(), Code::kProtocol);
  ProviderInfo provider = some_provider();
  provider.name.assign(rails::Advertisement::kMaxName + 1, 'n');
  EXPECT_EQ(ProviderInfo::decode(as_bytes(provider.encode())).code(), Code::kProtocol);
  Bytes other = some_provider().encode();
  other.back() = 2;
  EXPECT_EQ(ProviderInfo::decode(as_bytes(other)).code(), Code::kProtocol);
}

TEST(FabricOffer, TalksToTheSameProviderOnly) {
  ProviderInfo other = some_provider();
  other.virtual_addresses = false;
  EXPECT_TRUE(other.talks_to(some_provider()));
  other.protocol = 12;
  EXPECT_FALSE(other.talks_to(some_provider()));
  other = some_provider();
  other.address_format = 3;
  EXPECT_FALSE(other.talks_to(some_provider()));
  other = some_provider();
  other.name = "tcp";
  EXPECT_FALSE(other.talks_to(some_provider()));
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
