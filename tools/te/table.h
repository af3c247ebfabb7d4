// Aligned text tables for the terminal. A plain value; one thread at a time.
#pragma once

#include <string>
#include <vector>

namespace te::tool {

enum class Align { kLeft, kRight };

class Table {
 public:
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // Missing cells are empty, cells beyond the last column are dropped.
  void add_row(std::vector<std::string> cells);
  size_t rows() const { return rows_.size(); }
  // A title line, then the rows; columns two spaces apart, no spaces at the ends of lines. Widths
  // are counted in UTF-8 characters. Line breaks and other control characters in cells become
  // spaces.
  std::string to_string() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace te::tool
