// Fuzzes the values of settings and variables.
//
// The input is lines of text: NAME=value. Those that begin with TRANSFER_ENGINE_ or TE_ are the
// environment, the others are settings. What was accepted must be shown as values that are accepted
// again.
#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/options.h"
#include "require.h"
#include "transport/factory.h"

namespace {

bool is_ascii(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 1024) return 0;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> variables;
  std::map<std::string, std::string> settings;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const size_t equals = line.find('=');
    if (line.starts_with("TE_") || line.starts_with("TRANSFER_ENGINE_") ||
        equals == std::string_view::npos) {
      variables.emplace_back(line);
    } else {
      settings.emplace(line.substr(0, equals), line.substr(equals + 1));
    }
  }
  std::vector<const char*> environment;
  for (const std::string& variable : variables) environment.push_back(variable.c_str());
  environment.push_back(nullptr);

  const te::Result<te::Config> config =
      te::Config::load(settings, te::transport_settings(), environment.data());
  if (!config.ok()) {
    require(config.code() == te::Code::kInvalidArgument && !config.status().message().empty());
    return 0;
  }
  const nlohmann::json rows = nlohmann::json::parse(config->to_json(), nullptr, false);
  require(rows.is_array());
  std::map<std::string, std::string> shown;
  for (const nlohmann::json& row : rows) shown[row["name"]] = row["value"];
  const char* const none[] = {nullptr};
  const te::Result<te::Config> again = te::Config::load(shown, te::transport_settings(), none);
  require(again.ok());
  if (is_ascii({reinterpret_cast<const char*>(data), size})) {
    for (const nlohmann::json& row : nlohmann::json::parse(again->to_json())) {
      require(shown[row["name"]] == row["value"]);
    }
  }
  return 0;
}
