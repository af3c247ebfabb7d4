// What a worker tells the driver: one JSON object a line, on standard output. Any thread.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace te::soak {

// Adds "event" and "at", the monotonic clock in seconds.
void report(const std::string& event, nlohmann::json fields = nlohmann::json::object());
// A breach of what the soak checks. Kinds: see soak.py.
void report_violation(const std::string& kind, const std::string& text,
                      nlohmann::json fields = nlohmann::json::object());

}  // namespace te::soak
