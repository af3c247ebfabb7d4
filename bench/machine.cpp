#include "machine.h"

#include <fmt/core.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <map>

#include "size_text.h"
#include "transfer_engine/engine.h"

namespace te::bench {
namespace {

// With family and model: the name of a virtual processor is often that of all of its vendor.
std::string cpu_model() {
  std::map<std::string, std::string> known;  // of the first core
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line) && !line.empty();) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos || colon + 2 > line.size()) continue;
    known.emplace(line.substr(0, line.find_last_not_of("\t ", colon - 1) + 1),
                  line.substr(colon + 2));
  }
  if (!known.contains("model name")) return "unknown";
  std::string result = known["model name"];
  if (known.contains("cpu family")) {
    result += fmt::format(" (family {}, model {})", known["cpu family"], known["model"]);
  }
  return result;
}

}  // namespace

Machine this_machine() {
  Machine result;
  result.cpu = cpu_model();
  result.cores = sysconf(_SC_NPROCESSORS_ONLN);
  result.memory = tool::bytes_text(static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) *
                                   static_cast<uint64_t>(sysconf(_SC_PAGESIZE)));
  utsname names{};
  uname(&names);
  result.kernel = std::string(names.sysname) + " " + names.release;
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  result.date = text;
  result.version = std::string(version());
  return result;
}

std::vector<std::pair<std::string, std::string>> facts(const Machine& machine) {
  return {{"CPU", machine.cpu},       {"cores", std::to_string(machine.cores)},
          {"memory", machine.memory}, {"kernel", machine.kernel},
          {"date", machine.date},     {"version", machine.version}};
}

}  // namespace te::bench
