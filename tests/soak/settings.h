// The command line of a worker.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "soak/world.h"
#include "transfer_engine/engine.h"

namespace te::soak {

struct Settings {
  std::string role;  // "target" or "initiator"
  size_t index = 0;
  Shape shape;
  uint64_t seed = 0;
  std::string folder;
  std::string metadata = "P2PHANDSHAKE";
  std::string name;
  std::string host;
  uint16_t port = 0;
  std::string transport;              // empty: the default
  std::vector<std::string> segments;  // an initiator's: of each target
  int64_t late_ms = 250;              // a task may end this much after its deadline
  int64_t cancel_ms = 500;            // a cancelled task may take this long
  int64_t call_ms = 2'000;            // any other call of the library
  std::string plant;                  // a fault to be made, which the checks must find
  std::map<std::string, std::string> config = {};
};

// Empty on success, else what is wrong.
std::string parse(int argc, char** argv, Settings& settings);
// With the transport installed.
Result<std::unique_ptr<Engine>> make_engine(const Settings& settings);

int run_target(const Settings& settings);
int run_initiator(const Settings& settings);

}  // namespace te::soak
