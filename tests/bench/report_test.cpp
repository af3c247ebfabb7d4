#include "report/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace te::bench {
namespace {

std::vector<Row> some_rows() {
  std::vector<Row> rows;
  rows.emplace_back("measured <a> & b", "GB/s", "limit", Bar::ratio_at_least(0.9),
                    PlotPlace{"chart", 4096});
  rows.back().add(1, 2);
  rows.back().verified_bytes = 10;
  rows.emplace_back("larger", "GB/s", "limit", Bar::none(), PlotPlace{"chart", 65536});
  rows.back().add(3, 4);
  rows.emplace_back("left out", "us", "", Bar::value_at_most(5));
  rows.back().skipped = "nothing here";
  rows.emplace_back("broken", "us", "", Bar::value_at_most(5));
  rows.back().failed = "bytes were wrong";
  rows.emplace_back("latency, p50", "us", "limit", Bar::ratio_at_most(2));
  rows.back().add(3, 2);
  rows.back().value_ns.record(3000);
  rows.back().limit_ns.record(2000);
  return rows;
}

TEST(BenchReport, JsonSaysWhatIsThereAndNullForTheRest) {
  const auto report = nlohmann::json::parse(json_report(some_rows(), this_machine()));
  const auto& rows = report.at("results");
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[0].at("case"), "measured <a> & b");
  EXPECT_EQ(rows[0].at("ratio"), 0.5);
  EXPECT_EQ(rows[0].at("met"), false);
  EXPECT_EQ(rows[0].at("verified_bytes"), 10);
  EXPECT_TRUE(rows[1].at("bar").is_null());
  EXPECT_TRUE(rows[1].at("met").is_null());
  EXPECT_TRUE(rows[2].at("value").is_null());
  EXPECT_EQ(rows[2].at("skipped"), "nothing here");
  EXPECT_EQ(rows[3].at("failed"), "bytes were wrong");
  EXPECT_EQ(rows[0].at("chart"), "chart");
  EXPECT_EQ(rows[0].at("block_size"), 4096);
  EXPECT_TRUE(rows[2].at("chart").is_null());
  EXPECT_EQ(rows[4].at("value_ns").at("p50"), 3000);
  EXPECT_EQ(rows[4].at("value_ns").at("percentiles")[49], nlohmann::json({50.0, 3000}));
  EXPECT_GT(report.at("machine").at("cores"), 0);
}

TEST(BenchReport, TheTableNamesWhatIsMissed) {
  const std::string text = table_report(some_rows());
  EXPECT_NE(text.find("Bars met: 1 of 2"), std::string::npos) << text;
  EXPECT_NE(text.find("Not met:\n  measured <a> & b (>= 0.9 of the limit)"), std::string::npos);
  EXPECT_NE(text.find("skipped, 1 row: nothing here"), std::string::npos);
  EXPECT_NE(text.find("FAILED broken: bytes were wrong"), std::string::npos);
}

}  // namespace
}  // namespace te::bench
