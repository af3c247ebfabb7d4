#include "core/descriptor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace te {
namespace {

using namespace std::string_literals;

constexpr auto kUnknownKind = static_cast<MemoryKind>(200);  // of a newer peer

// Two transports, two buffers given in the wrong order; "shm" does not reach the second.
Descriptor small() {
  Descriptor descriptor;
  descriptor.instance = 0x1122334455667788;
  descriptor.generation = 9;
  descriptor.transports = {{"tcp", 3, "i"}, {"shm", 1, ""}};
  descriptor.locations = {"cpu:0", "*"};
  descriptor.ambiguous = {{0x08, 0x0c}};
  descriptor.add({0x2000, 0x10, 0x20, 1, Rights::kWrite}, {"abc", ""});
  descriptor.add({0x1000, 0x00, 0x10, 0, Rights::kBoth, kUnknownKind}, {"xyz", "s"});
  EXPECT_TRUE(descriptor.finish().ok());
  return descriptor;
}

const std::string kSmall =
    "\x88\x77\x66\x55\x44\x33\x22\x11"      // instance
    "\x09\0\0\0\0\0\0\0"                    // generation
    "\x02\0\0\0"                            // transports
    "\x03\0\0\0tcp\x03\0\0\0\x01\0\0\0i"    // name, key size, info
    "\x03\0\0\0shm\x01\0\0\0\0\0\0\0"       //
    "\x02\0\0\0"                            // locations
    "\x05\0\0\0cpu:0\x01\0\0\0*"            //
    "\x01\0\0\0\x08\0\0\0\0\0\0\0"          // ambiguous numbers: count, begin
    "\x0c\0\0\0\0\0\0\0"                    // end
    "\x02\0\0\0\0\0\0\0"                    // buffers
    "\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0"    // address, offset
    "\x10\0\0\0\0\0\0\0\0\0\0\0\x03\xc8"    // length, location, what peers may do, kind
    "\x01xyz\x01s"                          // a key for each transport
    "\0\x20\0\0\0\0\0\0\x10\0\0\0\0\0\0\0"  //
    "\x20\0\0\0\0\0\0\0\x01\0\0\0\x02\0"    //
    "\x01"                                  // absent for the second
    "abc\0\0"s;

std::string_view key_text(const Descriptor& descriptor, size_t buffer, size_t transport) {
  const std::byte* key = descriptor.key(buffer, transport);
  if (key == nullptr) return "absent";
  return {reinterpret_cast<const char*>(key), descriptor.transports[transport].key_size};
}

TEST(Descriptor, BytesAreFixed) { EXPECT_EQ(small().encode(), kSmall); }

TEST(Descriptor, RoundTrip) {
  const Result<Descriptor> decoded = Descriptor::decode(kSmall);
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
  EXPECT_EQ(decoded->instance, 0x1122334455667788u);
  EXPECT_EQ(decoded->generation, 9u);
  ASSERT_EQ(decoded->transports.size(), 2u);
  EXPECT_EQ(decoded->transports[0].name, "tcp");
  EXPECT_EQ(decoded->transports[0].key_size, 3u);
  EXPECT_EQ(decoded->transports[0].info, "i");
  EXPECT_EQ(decoded->transport_index("tcp"), 0);
  EXPECT_EQ(decoded->transport_index("shm"), 1);
  EXPECT_EQ(decoded->transport_index("rdma"), -1);
  EXPECT_EQ(decoded->locations, (std::vector<std::string>{"cpu:0", "*"}));
  ASSERT_EQ(decoded->ambiguous.size(), 1u);
  EXPECT_EQ(decoded->ambiguous[0].begin, 8u);
  EXPECT_EQ(decoded->ambiguous[0].end, 12u);
  ASSERT_EQ(decoded->size(), 2u);
  EXPECT_EQ(decoded->buffer(0).address, 0x1000u);
  EXPECT_EQ(decoded->buffer(0).length, 0x10u);
  EXPECT_EQ(decoded->buffer(0).rights, Rights::kBoth);
  EXPECT_EQ(decoded->buffer(0).kind, kUnknownKind) << "it is kept";
  EXPECT_EQ(decoded->buffer(1).kind, MemoryKind::kHost);
  EXPECT_EQ(decoded->buffer(1).address, 0x2000u);
  EXPECT_EQ(decoded->buffer(1).offset, 0x10u);
  EXPECT_EQ(decoded->buffer(1).location, 1u);
  EXPECT_EQ(decoded->buffer(1).rights, Rights::kWrite);
  EXPECT_EQ(key_text(*decoded, 0, 0), "xyz");
  EXPECT_EQ(key_text(*decoded, 0, 1), "s");
  EXPECT_EQ(key_text(*decoded, 1, 0), "abc");
  EXPECT_EQ(key_text(*decoded, 1, 1), "absent");
  EXPECT_EQ(decoded->encode(), kSmall);
}

TEST(Descriptor, BuffersOfTheEngineAreNotPartOfTheLayout) {
  Descriptor descriptor;
  descriptor.locations = {"*"};
  descriptor.add({0x9000, Descriptor::kOwnOffsets + 0x9000, 16, 0}, {});
  descriptor.add({0x1000, 0, 16, 0}, {});
  ASSERT_TRUE(descriptor.finish().ok());
  EXPECT_EQ(descriptor.size(), 2u);
  EXPECT_EQ(descriptor.laid_out(), 1u);
  uint64_t address = 0;
  EXPECT_EQ(*descriptor.resolve({0x9008, 8, Rights::kRead, Addressing::kAddress}, &address), 1u);
  const Status outside = descriptor.resolve({0x20, 8}, &address).status();
  EXPECT_NE(outside.message().find("has 1 buffers and ends at offset 0x10"), std::string::npos)
      << outside.message();
}

TEST(Descriptor, NothingToOffer) {
  Descriptor empty;
  ASSERT_TRUE(empty.finish().ok());
  const Result<Descriptor> decoded = Descriptor::decode(empty.encode());
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
  EXPECT_EQ(decoded->size(), 0u);
  uint64_t address = 0;
  EXPECT_EQ(decoded->resolve({0, 0}, &address).code(), Code::kOutOfRange);

  Descriptor without_transports;
  without_transports.locations = {"*"};
  without_transports.add({0x1000, 0, 16, 0, Rights::kBoth}, {});
  ASSERT_TRUE(without_transports.finish().ok());
  const Result<Descriptor> again = Descriptor::decode(without_transports.encode());
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  EXPECT_EQ(again->size(), 1u);
}

TEST(Descriptor, CutShortAnywhereIsRefused) {
  for (size_t length = 0; length < kSmall.size(); ++length) {
    const Result<Descriptor> decoded = Descriptor::decode(kSmall.substr(0, length));
    ASSERT_FALSE(decoded.ok()) << length;
    EXPECT_EQ(decoded.code(), Code::kProtocol) << length;
  }
  EXPECT_FALSE(Descriptor::decode(kSmall + '\0').ok());
}

TEST(Descriptor, NoByteCanBeForgedIntoACrash) {
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = kSmall;
    for (uint32_t k = 1 + random() % 3; k > 0; --k) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const Result<Descriptor> decoded = Descriptor::decode(bytes);
    if (!decoded.ok()) {
      EXPECT_EQ(decoded.code(), Code::kProtocol);
      continue;
    }
    for (size_t buffer = 0; buffer < decoded->size(); ++buffer) {
      for (size_t t = 0; t < decoded->transports.size(); ++t) key_text(*decoded, buffer, t);
      EXPECT_LT(decoded->buffer(buffer).location, decoded->locations.size());
    }
  }
}

