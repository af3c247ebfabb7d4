// Which buffer a target offset means.
#include <gtest/gtest.h>

#include "core/descriptor.h"

namespace te {
namespace {

constexpr uint64_t kBase = 0x7f0000000000;

// Offsets 0..100 and 100..150, with a hole up to 200, then 200..300, which peers may not touch.
Descriptor segment() {
  Descriptor descriptor;
  descriptor.locations = {"*"};
  descriptor.add({kBase + 5000, 0, 100, 0, Rights::kBoth}, {});
  descriptor.add({kBase + 1000, 100, 50, 0, Rights::kBoth}, {});
  descriptor.add({kBase + 9000, 200, 100, 0, Rights::kNone}, {});
  EXPECT_TRUE(descriptor.finish().ok());
  return descriptor;
}

void expect_error(const Descriptor& descriptor, uint64_t offset, uint64_t length, Code code,
                  std::string_view says) {
  uint64_t address = 0;
  const Result<size_t> found = descriptor.resolve({offset, length}, &address);
  ASSERT_FALSE(found.ok()) << offset << "+" << length;
  EXPECT_EQ(found.code(), code) << found.status().to_string();
  EXPECT_NE(found.status().message().find(says), std::string::npos) << found.status().message();
  EXPECT_EQ(address, 0u);
}

void expect_found(const Descriptor& descriptor, uint64_t offset, uint64_t length, size_t buffer,
                  uint64_t expected) {
  uint64_t address = 0;
  const Result<size_t> found = descriptor.resolve({offset, length}, &address);
  ASSERT_TRUE(found.ok()) << found.status().to_string();
  EXPECT_EQ(*found, buffer) << offset;
  EXPECT_EQ(address, expected) << offset;
}

TEST(Resolve, AnOffsetInTheSegment) {
  const Descriptor descriptor = segment();
  expect_found(descriptor, 0, 100, 0, kBase + 5000);
  expect_found(descriptor, 99, 1, 0, kBase + 5099);
  expect_found(descriptor, 100, 50, 1, kBase + 1000);
  expect_found(descriptor, 149, 1, 1, kBase + 1049);
  expect_found(descriptor, 149, 0, 1, kBase + 1049);
}

TEST(Resolve, AnAddressOfTheTarget) {
  const Descriptor descriptor = segment();
  expect_found(descriptor, kBase + 5000, 100, 0, kBase + 5000);
  expect_found(descriptor, kBase + 5099, 1, 0, kBase + 5099);
  expect_found(descriptor, kBase + 1020, 30, 1, kBase + 1020);
}

TEST(Resolve, OutsideEveryBuffer) {
  const Descriptor descriptor = segment();
  for (const uint64_t offset : {uint64_t{150}, uint64_t{199}, uint64_t{300}, uint64_t{1} << 40,
                                kBase + 999, kBase + 1050, kBase + 5100, UINT64_MAX}) {
    expect_error(descriptor, offset, offset == UINT64_MAX ? 0 : 1, Code::kOutOfRange,
                 "lies in no buffer of the segment, which has 3 buffers and ends at offset 0x12c");
  }
  expect_error(descriptor, 150, 0, Code::kOutOfRange, "lies in no buffer");
}

TEST(Resolve, LeavingItsBuffer) {
  const Descriptor descriptor = segment();
  expect_error(descriptor, 100, 51, Code::kOutOfRange,
               "leave the buffer of 50 bytes at offset 100");
  expect_error(descriptor, 149, 2, Code::kOutOfRange, "of which 1 bytes are left");
  expect_error(descriptor, kBase + 5000, 101, Code::kOutOfRange, "leave the buffer of 100 bytes");
  expect_error(descriptor, 100, UINT64_MAX - 150, Code::kOutOfRange, "shorten the request");
  expect_error(descriptor, 0, UINT64_MAX, Code::kOutOfRange, "cross the end");
}

TEST(Resolve, CrossingIntoTheNext) {
  expect_error(segment(), 0, 101, Code::kOutOfRange, "cross the end of the buffer of 100 bytes");
  expect_error(segment(), 99, 2, Code::kOutOfRange, "make two of it");
}

TEST(Resolve, WrappingAround) {
  const Descriptor descriptor = segment();
  expect_error(descriptor, 10, UINT64_MAX, Code::kOutOfRange, "wrap around 2^64");
  expect_error(descriptor, 10, UINT64_MAX - 9, Code::kOutOfRange, "wrap around 2^64");
  expect_error(descriptor, UINT64_MAX, 1, Code::kOutOfRange, "wrap around 2^64");
  expect_error(descriptor, kBase + 5000, UINT64_MAX - kBase, Code::kOutOfRange, "wrap around 2^64");
}

TEST(Resolve, NotForPeers) {
  expect_error(segment(), 200, 100, Code::kPermission, "without remote access");
  expect_error(segment(), kBase + 9000, 1, Code::kPermission, "without remote access");
  expect_error(segment(), 200, 101, Code::kOutOfRange, "leave the buffer");
}

TEST(Resolve, EachDirectionTakesItsRight) {
  Descriptor descriptor;
  descriptor.locations = {"*"};
  descriptor.add({kBase, 0, 100, 0, Rights::kRead}, {});
  descriptor.add({kBase + 1000, 100, 100, 0, Rights::kWrite}, {});
  ASSERT_TRUE(descriptor.finish().ok());
  uint64_t address = 0;
  EXPECT_EQ(*descriptor.resolve({50, 10, Rights::kRead}, &address), 0u);
  EXPECT_EQ(*descriptor.resolve({150, 10, Rights::kWrite}, &address), 1u);
  const Status write = descriptor.resolve({50, 10, Rights::kWrite}, &address).status();
  EXPECT_EQ(write.code(), Code::kPermission);
  EXPECT_NE(write.message().find("the target's buffer of 100 bytes at offset 0 (address "
                                 "0x7f0000000000) does not allow WRITE: it is offered to this "
                                 "engine for READ "
                                 "only"),
            std::string::npos)
      << write.message();
  const Status read = descriptor.resolve({150, 10, Rights::kRead}, &address).status();
  EXPECT_EQ(read.code(), Code::kPermission);
  EXPECT_NE(read.message().find("does not allow READ: it is offered to this engine for WRITE only"),
            std::string::npos)
      << read.message();
}

// A buffer whose addresses are as small as offsets, and numbers that were an address once.
Descriptor low_segment() {
  Descriptor descriptor;
  descriptor.locations = {"*"};
  descriptor.ambiguous = {{20, 30}, {50, 100}};
  descriptor.add({50, 0, 100, 0, Rights::kBoth}, {});
  EXPECT_TRUE(descriptor.finish().ok());
  return descriptor;
}

TEST(Resolve, ANumberWithTwoReadingsIsRefusedUnlessItsModeIsGiven) {
  const Descriptor descriptor = low_segment();
  expect_found(descriptor, 0, 50, 0, 50);
  expect_found(descriptor, 49, 1, 0, 99);
  for (const uint64_t number : {20, 29, 50, 99}) {
    expect_error(descriptor, number, 1, Code::kInvalidArgument,
                 "can be read as an offset in the segment and as the address");
    expect_error(descriptor, number, 1, Code::kInvalidArgument, "setAddressing");
  }
  expect_found(descriptor, 19, 10, 0, 69);
  expect_found(descriptor, 100, 50, 0, 100);
  expect_error(descriptor, 150, 1, Code::kOutOfRange, "lies in no buffer");
  uint64_t address = 0;
  for (const uint64_t number : {20, 50, 99}) {
    EXPECT_EQ(*descriptor.resolve({number, 1, Rights::kRead, Addressing::kOffset}, &address), 0u);
    EXPECT_EQ(address, number + 50);
  }
  for (const uint64_t number : {50, 99, 149}) {
    EXPECT_EQ(*descriptor.resolve({number, 1, Rights::kRead, Addressing::kAddress}, &address), 0u);
    EXPECT_EQ(address, number);
  }
}

TEST(Resolve, AGivenModeReadsANumberInNoOtherWay) {
  const Descriptor low = low_segment();
  uint64_t address = 0;
  const auto says = [&](const Descriptor& descriptor, uint64_t number, Addressing addressing,
                        std::string_view text) {
    const Status status =
        descriptor.resolve({number, 1, Rights::kRead, addressing}, &address).status();
    EXPECT_EQ(status.code(), Code::kOutOfRange);
    EXPECT_NE(status.message().find(text), std::string::npos) << status.message();
  };
  says(low, 20, Addressing::kAddress, "target address 0x14 lies in no buffer of the segment");
  says(low, 20, Addressing::kAddress, "set the addressing mode to offset");
  says(low, 120, Addressing::kOffset, "set the addressing mode to address");
  const Descriptor high = segment();
  says(high, kBase + 5000, Addressing::kOffset, "it is the address of a buffer");
  says(high, 0, Addressing::kAddress, "it is an offset in the segment");
}

// As a peer that contradicts itself may have it.
TEST(Resolve, ANumberInTwoBuffersIsRefused) {
  Descriptor descriptor;
  descriptor.locations = {"*"};
  descriptor.add({50, 0, 100, 0, Rights::kBoth}, {});
  ASSERT_TRUE(descriptor.finish().ok());
  expect_error(descriptor, 50, 1, Code::kInvalidArgument, "can be read as an offset");
}

TEST(Resolve, TheEdgesOfTheNumbers) {
  Descriptor descriptor;
  descriptor.locations = {"*"};
  descriptor.add({1, UINT64_MAX - 10, 10, 0, Rights::kBoth}, {});
  descriptor.add({UINT64_MAX - 10, 0, 10, 0, Rights::kBoth}, {});
  ASSERT_TRUE(descriptor.finish().ok());
  expect_error(descriptor, UINT64_MAX - 1, 1, Code::kInvalidArgument, "can be read as");
  expect_error(descriptor, UINT64_MAX, 0, Code::kOutOfRange, "lies in no buffer");
  expect_found(descriptor, 0, 10, 0, UINT64_MAX - 10);
  expect_found(descriptor, 10, 1, 1, 10);
}

}  // namespace
}  // namespace te
