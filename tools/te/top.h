// The table of `te top`. Pure.
#pragma once

#include <string>
#include <vector>

#include "transfer_engine/types.h"

namespace te::tool {

// What moved between two looks at an engine's links, `seconds` apart.
std::string top_text(const std::string& segment, const std::vector<PathInfo>& before,
                     const std::vector<PathInfo>& now, double seconds);

}  // namespace te::tool
