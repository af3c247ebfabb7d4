#include "limits/programs.h"

#include <fmt/core.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "limits/connections.h"

namespace te::bench {

Result<std::string> output_of(const std::string& command) {
  std::FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return Status(Code::kResource, "cannot start a shell");
  std::string result;
  std::array<char, 4096> bytes;
  for (size_t count = 0; (count = fread(bytes.data(), 1, bytes.size(), pipe)) > 0;) {
    result.append(bytes.data(), count);
  }
  pclose(pipe);
  return result;
}

bool installed(const std::string& program) {
  return std::system(fmt::format("command -v {} >/dev/null 2>&1", program).c_str()) == 0;
}

Result<std::string> program_beside(const std::string& name, const std::string& package) {
  std::error_code failed;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", failed);
  const std::filesystem::path program = self.parent_path() / name;
  if (failed || !std::filesystem::exists(program, failed)) {
    return Status(Code::kUnsupported, fmt::format("{} was not built: it needs {}", name, package));
  }
  return program.string();
}

Result<std::string> run_pair(std::string server, std::string client, const std::string& wanted) {
  uint16_t port = 0;
  if (Result<Socket> listener = listen_on_loopback(&port); !listener.ok()) return listener.status();
  for (std::string* command : {&server, &client}) {
    for (size_t at = 0; (at = command->find("PORT")) != std::string::npos;) {
      command->replace(at, 4, std::to_string(port));
    }
  }
  return output_of(
      fmt::format("timeout 20 {} >/dev/null 2>&1 & i=0; "
                  "until o=$(timeout 15 {} 2>/dev/null) && printf '%s' \"$o\" | grep -q '{}' || "
                  "[ $((i += 1)) -gt 20 ]; do sleep 0.1; done; "
                  "wait; printf '%s' \"$o\"",
                  server, client, wanted));
}

Status not_understood(const std::string& program) {
  return Status(Code::kUnsupported, fmt::format("{} did not run here, or printed something else "
                                                "than expected",
                                                program));
}

}  // namespace te::bench
