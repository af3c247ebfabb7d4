// A directory that knows one engine by every name, and whose look-ups hang when a test wants it.
//
// Threads: any; `place` is set while nobody looks up.
#pragma once

#include <atomic>
#include <string>
#include <utility>

#include "directory/directory.h"

namespace te::test {

class HangingDirectory final : public Directory {
 public:
  // Only look-ups of names that begin with `prefix` hang.
  explicit HangingDirectory(std::string prefix = {}) : prefix_(std::move(prefix)) {}

  std::string describe() const override { return "hanging"; }
  Status publish(std::string_view, const Locator&,
                 const std::function<bool(const Locator&)>&) override {
    return {};
  }
  Status withdraw(std::string_view) override { return {}; }
  Result<Locator> resolve(std::string_view name) override {
    ++asked;
    if (name.starts_with(prefix_)) {
      ++hanging;
      while (hangs_.load()) hangs_.wait(true);
      --hanging;
    }
    return place;
  }
  std::string local_address() const override { return {}; }

  // From now on; false also lets those go that hang.
  void hang(bool on) {
    hangs_.store(on);
    hangs_.notify_all();
  }

  Locator place;
  std::atomic<int> asked{0};    // so far
  std::atomic<int> hanging{0};  // now

 private:
  const std::string prefix_;
  std::atomic<bool> hangs_{false};
};

}  // namespace te::test
