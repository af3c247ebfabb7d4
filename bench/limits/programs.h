// Other programs that measure: started in pairs, and what they print.
//
// Threads: the main thread.
#pragma once

#include <string>

#include "transfer_engine/status.h"

namespace te::bench {

// What a shell command prints.
Result<std::string> output_of(const std::string& command);
bool installed(const std::string& program);
// Where one of ours is, beside this one. kUnsupported: it was not built, for want of `package`.
Result<std::string> program_beside(const std::string& name, const std::string& package);

// Starts `server` in the background, runs `client` until it succeeds and prints `wanted`, or a few
// seconds passed, and waits for both; returns what the client printed. PORT stands for a port that
// is free now.
Result<std::string> run_pair(std::string server, std::string client, const std::string& wanted);

Status not_understood(const std::string& program);

}  // namespace te::bench
