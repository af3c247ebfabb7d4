#include <fmt/core.h>

#include "completion.h"

namespace te::tool {
namespace {

// 'text' for any of the three shells.
std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

std::string joined(const std::vector<std::string>& words) {
  std::string result;
  for (const std::string& word : words) result += (result.empty() ? "" : " ") + word;
  return result;
}

std::string words_after(const CommandWords& command) {
  std::vector<std::string> words;
  for (const auto& [name, help] : command.subcommands) words.push_back(name);
  words.insert(words.end(), command.choices.begin(), command.choices.end());
  for (const OptionWord& option : command.options) words.push_back(option.name);
  return joined(words);
}

// The alternatives of a case statement for every "PATH SUBCOMMAND" there is.
std::string known_paths(const std::vector<CommandWords>& commands) {
  std::string result;
  for (const CommandWords& command : commands) {
    for (const auto& [name, help] : command.subcommands) {
      result += fmt::format("{}{}", result.empty() ? "" : "|", quoted(command.path + " " + name));
    }
  }
  return result;
}

// [name:help] as _describe wants it.
std::string described(const std::string& name, const std::string& help) {
  return quoted(name + ":" + help);
}

}  // namespace

std::string bash_completion(const std::vector<CommandWords>& commands) {
  std::string script = fmt::format(
      R"(# bash completion for te; to use it: source <(te completion bash)
_te() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev= path=te word
  if ((COMP_CWORD > 0)); then prev=${{COMP_WORDS[COMP_CWORD-1]}}; fi
  # --option=value arrives as three words.
  if [[ $cur == = ]]; then
    cur=
  elif [[ $prev == = ]]; then
    prev=${{COMP_WORDS[COMP_CWORD-2]}}
  fi
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "$path $word" in
      {}) path="$path $word" ;;
    esac
  done
  COMPREPLY=()
  case "$path $prev" in
)",
      known_paths(commands));
  for (const CommandWords& command : commands) {
    for (const OptionWord& option : command.options) {
      if (!option.takes_value) continue;
      std::string reply;
      if (option.takes_file) reply = "COMPREPLY=($(compgen -f -- \"$cur\")); ";
      if (!option.choices.empty()) {
        reply = fmt::format("COMPREPLY=($(compgen -W {} -- \"$cur\")); ",
                            quoted(joined(option.choices)));
      }
      script +=
          fmt::format("    {}) {}return ;;\n", quoted(command.path + " " + option.name), reply);
    }
  }
  script += "  esac\n  case \"$path\" in\n";
  for (const CommandWords& command : commands) {
    script += fmt::format("    {}) COMPREPLY=($(compgen -W {} -- \"$cur\")) ;;\n",
                          quoted(command.path), quoted(words_after(command)));
  }
  return script + "  esac\n}\ncomplete -F _te te\n";
}

std::string zsh_completion(const std::vector<CommandWords>& commands) {
  std::string script = fmt::format(
      R"(#compdef te
# zsh completion for te; to use it: source <(te completion zsh)
_te() {{
  local te_path=te word
  local -a matches
  for word in "${{(@)words[2,CURRENT-1]}}"; do
    case "$te_path $word" in
      ({}) te_path="$te_path $word" ;;
    esac
  done
  case "$te_path ${{words[CURRENT-1]}}" in
)",
      known_paths(commands));
  for (const CommandWords& command : commands) {
    for (const OptionWord& option : command.options) {
      if (!option.takes_value) continue;
      std::string reply;
      if (option.takes_file) reply = "_files; ";
      if (!option.choices.empty()) reply = "compadd -- " + joined(option.choices) + "; ";
      script +=
          fmt::format("    ({}) {}return ;;\n", quoted(command.path + " " + option.name), reply);
    }
  }
  script += "  esac\n  case \"$te_path\" in\n";
  for (const CommandWords& command : commands) {
    std::string matches;
    for (const auto& [name, help] : command.subcommands)
      matches += fmt::format(" {}", described(name, help));
    for (const std::string& choice : command.choices) matches += fmt::format(" {}", quoted(choice));
    for (const OptionWord& option : command.options) {
      matches += fmt::format(" {}", described(option.name, option.help));
    }
    script += fmt::format("    ({}) matches=({}) ;;\n", quoted(command.path), matches.substr(1));
  }
  return script +
         "  esac\n"
         "  _describe 'te' matches\n"
         "}\n"
         "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then\n"
         "  _te \"$@\"\n"
         "else\n"
         "  compdef _te te\n"
         "fi\n";
}

std::string fish_completion(const std::vector<CommandWords>& commands) {
  std::string script =
      "# fish completion for te; to use it: te completion fish | source\n"
      "function __te_path\n"
      "  set -l path te\n"
      "  for word in (commandline -opc)[2..-1]\n"
      "    switch \"$path $word\"\n"
      "      case";
  for (const CommandWords& command : commands) {
    for (const auto& [name, help] : command.subcommands) {
      script += fmt::format(" {}", quoted(command.path + " " + name));
    }
  }
  script +=
      "\n"
      "        set path \"$path $word\"\n"
      "    end\n"
      "  end\n"
      "  test \"$path\" = \"$argv\"\n"
      "end\n"
      "complete -c te -f\n";
  for (const CommandWords& command : commands) {
    const std::string start =
        fmt::format("complete -c te -n {}", quoted("__te_path " + command.path));
    for (const auto& [name, help] : command.subcommands) {
      script += fmt::format("{} -a {} -d {}\n", start, name, quoted(help));
    }
    if (!command.choices.empty()) {
      script += fmt::format("{} -a {}\n", start, quoted(joined(command.choices)));
    }
    for (const OptionWord& option : command.options) {
      std::string value;
      if (option.takes_value) value = option.takes_file ? " -r -F" : " -x";
      if (!option.choices.empty()) value += " -a " + quoted(joined(option.choices));
      script += fmt::format("{} -l {}{} -d {}\n", start, option.name.substr(2), value,
                            quoted(option.help));
    }
  }
  return script;
}

}  // namespace te::tool
