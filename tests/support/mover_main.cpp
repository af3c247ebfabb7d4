// te_test_mover: an initiator in a process of its own, for tests that need a real one.
//
//   te_test_mover --segment NAME [--metadata M] [--name N] [--host H] [--at OFFSET] [--size BYTES]
//                 [--volume BYTES] [--threads N] [--piece BYTES] [--transport T]
//                 [--forbid first|later|files] [--user UID] [--own-pids 1]
//
// Moves that many bytes to and from the segment, compares what comes back, and prints how many were
// moved in how long, then what each path did: "path TRANSPORT BYTES FAILED_SLICES". Status 0: every
// byte was right; 1: why not, on stderr; 77: this system does not let it do what was asked for.
// --forbid: it may not touch the memory of other processes, from before its engine was made, or
// after the first bytes were moved; or it may make no memory files. --own-pids: it runs in a pid
// namespace of its own.
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "support/forbid.h"
#include "support/moves.h"

namespace {

using Options = std::map<std::string, std::string>;

int give_up(const std::string& why) {
  std::fprintf(stderr, "te_test_mover: %s\n", why.c_str());
  return 1;
}

constexpr int kNotPossible = 77;

int run(const Options& options) {
  const auto option = [&options](const char* name) { return options.find(name)->second; };
  if (option("--forbid") == "first" && !te::test::forbid_cross_memory()) return kNotPossible;
  if (option("--forbid") == "files" && !te::test::forbid_memory_files()) return kNotPossible;
  te::EngineOptions own;
  own.metadata = option("--metadata");
  own.name = option("--name");
  own.host = option("--host");
  own.addressing = te::Addressing::kAuto;
  const te::Result<std::unique_ptr<te::Engine>> engine = te::Engine::create(own);
  if (!engine.ok()) return give_up(engine.status().to_string());
  if (!option("--transport").empty()) {
    const te::Status installed = (*engine)->install_transport(option("--transport"));
    if (!installed.ok()) return give_up(installed.to_string());
  }
  const te::Result<te::SegmentId> segment = (*engine)->open_segment(option("--segment"));
  if (!segment.ok()) return give_up(segment.status().to_string());
  te::test::MoveOptions moves;
  moves.remote_at = std::stoull(option("--at"));
  moves.remote_size = std::stoull(option("--size"));
  moves.volume = std::stoull(option("--volume"));
  moves.threads = std::stoull(option("--threads"));
  moves.piece_max = std::stoull(option("--piece"));
  const auto begin = std::chrono::steady_clock::now();
  te::test::MoveResult result;
  if (option("--forbid") == "later") {
    te::test::MoveOptions first = moves;
    first.volume = 1;
    result = te::test::move_and_verify(**engine, *segment, first);
    if (!result.error.empty()) return give_up(result.error);
    if (!te::test::forbid_cross_memory()) return kNotPossible;
  }
  result = te::test::move_and_verify(**engine, *segment, moves);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  if (!result.error.empty()) return give_up(result.error);
  std::printf("moved %llu bytes in %.2f s\n", static_cast<unsigned long long>(result.bytes),
              took.count());
  for (const te::PathInfo& path : (*engine)->paths()) {
    if (path.segment != option("--segment")) continue;
    std::printf("path %s %llu %llu\n", path.transport.c_str(),
                static_cast<unsigned long long>(path.completed_bytes),
                static_cast<unsigned long long>(path.failed_slices));
  }
  return 0;
}

// Past a leak checker: it cannot stop the threads of a namespace's first process, nor start a
// thread of its own where that process is gone.
[[noreturn]] void leave(int status) {
  std::fflush(stdout);
  ::syscall(SYS_exit_group, status);
  std::abort();
}

int in_own_pids(const Options& options) {
  if (::unshare(CLONE_NEWPID) != 0) return kNotPossible;
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    leave(run(options));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  leave(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

}  // namespace

int main(int argc, char** argv) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  Options options = {{"--segment", ""}, {"--metadata", "P2PHANDSHAKE"},
                     {"--name", ""},    {"--host", ""},
                     {"--at", "0"},     {"--size", "1048576"},
                     {"--volume", "0"}, {"--threads", "4"},
                     {"--piece", "0"},  {"--transport", ""},
                     {"--forbid", ""},  {"--user", ""},
                     {"--own-pids", ""}};
  for (int i = 1; i < argc; i += 2) {
    if (!options.contains(argv[i]) || i + 1 == argc) {
      std::fprintf(stderr, "te_test_mover: do not understand '%s'\n", argv[i]);
      return 2;
    }
    options[argv[i]] = argv[i + 1];
  }
  if (!options["--user"].empty()) {
    const auto user = static_cast<uid_t>(std::stoul(options["--user"]));
    if (::setresuid(user, user, user) != 0) return kNotPossible;
  }
  return options["--own-pids"].empty() ? run(options) : in_own_pids(options);
}
