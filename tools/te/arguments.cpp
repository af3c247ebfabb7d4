#include "arguments.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "size_text.h"

namespace te::tool {
namespace {

using Parse = Result<uint64_t> (*)(std::string_view);

CLI::Validator number_between(Parse parse, uint64_t min, uint64_t max, std::string accepted) {
  return CLI::Validator(
      [parse, min, max, accepted](std::string& text) -> std::string {
        const Result<uint64_t> number = parse(text);
        if (!number.ok()) return number.status().message();
        if (*number < min || *number > max) {
          return fmt::format("'{}' is not accepted: give {}", text, accepted);
        }
        text = std::to_string(*number);
        return {};
      },
      "");
}

}  // namespace

CLI::Validator size_between(uint64_t min, uint64_t max) {
  return number_between(parse_size, min, max,
                        fmt::format("a size from {} to {}", size_text(min), size_text(max)));
}

CLI::Validator whole_number_between(uint64_t min, uint64_t max) {
  return number_between(parse_whole_number, min, max,
                        fmt::format("a whole number from {} to {}", min, max));
}

CLI::Validator duration_ms() { return number_between(parse_duration_ms, 1, UINT64_MAX, "a time"); }

void hide_passwords(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const size_t scheme = word.find("://");
    const size_t at = word.rfind('@');
    if (scheme == std::string_view::npos || at == std::string_view::npos || at < scheme) continue;
    std::fill(argv[i] + scheme + 3, argv[i] + at, '*');
  }
}

void add_engine_options(CLI::App& app, EngineArguments& arguments) {
  app.add_option(
         "--metadata", arguments.metadata,
         "Directory of segment names: P2PHANDSHAKE (no server: names are host:port), "
         "etcd://host:port, redis://host:port or http://host:port/path; with TLS "
         "etcds://, rediss:// or https://. Passwords: TRANSFER_ENGINE_DIRECTORY_PASSWORD_FILE")
      ->type_name("DIRECTORY")
      ->capture_default_str();
  app.add_option("--host", arguments.host,
                 "Address that peers should use; default: chosen by the engine")
      ->type_name("ADDRESS");
  app.add_option("--protocol,--transport", arguments.protocols,
                 "Transport to install: tcp, shm, rdma, efa or fabric:PROVIDER; may be repeated. "
                 "Default: tcp and shm")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("NAME");
}

void add_listen_options(CLI::App& app, EngineArguments& arguments) {
  app.add_option("--name", arguments.name, "Name of the segment in the directory")
      ->type_name("NAME");
  app.add_option("--port", arguments.port, "Port to listen on; 0: any free one")
      ->transform(whole_number_between(0, 65535))
      ->type_name("PORT")
      ->capture_default_str();
}

Result<std::unique_ptr<Engine>> make_engine(const EngineArguments& arguments, const char* role) {
  EngineOptions options;
  options.metadata = arguments.metadata;
  options.name = arguments.name;
  options.host = arguments.host;
  options.port = arguments.port;
  if (options.name.empty() && !arguments.peer_to_peer()) {
    std::array<char, 256> host{};
    if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
    options.name = fmt::format("{}-{}-{}", role, host.data(), getpid());
  }
  Result<std::unique_ptr<Engine>> engine = Engine::create(options);
  if (!engine.ok()) return engine;
  for (const std::string& protocol : arguments.protocols) {
    const Status installed = (*engine)->install_transport(protocol);
    if (!installed.ok()) return installed.with_context("--protocol " + protocol);
  }
  return engine;
}

std::string segment_name(const EngineArguments& arguments, const Engine& engine) {
  return arguments.peer_to_peer() ? engine.local_endpoint() : engine.local_name();
}

std::string shell_line(const std::vector<std::string>& words) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,@%+=";
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      line += word;
      continue;
    }
    line += '\'';
    for (const char c : word) line += c == '\'' ? std::string("'\\''") : std::string(1, c);
    line += '\'';
  }
  return line;
}

}  // namespace te::tool
