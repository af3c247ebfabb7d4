#include "transport/rails/key.h"

#include <gtest/gtest.h>

namespace te::rails {
namespace {

// Two NICs, three pieces of 100 bytes from address 1000 on; known to the second NIC alone.
Key three_pieces() {
  Key key;
  key.base = 1000;
  key.piece_bytes = 100;
  key.nics = 0b10;
  key.near = 0b01;
  key.keys = {0, 0, 0, 11, 12, uint64_t{13} << 40};
  return key;
}

const std::byte* at(const Bytes& key) { return as_bytes(key).data(); }

TEST(Key, SurvivesTheWay) {
  const Bytes key = three_pieces().encode();
  ASSERT_EQ(key.size(), Key::size(2, 3));
  EXPECT_EQ(Key::nics_of(at(key)), 0b10u);
  EXPECT_EQ(Key::near_of(at(key)), 0b01u);
}

TEST(Key, CutsAtTheEndOfAPiece) {
  const Bytes key = three_pieces().encode();
  Key::Place place;
  ASSERT_TRUE(Key::find(at(key), 1, 3, 1000, 80, &place));
  EXPECT_EQ(place.key, 11u);
  EXPECT_EQ(place.length, 80u);
  EXPECT_EQ(place.offset, 0u);
  ASSERT_TRUE(Key::find(at(key), 1, 3, 1150, 200, &place));
  EXPECT_EQ(place.key, 12u);
  EXPECT_EQ(place.length, 50u);
  EXPECT_EQ(place.offset, 50u);
  ASSERT_TRUE(Key::find(at(key), 1, 3, 1299, 30, &place));
  EXPECT_EQ(place.key, uint64_t{13} << 40);
  EXPECT_EQ(place.length, 1u);
}

TEST(Key, CoversNothingElse) {
  Key key = three_pieces();
  Key::Place place;
  const Bytes good = key.encode();
  EXPECT_FALSE(Key::find(at(good), 1, 3, 999, 1, &place)) << "before it";
  EXPECT_FALSE(Key::find(at(good), 1, 3, 1300, 1, &place)) << "behind it";
  EXPECT_FALSE(Key::find(at(good), 0, 3, 1000, 1, &place)) << "not that NIC";
  EXPECT_FALSE(Key::find(at(good), 1, 3, UINT64_MAX, 1, &place));
  key.piece_bytes = 0;
  const Bytes none = key.encode();
  EXPECT_FALSE(Key::find(at(none), 1, 3, 1000, 1, &place));
  const Bytes zeros(Key::size(2, 3), '\0');
  EXPECT_FALSE(Key::find(at(zeros), 1, 3, 0, 1, &place));
}

TEST(Key, FitsIntoADescriptorWithAnyNumberOfNics) {
  EXPECT_EQ(Key::most_pieces(1), Key::kMaxPieces);
  for (uint32_t nics = 1; nics <= Key::kMaxNics; ++nics) {
    ASSERT_GE(Key::most_pieces(nics), 1u);
    EXPECT_LE(Key::size(nics, Key::most_pieces(nics)), 1024u) << nics;
  }
}

}  // namespace
}  // namespace te::rails
