// What `te info` shows, and the Python package too: version, transports, libraries, addresses,
// configuration and topology of this machine.
//
// Threads: one at a time; the engine that is asked has its own.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "transfer_engine/engine.h"

namespace te::tool {

// Everything as JSON. Where no engine could be made, "error" says why, and what only an engine
// knows is left out.
nlohmann::ordered_json machine_info(const Result<std::unique_ptr<Engine>>& engine);

}  // namespace te::tool
