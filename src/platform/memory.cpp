#include "platform/memory.h"

#include <charconv>
#include <filesystem>
#include <string>

namespace te {

uint32_t memory_node_count() {
  uint32_t highest = 0;
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator("/sys/devices/system/node", ignored)) {
    const std::string name = entry.path().filename();
    uint32_t number = 0;
    if (name.starts_with("node") &&
        std::from_chars(name.data() + 4, name.data() + name.size(), number).ec == std::errc()) {
      highest = number > highest ? number : highest;
    }
  }
  return highest + 1;
}

}  // namespace te
