// The other process of a case: it has buffers like this one's, serves them with engines, and runs
// the answering ends of the limit programs. It is told what to do line by line.
//
// Threads: the main thread of each process.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "child_process.h"

namespace te::bench {

using Words = std::vector<std::string>;

class Peer {
 public:
  static Result<Peer> start(uint64_t buffer_bytes);

  // What the answer says after "ok"; an error for "error" or none within a minute. The commands are
  // in the table in peer_main.cpp.
  Result<Words> ask(const std::string& command);
  // The answer's only word, a number.
  Result<uint64_t> ask_number(const std::string& command);

 private:
  explicit Peer(tool::ChildProcess process) : process_(std::move(process)) {}

  tool::ChildProcess process_;
};

Words split_words(const std::string& line);

// The process itself. The exit code.
int run_peer(uint64_t buffer_bytes);

}  // namespace te::bench
