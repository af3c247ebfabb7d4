// `te`: one command for measuring, looking and serving. Parses the command line, runs what it
// names. Only the main thread enters.
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <exception>

#include "arguments.h"
#include "command.h"
#include "transfer_engine/engine.h"

namespace te::tool {
namespace {

// The innermost subcommand that the line got to: the one whose help would have helped.
const CLI::App* innermost(const CLI::App* app, std::string& path) {
  for (;;) {
    path += (path.empty() ? "" : " ") + app->get_name();
    const auto chosen = app->get_subcommands([](const CLI::App* one) { return one->parsed(); });
    if (chosen.empty()) return app;
    app = chosen.front();
  }
}

int report_usage(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
  std::string path;
  const CLI::App* const command = innermost(&app, path);
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr &&
      !command->get_subcommands([](const CLI::App*) { return true; }).empty()) {
    std::fputs(app.help().c_str(), stderr);
    const std::vector<std::string> unknown = app.remaining(true);
    if (!unknown.empty()) {
      fail(fmt::format("there is no command '{}'; see above for those there are", unknown.front()));
      return kExitUsage;
    }
  }
  fail(fmt::format("{}\nRun `{} --help` for what is accepted.", error.what(), path));
  return kExitUsage;
}

// Where one of the first three descriptors is closed, a socket would be given its number, and take
// what is printed. What is opened instead refuses that, as a closed one does.
void keep_closed_descriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) != -1) continue;
    (void)::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

int run(int argc, char** argv) {
  CLI::App app("Transfer Engine: moves bytes between the registered memory of processes", "te");
  app.set_version_flag("--version", "te " + std::string(version()));
  app.require_subcommand(1);
  app.footer(
      "Examples:\n"
      "  te info                               what this machine offers\n"
      "  te bench local --verify               try everything on this machine\n"
      "  te bench target                       serve memory; prints the line for the other side\n"
      "  te probe 10.0.0.1:12345               reach it: round trips, buffers, paths\n"
      "  te top 10.0.0.1:12345                 watch the throughput of its paths\n"
      "  te keys secret FILE                   a secret, for security = tls\n"
      "  source <(te completion bash)          complete commands and options\n"
      "`te COMMAND --help` has the options and examples of each.");
  Action action;
  add_bench(app, action);
  add_info(app, action);
  add_probe(app, action);
  add_top(app, action);
  add_metadata_server(app, action);
  add_keys(app, action);
  add_completion(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return report_usage(app, error);
  }
  hide_passwords(argc, argv);
  return action();
}

}  // namespace
}  // namespace te::tool

int main(int argc, char** argv) {
  te::tool::keep_closed_descriptors();
  try {
    return te::tool::run(argc, argv);
  } catch (const std::exception& error) {  // out of memory, no descriptors left
    return te::tool::fail(error.what());
  }
}
