#include "command.h"

#include <fmt/core.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace te::tool {

int fail(const std::string& message) {
  std::fputs(("te: " + message + "\n").c_str(), stderr);
  return kExitFailed;
}

int fail(const Status& status) { return fail(status.to_string()); }

Status print(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) {
    return {};
  }
  return Status(Code::kResource, fmt::format("cannot write to stdout: {}", std::strerror(errno)));
}

}  // namespace te::tool
