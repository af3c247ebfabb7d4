#include "table.h"

#include <gtest/gtest.h>

namespace te::tool {
namespace {

TEST(Table, AlignsToTheWidestCell) {
  Table table({{"name"}, {"GB/s", Align::kRight}, {"note"}});
  table.add_row({"a", "1.5", "x"});
  table.add_row({"longest", "123.25", ""});
  EXPECT_EQ(table.to_string(),
            "name       GB/s  note\n"
            "a           1.5  x\n"
            "longest  123.25\n");
}

TEST(Table, WithoutRowsIsItsTitles) { EXPECT_EQ(Table({{"a"}, {"bc"}}).to_string(), "a  bc\n"); }

TEST(Table, RowsOfAnotherLengthAreFitted) {
  Table table({{"a"}, {"b"}});
  table.add_row({"1"});
  table.add_row({"1", "2", "3"});
  EXPECT_EQ(table.rows(), 2u);
  EXPECT_EQ(table.to_string(), "a  b\n1\n1  2\n");
}

TEST(Table, CountsCharactersNotBytes) {
  Table table({{"t"}, {"u"}});
  table.add_row({"\u00b5s", "1"});
  table.add_row({"ms", "2"});
  EXPECT_EQ(table.to_string(), "t   u\n\u00b5s  1\nms  2\n");
}

TEST(Table, CellsCannotBreakLinesOrSendEscapes) {
  Table table({{"t"}, {"u"}});
  table.add_row({"a\nb", "\x1b[2J"});
  EXPECT_EQ(table.to_string(), "t    u\na b   [2J\n");
}

}  // namespace
}  // namespace te::tool
