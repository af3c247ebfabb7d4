// Shell completion scripts, made from the commands and options themselves. Pure functions.
#pragma once

#include <string>
#include <vector>

#include "transfer_engine/status.h"

namespace te::tool {

// One option as a shell sees it.
struct OptionWord {
  std::string name;  // "--operation"
  std::string help;
  bool takes_value = false;
  bool takes_file = false;           // the value is a file's name
  std::vector<std::string> choices;  // the values there are, when they are few
};

// One command with what may follow it.
struct CommandWords {
  std::string path;                                              // "te bench local"
  std::vector<std::pair<std::string, std::string>> subcommands;  // name, help
  std::vector<OptionWord> options;
  std::vector<std::string> choices;  // of a positional argument
};

std::string bash_completion(const std::vector<CommandWords>& commands);
std::string zsh_completion(const std::vector<CommandWords>& commands);
std::string fish_completion(const std::vector<CommandWords>& commands);

}  // namespace te::tool