std::string with(size_t at, std::string_view bytes) {
  std::string result = kSmall;
  result.replace(at, bytes.size(), bytes);
  return result;
}

// Where the counts and sizes of kSmall are.
constexpr size_t kTransports = 16, kNameSize = 20, kKeySize = 27, kInfoSize = 31, kLocations = 51,
                 kLocationSize = 55, kAmbiguous = 69, kBuffers = 89;

TEST(Descriptor, HostileCountsAreNotBelieved) {
  ASSERT_EQ(kSmall.substr(kBuffers, 8), std::string("\x02\0\0\0\0\0\0\0", 8));
  for (const size_t at :
       {kTransports, kNameSize, kKeySize, kInfoSize, kLocations, kLocationSize, kAmbiguous}) {
    for (const char* value : {"\xff\xff\xff\xff", "\xff\xff\xff\x7f", "\x00\x00\x01\x00"}) {
      const Result<Descriptor> decoded = Descriptor::decode(with(at, {value, 4}));
      ASSERT_FALSE(decoded.ok()) << at;
      EXPECT_EQ(decoded.code(), Code::kProtocol);
    }
  }
  for (const uint64_t count : {uint64_t{0}, uint64_t{1}, uint64_t{3}, uint64_t{4'000'000},
                               uint64_t{4'000'001}, uint64_t{1} << 32, UINT64_MAX, UINT64_MAX / 35,
                               UINT64_MAX / 35 + 1, uint64_t{2} + (uint64_t{1} << 63)}) {
    const std::string_view bytes(reinterpret_cast<const char*>(&count), sizeof count);
    EXPECT_EQ(Descriptor::decode(with(kBuffers, bytes)).code(), Code::kProtocol) << count;
  }
}

