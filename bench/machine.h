// What the figures were taken on. Pure questions, any thread.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace te::bench {

struct Machine {
  std::string cpu;
  long cores = 0;
  std::string memory;
  std::string kernel;
  std::string date;     // UTC, ISO 8601
  std::string version;  // of the library
};

Machine this_machine();
// Title and text of each fact, for people.
std::vector<std::pair<std::string, std::string>> facts(const Machine& machine);

}  // namespace te::bench
