// How a subcommand joins the `te` command: it adds its options to the app and, when it is the one
// that was asked for, leaves what to run. Only the main thread enters.
//
// Exit codes: 0 done, 1 it failed (the text is on stderr), 2 the command line is wrong, 128 + N
// when signal N stopped a measurement early.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "transfer_engine/status.h"

namespace te::tool {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

// Runs after the command line was understood; returns the exit code.
using Action = std::function<int()>;

void add_bench(CLI::App& app, Action& action);
void add_info(CLI::App& app, Action& action);
void add_probe(CLI::App& app, Action& action);
void add_top(CLI::App& app, Action& action);
void add_metadata_server(CLI::App& app, Action& action);
void add_keys(CLI::App& app, Action& action);
void add_completion(CLI::App& app, Action& action);

// Writes "te: message" to stderr; returns kExitFailed.
int fail(const std::string& message);
int fail(const Status& status);
// Writes to stdout and flushes; an error when that cannot be written (a full disk, a closed pipe).
Status print(const std::string& text);

}  // namespace te::tool
