// te_soak_worker: one process of ./dev soak, a target or an initiator. soak.py starts it, tells it
// what to do line by line, and reads what it reports; it ends with its input, or with its parent.
#include <sys/prctl.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstdio>
#include <functional>
#include <sstream>

#include "soak/settings.h"

namespace te::soak {
namespace {

template <typename Number>
bool to_number(const std::string& text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

bool assign(const std::string& name, const std::string& value, Settings& settings) {
  const std::map<std::string, std::string*> texts = {
      {"--role", &settings.role},         {"--folder", &settings.folder},
      {"--metadata", &settings.metadata}, {"--name", &settings.name},
      {"--host", &settings.host},         {"--transport", &settings.transport},
      {"--plant", &settings.plant}};
  const std::map<std::string, size_t*> sizes = {{"--index", &settings.index},
                                                {"--targets", &settings.shape.targets},
                                                {"--initiators", &settings.shape.initiators},
                                                {"--threads", &settings.shape.threads}};
  const std::map<std::string, int64_t*> times = {{"--late-ms", &settings.late_ms},
                                                 {"--cancel-ms", &settings.cancel_ms},
                                                 {"--call-ms", &settings.call_ms}};
  if (const auto text = texts.find(name); text != texts.end()) {
    *text->second = value;
    return true;
  }
  if (const auto size = sizes.find(name); size != sizes.end()) {
    return to_number(value, *size->second);
  }
  if (const auto time = times.find(name); time != times.end()) {
    return to_number(value, *time->second);
  }
  if (name == "--seed") return to_number(value, settings.seed);
  if (name == "--port") return to_number(value, settings.port);
  if (name == "--config") {
    const size_t equals = value.find('=');
    if (equals == std::string::npos) return false;
    settings.config[value.substr(0, equals)] = value.substr(equals + 1);
    return true;
  }
  if (name == "--segments") {
    std::istringstream words(value);
    for (std::string word; std::getline(words, word, ',');) settings.segments.push_back(word);
    return true;
  }
  return false;
}

}  // namespace

std::string parse(int argc, char** argv, Settings& settings) {
  for (int i = 1; i < argc; i += 2) {
    if (i + 1 == argc) return std::string(argv[i]) + " has no value";
    if (!assign(argv[i], argv[i + 1], settings)) {
      return std::string(argv[i]) + " " + argv[i + 1] + " is not understood";
    }
  }
  if (settings.role != "target" && settings.role != "initiator") return "--role is missing";
  if (settings.role == "initiator" && settings.segments.size() != settings.shape.targets) {
    return "--segments does not name every target";
  }
  return {};
}

Result<std::unique_ptr<Engine>> make_engine(const Settings& settings) {
  EngineOptions options;
  options.addressing = Addressing::kAddress;
  options.metadata = settings.metadata;
  options.name = settings.name;
  options.host = settings.host;
  options.port = settings.port;
  options.config = settings.config;
  auto engine = Engine::create(options);
  if (!engine.ok() || settings.transport.empty()) return engine;
  TE_RETURN_IF_ERROR((*engine)->install_transport(settings.transport));
  return engine;
}

}  // namespace te::soak

int main(int argc, char** argv) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  te::soak::Settings settings;
  const std::string error = te::soak::parse(argc, argv, settings);
  if (!error.empty()) {
    std::fprintf(stderr, "te_soak_worker: %s\n", error.c_str());
    return 2;
  }
  return settings.role == "target" ? te::soak::run_target(settings)
                                   : te::soak::run_initiator(settings);
}
