#include "transport/rails/advertisement.h"

#include <gtest/gtest.h>

#include "transport/rails/hello.h"
#include "transport/rails/peer_rails.h"

namespace te::rails {
namespace {

Advertisement offer_of(size_t nics, uint32_t pieces) {
  Advertisement offer;
  offer.pieces = pieces;
  offer.driver = "verbs";
  for (size_t i = 0; i < nics; ++i) {
    offer.nics.push_back({"mlx5_" + std::to_string(i), 1'000 + i, "at" + std::to_string(i)});
  }
  return offer;
}

Code decoded(const Bytes& bytes) { return Advertisement::decode(as_bytes(bytes)).code(); }
Code decoded(const Advertisement& offer) { return decoded(offer.encode()); }

TEST(RailsAdvertisement, SurvivesTheWay) {
  const Bytes bytes = offer_of(3, 4).encode();
  const Result<Advertisement> got = Advertisement::decode(as_bytes(bytes));
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->encode(), bytes);
  EXPECT_EQ(got->pieces, 4u);
  EXPECT_EQ(got->driver, "verbs");
  ASSERT_EQ(got->nics.size(), 3u);
  EXPECT_EQ(got->nics[2].device, "mlx5_2");
  EXPECT_EQ(got->nics[2].bytes_per_s, 1'002u);
  EXPECT_EQ(got->nics[2].address, "at2");
  EXPECT_EQ(got->key_size(), Key::size(3, 4));
}

TEST(RailsAdvertisement, TheBytesAreThoseOfTheDocument) {
  EXPECT_EQ(offer_of(1, 2).encode(), Bytes("\x04\0\0\0"
                                           "\x02\0\0\0"
                                           "\x05\0\0\0verbs"
                                           "\x01\0\0\0"
                                           "\x06\0\0\0mlx5_0"
                                           "\xE8\x03\0\0\0\0\0\0"
                                           "\x03\0\0\0at0",
                                           46));
}

TEST(RailsAdvertisement, RefusesWhatIsCutOffOrTooMuch) {
  const Bytes good = offer_of(2, 1).encode();
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_EQ(decoded(good.substr(0, length)), Code::kProtocol) << length;
  }
  EXPECT_EQ(decoded(good + '\0'), Code::kProtocol);
  EXPECT_EQ(decoded(offer_of(Advertisement::kMaxNics, Key::kMaxPieces)), Code::kOk);
  EXPECT_EQ(decoded(offer_of(Advertisement::kMaxNics + 1, 1)), Code::kProtocol);
  EXPECT_EQ(decoded(offer_of(0, 1)), Code::kProtocol);
  EXPECT_EQ(decoded(offer_of(1, Key::kMaxPieces + 1)), Code::kProtocol);
  EXPECT_EQ(decoded(offer_of(1, 0)), Code::kProtocol);
  Bytes other_version = good;
  other_version[0] = 3;
  EXPECT_EQ(decoded(other_version), Code::kProtocol);
}

TEST(RailsAdvertisement, LimitsItsTexts) {
  const auto with = [](size_t driver, size_t device, size_t address) {
    Advertisement offer;
    offer.driver.assign(driver, 'd');
    offer.nics.push_back({std::string(device, 'n'), 0, Bytes(address, 'a')});
    return decoded(offer);
  };
  constexpr size_t kName = Advertisement::kMaxName, kDriver = Advertisement::kMaxDriverBytes;
  EXPECT_EQ(with(kDriver, kName, kDriver), Code::kOk);
  EXPECT_EQ(with(kDriver + 1, 1, 1), Code::kProtocol);
  EXPECT_EQ(with(1, kName + 1, 1), Code::kProtocol);
  EXPECT_EQ(with(1, 1, kDriver + 1), Code::kProtocol);
}

TEST(RailsHello, SurvivesTheWayAndRefusesWhatIsNoHello) {
  const Hello sent{3, 7, 0x1122334455667788, "rest"};
  const Bytes bytes = sent.encode();
  EXPECT_EQ(bytes, Bytes("\x04\0\0\0"
                         "\x03"
                         "\x07\0\0\0"
                         "\x88\x77\x66\x55\x44\x33\x22\x11"
                         "rest",
                         21));
  const Result<Hello> got = Hello::decode(as_bytes(bytes));
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->type, 3u);
  EXPECT_EQ(got->nic, 7u);
  EXPECT_EQ(got->id, 0x1122334455667788u);
  EXPECT_EQ(got->driver, "rest");
  for (size_t length = 0; length < 17; ++length) {
    EXPECT_EQ(Hello::decode(as_bytes(bytes.substr(0, length))).code(), Code::kProtocol) << length;
  }
  Bytes other_version = bytes;
  other_version[0] = 3;
  EXPECT_EQ(Hello::decode(as_bytes(other_version)).code(), Code::kProtocol);
}

TEST(RailsSpeed, IsThatOfTheSlowerEnd) {
  EXPECT_EQ(slower(100, 400), 100u);
  EXPECT_EQ(slower(400, 100), 100u);
  EXPECT_EQ(slower(0, 400), 400u) << "one end does not know its own";
  EXPECT_EQ(slower(400, 0), 400u);
  EXPECT_EQ(slower(0, 0), 0u);
}

}  // namespace
}  // namespace te::rails
