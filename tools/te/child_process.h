// A child process that is talked to line by line over its standard input and output, and which
// never outlives this one: it is stopped by the destructor, and by the kernel should this process
// be killed.
//
// Threads: the one that started it, which must not end before the process does.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "transfer_engine/status.h"

namespace te::tool {

class ChildProcess {
 public:
  // Runs this program's own executable with `arguments`, in a process group of its own (so that a
  // Ctrl-C at the terminal reaches only the parent), with stderr shared.
  static Result<ChildProcess> start_self(const std::vector<std::string>& arguments);
  // The same with the program at `path`; one that is not there ends at once.
  static Result<ChildProcess> start(const std::string& path,
                                    const std::vector<std::string>& arguments);
  // SIGTERM, then SIGKILL when it has not ended after five seconds; leaves no zombie.
  ~ChildProcess();
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;

  // The next line without its end. kUnavailable when the child ended first, kTimeout, kCancelled
  // when a stop signal came.
  Result<std::string> read_line(std::chrono::milliseconds timeout);
  // Once its output has ended: whether it ended by itself with an error, which it has said.
  bool has_failed();
  // Adds the line's end. kUnavailable when the child ended.
  Status write_line(const std::string& line);

 private:
  ChildProcess(pid_t pid, int fd) : pid_(pid), fd_(fd) {}

  pid_t pid_ = -1;
  int fd_ = -1;
  std::string pending_;
};

}  // namespace te::tool
