#include "support/facts.h"

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "base/waker.h"

namespace te::test {
namespace {

std::string folder(pid_t pid) { return pid == 0 ? "/proc/self" : "/proc/" + std::to_string(pid); }

size_t entries(const std::string& path) {
  std::error_code failure;
  std::filesystem::directory_iterator at(path, failure);
  if (failure) return SIZE_MAX;
  return static_cast<size_t>(std::distance(begin(at), end(at)));
}

}  // namespace

size_t resident_bytes(pid_t pid) {
  std::ifstream file(folder(pid) + "/statm");
  size_t total = 0, resident = 0;
  if (!(file >> total >> resident)) return SIZE_MAX;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

size_t open_descriptors(pid_t pid) {
  // A thread has it from its first sleep on: a count before that would be one too few.
  if (pid == 0) (void)Waker::of_this_thread();
  return entries(folder(pid) + "/fd");
}

std::string descriptor_names(pid_t pid) {
  std::string result;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(folder(pid) + "/fd", failure)) {
    result += entry.path().filename().string() + " " +
              std::filesystem::read_symlink(entry.path(), failure).string() + "\n";
  }
  return result;
}

size_t thread_count(pid_t pid) { return entries(folder(pid) + "/task"); }

int64_t cpu_ms(pid_t pid) {
  std::ifstream file(folder(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return -1;
  std::istringstream rest(line.substr(name_end + 2));
  std::string skipped;
  for (int field = 3; field < 14; ++field) rest >> skipped;
  int64_t user = 0, system = 0;
  rest >> user >> system;
  return (user + system) * 1000 / ::sysconf(_SC_CLK_TCK);
}

bool stop_process(pid_t pid) {
  if (pid <= 0 || ::kill(pid, SIGSTOP) != 0) return false;
  return eventually([pid] {
    std::error_code failure;
    for (const auto& task : std::filesystem::directory_iterator(folder(pid) + "/task", failure)) {
      std::ifstream file(task.path() / "stat");
      std::string line;
      std::getline(file, line);
      const size_t name_end = line.rfind(')');
      if (name_end == std::string::npos || line.compare(name_end + 1, 3, " T ") != 0) return false;
    }
    return !failure;
  });
}

}  // namespace te::test
