#include "soak/report.h"

#include <unistd.h>

#include <mutex>

#include "soak/stalls.h"

namespace te::soak {

void report(const std::string& event, nlohmann::json fields) {
  static std::mutex mutex;
  fields["event"] = event;
  fields["at"] = static_cast<double>(monotonic_ns()) / 1e9;
  const std::string line =
      fields.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  const std::lock_guard lock(mutex);
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t count = ::write(STDOUT_FILENO, line.data() + sent, line.size() - sent);
    if (count <= 0) return;  // the driver is gone, and this process soon
    sent += static_cast<size_t>(count);
  }
}

void report_violation(const std::string& kind, const std::string& text, nlohmann::json fields) {
  fields["kind"] = kind;
  fields["text"] = text;
  report("violation", std::move(fields));
}

}  // namespace te::soak