TEST(Descriptor, AmbiguousNumbersAscendAndAreApart) {
  const auto decoded = [](std::vector<NumberRange> ranges) {
    Descriptor descriptor;
    descriptor.ambiguous = std::move(ranges);
    return Descriptor::decode(descriptor.encode()).code();
  };
  EXPECT_EQ(decoded({{0, 1}, {2, 3}, {UINT64_MAX - 1, UINT64_MAX}}), Code::kOk);
  EXPECT_EQ(decoded({{0, 0}}), Code::kProtocol);
  EXPECT_EQ(decoded({{2, 1}}), Code::kProtocol);
  EXPECT_EQ(decoded({{0, 2}, {2, 3}}), Code::kProtocol);
  EXPECT_EQ(decoded({{4, 5}, {2, 3}}), Code::kProtocol);
  std::vector<NumberRange> many;
  for (uint64_t i = 0; i < Ambiguity::kMaxRanges; ++i) many.push_back({3 * i, 3 * i + 1});
  EXPECT_EQ(decoded(many), Code::kOk);
  many.push_back({1000, 1001});
  EXPECT_EQ(decoded(many), Code::kProtocol);
}

TEST(Descriptor, TheLimitsHold) {
  const auto refused = [](const Descriptor& descriptor) {
    return Descriptor::decode(descriptor.encode()).code() == Code::kProtocol;
  };
  Descriptor descriptor;
  descriptor.transports.assign(Descriptor::kMaxTransports, {"t", Descriptor::kMaxKeySize, ""});
  EXPECT_FALSE(refused(descriptor));
  descriptor.transports.push_back({"t", 1, ""});
  EXPECT_TRUE(refused(descriptor));
  descriptor.transports.assign(1, {"t", Descriptor::kMaxKeySize + 1, ""});
  EXPECT_TRUE(refused(descriptor));
  descriptor.transports.assign(1, {std::string(64, 'n'), 1, std::string(1 << 20, 'i')});
  EXPECT_FALSE(refused(descriptor));
  descriptor.transports[0].name += 'n';
  EXPECT_TRUE(refused(descriptor));
  descriptor.transports.clear();
  descriptor.locations.assign(65'536, std::string(64, 'l'));
  EXPECT_FALSE(refused(descriptor));
  descriptor.locations.emplace_back();
  EXPECT_TRUE(refused(descriptor));
}

struct TwoBuffers {
  const char* what;
  RemoteBuffer first, second;
};

TEST(Descriptor, ContradictionsAreRefused) {
  const TwoBuffers cases[] = {
      {"no bytes", {0x1000, 0, 0x10, 0, Rights::kBoth}, {0x2000, 0x10, 0, 0, Rights::kBoth}},
      {"the same offset", {0x1000, 0, 0x10, 0, Rights::kBoth}, {0x2000, 0, 0x10, 0, Rights::kBoth}},
      {"overlapping offsets",
       {0x1000, 0, 0x10, 0, Rights::kBoth},
       {0x2000, 0x0f, 0x10, 0, Rights::kBoth}},
      {"the same address",
       {0x1000, 0, 0x10, 0, Rights::kBoth},
       {0x1000, 0x10, 0x10, 0, Rights::kBoth}},
      {"overlapping addresses",
       {0x1000, 0, 0x10, 0, Rights::kBoth},
       {0x0ff8, 0x10, 0x10, 0, Rights::kBoth}},
      {"a location that is not there",
       {0x1000, 0, 0x10, 0, Rights::kBoth},
       {0x2000, 0x10, 1, 1, Rights::kBoth}},
      {"offsets that wrap",
       {0x1000, 0, 0x10, 0, Rights::kBoth},
       {0x2000, UINT64_MAX - 3, 8, 0, Rights::kBoth}},
      {"addresses that wrap",
       {0x1000, 0, 0x10, 0, Rights::kBoth},
       {UINT64_MAX - 3, 0x10, 8, 0, Rights::kBoth}},
  };
  for (const TwoBuffers& bad : cases) {
    for (const bool swapped : {false, true}) {
      Descriptor descriptor;
      descriptor.locations = {"*"};
      descriptor.add(swapped ? bad.second : bad.first, {});
      descriptor.add(swapped ? bad.first : bad.second, {});
      EXPECT_EQ(descriptor.finish().code(), Code::kProtocol) << bad.what << swapped;
    }
  }
}

TEST(Descriptor, KeysOfAnotherSizeAreNotTaken) {
  Descriptor descriptor;
  descriptor.transports = {{"tcp", 4, ""}, {"none", 0, ""}, {"late", 2, ""}};
  descriptor.locations = {"*"};
  descriptor.add({0x1000, 0, 16, 0, Rights::kBoth}, {"abc", "", "zz"});
  descriptor.add({0x2000, 16, 16, 0, Rights::kBoth}, {"abcde"});
  ASSERT_TRUE(descriptor.finish().ok());
  EXPECT_EQ(descriptor.key(0, 0), nullptr);
  EXPECT_EQ(descriptor.key(0, 1), nullptr);
  EXPECT_EQ(key_text(descriptor, 0, 2), "zz");
  EXPECT_EQ(descriptor.key(1, 0), nullptr);
  EXPECT_EQ(descriptor.key(1, 2), nullptr);
}

TEST(Descriptor, ManyBuffersInAnyOrder) {
  constexpr uint64_t kCount = 20'000;
  std::vector<uint64_t> order(kCount);
  for (uint64_t i = 0; i < kCount; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), std::mt19937(7));
  Descriptor descriptor;
  descriptor.transports = {{"tcp", 8, ""}};
  descriptor.locations = {"*"};
  for (const uint64_t i : order) {
    // Addresses descend while offsets ascend.
    const uint64_t address = 0x100000000 - i * 64;
    const std::string key(reinterpret_cast<const char*>(&i), sizeof i);
    descriptor.add({address, i * 64, 64, 0, Rights::kBoth}, {key});
  }
  ASSERT_TRUE(descriptor.finish().ok());
  const Result<Descriptor> decoded = Descriptor::decode(descriptor.encode());
  ASSERT_TRUE(decoded.ok()) << decoded.status().to_string();
  for (uint64_t i = 0; i < kCount; ++i) {
    uint64_t address = 0;
    const Result<size_t> by_offset = decoded->resolve({i * 64 + 63, 1}, &address);
    ASSERT_TRUE(by_offset.ok()) << by_offset.status().to_string();
    ASSERT_EQ(*by_offset, i);
    ASSERT_EQ(address, 0x100000000 - i * 64 + 63);
    ASSERT_EQ(*decoded->resolve({address, 1}, &address), i);
    ASSERT_EQ(load<uint64_t>(decoded->key(i, 0)), i);
  }
}

}  // namespace
}  // namespace te
