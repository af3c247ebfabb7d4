// Where secrets are not: in logs, in errors, and in memory that nobody uses any more.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <mutex>
#include <sstream>

#include "base/fd.h"
#include "base/log.h"
#include "engine/security_support.h"

namespace te::test {
namespace {

// A secret that is not in memory as it is.
class Masked {
 public:
  explicit Masked(std::string_view secret) {
    for (const char each : secret) bytes_.push_back(static_cast<char>(each ^ kMask));
  }
  size_t size() const { return bytes_.size(); }
  bool at(const char* place) const {
    for (size_t i = 0; i < bytes_.size(); ++i) {
      if (static_cast<char>(place[i] ^ kMask) != bytes_[i]) return false;
    }
    return true;
  }

 private:
  static constexpr char kMask = 0x5a;
  std::string bytes_;
};

// Where it is in the memory of this process that can be written. Not in stacks of threads: the
// dynamic loader saves all registers there when a function is called for the first time, and a
// vector register may still hold what was copied last.
std::vector<std::string> found_in_memory(const Masked& secret) {
  struct Mapping {
    uint64_t begin, end;
    std::string name;
  };
  std::vector<Mapping> mappings;
  {
    constexpr uint64_t kGuard = 4'096;
    uint64_t guard = 0;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
      unsigned long begin = 0, end = 0;
      char access[5] = "";
      if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, access) != 3) continue;
      // A page that cannot be touched, and behind it the stack of a thread.
      const bool stack = guard == begin;
      guard = std::strncmp(access, "---", 3) == 0 && end - begin == kGuard ? end : 0;
      if (std::strncmp(access, "rw", 2) == 0 && !stack) mappings.push_back({begin, end, line});
    }
  }
  std::vector<std::string> found;
  // Not by a stream, which would keep a copy of what it read.
  const Fd memory(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  std::vector<char> piece(1 << 20);
  for (const Mapping& mapping : mappings) {
    const uint64_t step = piece.size() - secret.size();
    for (uint64_t at = mapping.begin; at < mapping.end; at += step) {
      const uint64_t wanted = std::min<uint64_t>(piece.size(), mapping.end - at);
      const ssize_t read = ::pread(memory.get(), piece.data(), wanted, static_cast<off_t>(at));
      const size_t got = read > 0 ? static_cast<size_t>(read) : 0;
      for (size_t i = 0; i + secret.size() <= got && i < step; ++i) {
        const auto* place = reinterpret_cast<const char*>(at + i);
        if (secret.at(piece.data() + i) &&
            (place < piece.data() || place >= piece.data() + piece.size())) {
          found.push_back(fmt::format("{} at {:#x}, {:#x} below its end", mapping.name, at + i,
                                      mapping.end - at - i));
        }
      }
      ::explicit_bzero(piece.data(), piece.size());
    }
  }
  return found;
}

void wipe(std::string& text) {
  ::explicit_bzero(text.data(), text.size());
  text.clear();
}

// Two engines with these files meet, and part.
void meet(const Settings& config) {
  std::unique_ptr<Engine> a = make_engine(config), b = make_engine(config);
  Registered local(*a, 4'096), remote(*b, 4'096);
  const Result<SegmentId> id = a->open_segment(b->local_endpoint());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  EXPECT_TRUE(failure_of(*a, {Opcode::kWrite, local.data(), *id, 0, 4'096}).ok());
}

TEST(Secrets, AreNotInMemoryWhenTheEngineIsGone) {
  const Cluster cluster;
  std::string line = *tool::make_secret();
  Settings config = secret_settings(cluster.path("secret"));
  const Masked as_text(line);
  std::string binary;
  for (size_t i = 0; i < line.size(); i += 2) {
    binary += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
  }
  const Masked as_bytes(binary);
  EXPECT_FALSE(found_in_memory(as_text).empty()) << "the search finds what is there";
  EXPECT_FALSE(found_in_memory(as_bytes).empty());
  {
    // Not by a stream, which keeps a copy of its own.
    std::FILE* const file = std::fopen(cluster.path("secret").c_str(), "w");
    std::setbuf(file, nullptr);
    std::fputs(line.c_str(), file);
    std::fclose(file);
    ::chmod(cluster.path("secret").c_str(), S_IRUSR | S_IWUSR);
  }
  wipe(line);
  wipe(binary);
  meet(config);
  for (const std::string& place : found_in_memory(as_text)) ADD_FAILURE() << "as text: " << place;
  for (const std::string& place : found_in_memory(as_bytes)) ADD_FAILURE() << "as bytes: " << place;
}

// With all that is logged, and every error of peers with another secret, another authority or none.
TEST(Secrets, AreInNoLogAndNoError) {
  static std::mutex mutex;
  static std::string log;
  log.clear();
  set_log_hook([](LogLevel, std::string_view text) {
    const std::lock_guard<std::mutex> lock(mutex);
    log.append(text).append("\n");
  });
  const Cluster cluster;
  const std::string secret = *tool::make_secret(), other = *tool::make_secret();
  Settings ours = secret_settings(cluster.write("ours", secret)),
           others = secret_settings(cluster.write("others", other)),
           certified = tls_settings(cluster.member("member"));
  ours["log_level"] = others["log_level"] = certified["log_level"] = "debug";
  ::chmod(cluster.path("ours").c_str(), S_IRUSR | S_IWUSR | S_IRGRP);
  meet(ours);
  std::string errors;
  const Settings wrong = secret_settings(cluster.write("wrong", secret.substr(1)));
  EngineOptions options;
  options.host = "127.0.0.1";
  options.config = wrong;
  errors += Engine::create(options).status().to_string();
  {
    std::unique_ptr<Engine> target = make_engine(ours);
    for (const Settings& each : {others, certified, Settings()}) {
      const Status refused = make_engine(each)->open_segment(target->local_endpoint()).status();
      EXPECT_FALSE(refused.ok());
      errors += refused.to_string() + "\n";
    }
  }
  set_log_hook(nullptr);
  set_log_level(LogLevel::kWarning);
  std::ifstream file(cluster.path("member.key"));
  std::stringstream key;
  key << file.rdbuf();
  const std::lock_guard<std::mutex> lock(mutex);
  EXPECT_NE(log.find("can be read by other users"), std::string::npos) << "it was listened to";
  for (const std::string* text : {&log, &errors}) {
    EXPECT_EQ(text->find(secret.substr(1, 32)), std::string::npos);
    EXPECT_EQ(text->find(other.substr(1, 32)), std::string::npos);
    EXPECT_EQ(text->find(key.str().substr(30, 40)), std::string::npos);
  }
}

}  // namespace
}  // namespace te::test
