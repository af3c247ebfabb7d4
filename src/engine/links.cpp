#include "engine/links.h"

#include <nlohmann/json.hpp>

#include "base/log.h"

namespace te {
namespace {

template <typename T>
void take(const nlohmann::json& row, const char* name, T& value) {
  const auto found = row.find(name);
  if (found != row.end()) found->get_to(value);
}

}  // namespace

std::string links_as_json(const std::vector<PathInfo>& paths) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const PathInfo& path : paths) {
    rows.push_back({{"segment", path.segment},
                    {"transport", path.transport},
                    {"local_device", path.local_device},
                    {"remote_device", path.remote_device},
                    {"remote_address", path.remote_address},
                    {"encryption", path.encryption},
                    {"state", path.state},
                    {"last_error", path.last_error},
                    {"inflight_bytes", path.inflight_bytes},
                    {"completed_bytes", path.completed_bytes},
                    {"staged_bytes", path.staged_bytes},
                    {"completed_slices", path.completed_slices},
                    {"failed_slices", path.failed_slices}});
  }
  return rows.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<std::vector<PathInfo>> links_from_json(std::string_view json) {
  std::vector<PathInfo> paths;
  try {
    const nlohmann::json rows = nlohmann::json::parse(json);
    if (!rows.is_array()) return Status(Code::kProtocol, "the links are no array");
    for (const nlohmann::json& row : rows) {
      if (!row.is_object()) return Status(Code::kProtocol, "a link is no object");
      PathInfo& path = paths.emplace_back();
      take(row, "segment", path.segment);
      take(row, "transport", path.transport);
      take(row, "local_device", path.local_device);
      take(row, "remote_device", path.remote_device);
      take(row, "remote_address", path.remote_address);
      take(row, "encryption", path.encryption);
      take(row, "state", path.state);
      take(row, "last_error", path.last_error);
      take(row, "inflight_bytes", path.inflight_bytes);
      take(row, "completed_bytes", path.completed_bytes);
      take(row, "staged_bytes", path.staged_bytes);
      take(row, "completed_slices", path.completed_slices);
      take(row, "failed_slices", path.failed_slices);
    }
  } catch (const nlohmann::json::exception& problem) {
    return error(Code::kProtocol, "the links cannot be understood: {}", problem.what());
  }
  return paths;
}

}  // namespace te
