// The engine's paths as text for programs.
//
// Pure.
#pragma once

#include <string>
#include <vector>

#include "transfer_engine/types.h"

namespace te {

// An array with an object for each path.
std::string links_as_json(const std::vector<PathInfo>& paths);
// What links_as_json() gave, perhaps of a later version; kProtocol when it cannot be understood.
Result<std::vector<PathInfo>> links_from_json(std::string_view json);

}  // namespace te
