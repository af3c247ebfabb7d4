#include "transport/rdma/gid.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

namespace te::rdma {
namespace {

GidEntry entry(uint32_t index, GidType type, const char* address) {
  GidEntry result;
  result.index = index;
  result.type = type;
  EXPECT_EQ(::inet_pton(AF_INET6, address, result.gid.data()), 1) << address;
  return result;
}

TEST(Gid, TheRoutableOneIsChosen) {
  // As a RoCE port lists them.
  const std::vector<GidEntry> port = {
      entry(0, GidType::kRoceV1, "fe80::1"), entry(1, GidType::kRoceV2, "fe80::1"),
      entry(2, GidType::kRoceV1, "::ffff:10.0.0.1"), entry(3, GidType::kRoceV2, "::ffff:10.0.0.1"),
      entry(4, GidType::kRoceV2, "2001:db8::1")};
  EXPECT_EQ(choose_gid(port)->index, 3u);
  EXPECT_EQ(choose_gid({port[0], port[1], port[2], port[4]})->index, 4u);
  EXPECT_EQ(choose_gid({port[0], port[1], port[2]})->index, 1u);
  EXPECT_EQ(choose_gid({port[0], port[2]})->index, 0u);
}

TEST(Gid, TheFirstOfEqualsIsChosen) {
  EXPECT_EQ(choose_gid({entry(5, GidType::kRoceV2, "::ffff:10.0.0.1"),
                        entry(7, GidType::kRoceV2, "::ffff:10.0.0.2")})
                ->index,
            5u);
}

TEST(Gid, AnIpv4AddressThatNoRouterPassesOnIsLinkLocal) {
  EXPECT_EQ(kind_of(entry(0, GidType::kRoceV2, "::ffff:169.254.3.4")), GidKind::kLinkLocal);
  EXPECT_EQ(kind_of(entry(0, GidType::kRoceV2, "::ffff:170.254.3.4")), GidKind::kRoutableIpv4);
  EXPECT_EQ(kind_of(entry(0, GidType::kRoceV2, "febf::1")), GidKind::kLinkLocal);
  EXPECT_EQ(kind_of(entry(0, GidType::kRoceV2, "fec0::1")), GidKind::kRoutable);
}

TEST(Gid, InfiniBandHasItsOwn) {
  EXPECT_EQ(choose_gid({entry(0, GidType::kInfiniBand, "fe80::2:c903:1")})->index, 0u);
}

TEST(Gid, EmptyOnesAreNotUsable) {
  EXPECT_EQ(choose_gid({}), nullptr);
  EXPECT_EQ(choose_gid({entry(0, GidType::kRoceV2, "::"), entry(1, GidType::kRoceV1, "::")}),
            nullptr);
}

TEST(Gid, IsShownAsAnAddress) {
  EXPECT_EQ(gid_text(entry(0, GidType::kRoceV2, "::ffff:10.77.0.1").gid), "10.77.0.1");
  EXPECT_EQ(gid_text(entry(0, GidType::kRoceV2, "fe80::1").gid), "fe80::1");
}

}  // namespace
}  // namespace te::rdma
