#include "size_text.h"

#include <gtest/gtest.h>

namespace te::tool {
namespace {

uint64_t size_of(std::string_view text) {
  const Result<uint64_t> size = parse_size(text);
  EXPECT_TRUE(size.ok()) << text;
  return size.ok() ? *size : 0;
}

uint64_t ms_of(std::string_view text) {
  const Result<uint64_t> ms = parse_duration_ms(text);
  EXPECT_TRUE(ms.ok()) << text;
  return ms.ok() ? *ms : 0;
}

TEST(ParseSize, ReadsUnitsAsPowersOf1024) {
  EXPECT_EQ(size_of("0"), 0u);
  EXPECT_EQ(size_of("4096"), 4096u);
  EXPECT_EQ(size_of("17B"), 17u);
  EXPECT_EQ(size_of("4K"), 4096u);
  EXPECT_EQ(size_of("4k"), 4096u);
  EXPECT_EQ(size_of("4KiB"), 4096u);
  EXPECT_EQ(size_of("1MiB"), 1048576u);
  EXPECT_EQ(size_of("16m"), 16777216u);
  EXPECT_EQ(size_of("3G"), 3221225472u);
  EXPECT_EQ(size_of("2t"), 2199023255552u);
  EXPECT_EQ(size_of("18446744073709551615"), UINT64_MAX);
  EXPECT_EQ(size_of("16777215T"), uint64_t{16777215} << 40);
}

TEST(ParseSize, RefusesEverythingElseAndSaysWhatIsAccepted) {
  for (const char* text : {"", "K", "-1", "+1", "1.5M", "4KB", "4MB", "4 K", " 4", "4K ", "4KiBs",
                           "4BiB", "0x10", "four", "4\n", "1P"}) {
    const Result<uint64_t> size = parse_size(text);
    ASSERT_FALSE(size.ok()) << text;
    EXPECT_EQ(size.code(), Code::kInvalidArgument);
    EXPECT_NE(size.status().message().find("4K"), std::string::npos) << size.status().message();
  }
}

TEST(ParseSize, RefusesWhatDoesNotFit) {
  EXPECT_FALSE(parse_size("18446744073709551616").ok());
  EXPECT_FALSE(parse_size("16777216T").ok());
  EXPECT_FALSE(parse_size("99999999999999999999K").ok());
}

TEST(SizeText, ReadsBack) {
  EXPECT_EQ(size_text(0), "0");
  EXPECT_EQ(size_text(1), "1");
  EXPECT_EQ(size_text(1500), "1500");
  EXPECT_EQ(size_text(65536), "64K");
  EXPECT_EQ(size_text(65537), "65537");
  EXPECT_EQ(size_text(1 << 20), "1M");
  EXPECT_EQ(size_text(uint64_t{1} << 62), "4194304T");
  for (const uint64_t size : {uint64_t{0}, uint64_t{1023}, uint64_t{3} << 20, UINT64_MAX}) {
    EXPECT_EQ(size_of(size_text(size)), size);
  }
}

TEST(BytesText, RoundsToThreeDigits) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(999), "999 B");
  EXPECT_EQ(bytes_text(1000), "1 kB");
  EXPECT_EQ(bytes_text(12'345'678'901), "12.3 GB");
  EXPECT_EQ(bytes_text(999'999), "1 MB");
}

TEST(ParseDuration, ReadsUnits) {
  EXPECT_EQ(ms_of("10"), 10'000u);
  EXPECT_EQ(ms_of("0.2"), 200u);
  EXPECT_EQ(ms_of("10s"), 10'000u);
  EXPECT_EQ(ms_of("200ms"), 200u);
  EXPECT_EQ(ms_of("2m"), 120'000u);
  EXPECT_EQ(ms_of("1h"), 3'600'000u);
  EXPECT_EQ(ms_of("0.1ms"), 1u);
}

TEST(ParseDuration, RefusesEverythingElse) {
  for (const char* text :
       {"", "s", "0", "-1", "nan", "inf", "1e99", "1 s", "10sec", "1s ", "99999999999999h"}) {
    const Result<uint64_t> ms = parse_duration_ms(text);
    ASSERT_FALSE(ms.ok()) << text;
    EXPECT_NE(ms.status().message().find("200ms"), std::string::npos) << ms.status().message();
  }
}

TEST(ParseDuration, SaysThatZeroIsTooShort) {
  for (const char* text : {"0", "0.0", "0ms", "0h"}) {
    const std::string message = parse_duration_ms(text).status().message();
    EXPECT_NE(message.find("is too short: give a time above 0, in seconds"), std::string::npos)
        << message;
  }
}

TEST(ParseWholeNumber, TakesDigitsOnly) {
  EXPECT_EQ(*parse_whole_number("0"), 0u);
  EXPECT_EQ(*parse_whole_number("18446744073709551615"), UINT64_MAX);
  for (const char* text : {"", "-1", "1.0", "1K", " 1", "18446744073709551616"}) {
    EXPECT_FALSE(parse_whole_number(text).ok()) << text;
  }
}

}  // namespace
}  // namespace te::tool
