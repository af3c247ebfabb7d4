// Another run of an engine, as after the restart of its process.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "transfer_engine/engine.h"

namespace te::test {

// Another run of the engine that was at the endpoint, and has ended.
inline void start_again(std::unique_ptr<Engine>& engine, const std::string& endpoint,
                        std::map<std::string, std::string> config,
                        const std::string& transport = {}) {
  EngineOptions options;
  options.host = "127.0.0.1";
  options.port = static_cast<uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1)));
  options.config = std::move(config);
  Result<std::unique_ptr<Engine>> made = Engine::create(options);
  ASSERT_TRUE(made.ok()) << made.status().to_string();
  engine = made.take();
  if (transport.empty()) return;
  ASSERT_TRUE(engine->install_transport(transport).ok());
}

// Ends the engine. Another run takes its place, at the same endpoint.
inline void restart(std::unique_ptr<Engine>& engine, std::map<std::string, std::string> config,
                    const std::string& transport = {}) {
  const std::string endpoint = engine->local_endpoint();
  engine.reset();
  start_again(engine, endpoint, std::move(config), transport);
}

}  // namespace te::test
