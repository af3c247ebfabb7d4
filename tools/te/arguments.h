// Options that several subcommands share: checks that name what is accepted, and how an engine is
// made from the command line. Only the main thread enters.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "transfer_engine/engine.h"

namespace te::tool {

// Each turns the text into decimal digits that CLI11 reads, or says what is accepted.
CLI::Validator size_between(uint64_t min, uint64_t max);
CLI::Validator whole_number_between(uint64_t min, uint64_t max);
CLI::Validator duration_ms();

struct EngineArguments {
  std::string metadata = "P2PHANDSHAKE";
  std::string name;
  std::string host;
  uint16_t port = 0;
  std::vector<std::string> protocols;  // empty: what an engine serves by default

  bool peer_to_peer() const { return metadata == "P2PHANDSHAKE"; }
};

// Overwrites passwords in URLs, which other users of the machine see in the list of processes.
// After the arguments were parsed.
void hide_passwords(int argc, char** argv);
// --metadata, --host, --protocol.
void add_engine_options(CLI::App& app, EngineArguments& arguments);
// --name, --port: for engines that others open.
void add_listen_options(CLI::App& app, EngineArguments& arguments);

// With a directory and no name given, makes up one that no other process of this host has: `role`,
// host name and process id.
Result<std::unique_ptr<Engine>> make_engine(const EngineArguments& arguments, const char* role);
// The name under which others open this engine's segment.
std::string segment_name(const EngineArguments& arguments, const Engine& engine);
// The arguments for a shell, with whatever needs it quoted.
std::string shell_line(const std::vector<std::string>& words);

}  // namespace te::tool
