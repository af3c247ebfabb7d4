// The engine's name in the directory: published, withdrawn once, and left at the end.
//
// Threads: any, once set_name() was called; publish() and the end by one each.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "directory/directory.h"
#include "engine/answer.h"

namespace te {

class Publication {
 public:
  explicit Publication(std::unique_ptr<Directory> directory) : directory_(std::move(directory)) {}

  // Threads that hang in it keep it.
  const std::shared_ptr<Directory>& directory() const { return directory_; }
  void set_name(std::string name) { name_ = std::move(name); }
  const std::string& name() const { return name_; }

  // As Directory::publish() of the name.
  Status publish(const Locator& locator, const std::function<bool(const Locator&)>& alive);
  // Takes the name out of the directory, as the user asks. kNotFound where it is not published.
  Status remove();
  // The same for a signal or the end, where nobody hears of a failure.
  void withdraw();

  // The end: the directory, which may be slow, is left while the engine does other things.
  void begin_leave();
  // Waits a little for the directory. A name that stays there is logged.
  void finish_leave();

 private:
  const std::shared_ptr<Directory> directory_;
  std::string name_;
  std::atomic<bool> published_{false};
  bool left_published_ = false;
  std::shared_ptr<Answer<Status>> left_;
};

}  // namespace te
