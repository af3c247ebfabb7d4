// `te completion`: walks the commands and options of the running app, so that the script has
// exactly what this version accepts. Only the main thread enters.
#include "completion.h"

#include <memory>

#include "command.h"

namespace te::tool {
namespace {

// The words between the braces of a type such as "TEXT:{read,write,both}".
std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{');
  const size_t close = type.find('}', open);
  if (open == std::string::npos || close == std::string::npos) return {};
  return CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
}

void collect(const CLI::App& app, const std::string& path, std::vector<CommandWords>& commands) {
  CommandWords command;
  command.path = path;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_positional()) {
      command.choices = choices_of(*option);
      continue;
    }
    for (const std::string& name : option->get_lnames()) {
      command.options.push_back({"--" + name, option->get_description(),
                                 option->get_items_expected_max() > 0,
                                 option->get_type_name() == "FILE", choices_of(*option)});
    }
  }
  const auto subcommands = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* subcommand : subcommands) {
    command.subcommands.emplace_back(subcommand->get_name(), subcommand->get_description());
  }
  commands.push_back(std::move(command));
  for (const CLI::App* subcommand : subcommands) {
    collect(*subcommand, path + " " + subcommand->get_name(), commands);
  }
}

int run_completion(const CLI::App& app, const std::string& shell) {
  std::vector<CommandWords> commands;
  collect(app, app.get_name(), commands);
  std::string script;
  if (shell == "bash") script = bash_completion(commands);
  if (shell == "zsh") script = zsh_completion(commands);
  if (shell == "fish") script = fish_completion(commands);
  const Status printed = print(script);
  return printed.ok() ? kExitOk : fail(printed);
}

}  // namespace

void add_completion(CLI::App& app, Action& action) {
  auto shell = std::make_shared<std::string>();
  CLI::App* const completion =
      app.add_subcommand("completion", "Print a completion script for a shell");
  completion->add_option("shell", *shell, "The shell")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  completion->footer(
      "Examples:\n"
      "  source <(te completion bash)\n"
      "  te completion bash > /etc/bash_completion.d/te\n"
      "  te completion zsh > ~/.zfunc/_te\n"
      "  te completion fish > ~/.config/fish/completions/te.fish");
  completion->callback(
      [shell, &app, &action] { action = [shell, &app] { return run_completion(app, *shell); }; });
}

}  // namespace te::tool
