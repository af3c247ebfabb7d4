// What the library logs while one of these lives.
//
// Threads: any.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "transfer_engine/engine.h"

namespace te::test {

class LogLines {
 public:
  LogLines() {
    set_log_hook([this](LogLevel, std::string_view line) {
      const std::lock_guard lock(mutex_);
      lines_.emplace_back(line);
    });
  }
  ~LogLines() { set_log_hook(nullptr); }
  LogLines(const LogLines&) = delete;
  LogLines& operator=(const LogLines&) = delete;

  // How many lines have all of the texts.
  int with(std::initializer_list<std::string_view> texts) {
    const std::lock_guard lock(mutex_);
    const auto has_all = [texts](std::string_view line) {
      return std::all_of(texts.begin(), texts.end(), [line](std::string_view text) {
        return line.find(text) != std::string_view::npos;
      });
    };
    return static_cast<int>(std::count_if(lines_.begin(), lines_.end(), has_all));
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

}  // namespace te::test
