// The rows and the machine as a table for the terminal, and as JSON. Pure functions.
#pragma once

#include <span>
#include <string>

#include "machine.h"
#include "row.h"

namespace te::bench {

// A number with as many digits as are worth reading.
std::string number_text(double number);

// The table, then which bars are met.
std::string table_report(std::span<const Row> rows);
std::string json_report(std::span<const Row> rows, const Machine& machine);

}  // namespace te::bench
