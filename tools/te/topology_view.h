// A machine's topology for the eye: who is next to whom as a tree, and how far each NIC is from
// each location as a table. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace te::tool {

// `topology` as Engine::topology() gives it; what it lacks is left out.
std::string topology_view(const nlohmann::ordered_json& topology);

}  // namespace te::tool
