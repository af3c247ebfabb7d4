// te_test_mover: an initiator in a process of its own, for tests that need a real one.
//
//   te_test_mover --segment NAME [--metadata M] [--name N] [--host H] [--at OFFSET] [--size BYTES]
//                 [--volume BYTES] [--threads N] [--piece BYTES]
//
// Moves that many bytes to and from the segment, compares what comes back, and prints how many were
// moved in how long. Status 0: every byte was right; 1: why not, on stderr.
#include <sys/prctl.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <map>
#include <string>

#include "support/moves.h"

int main(int argc, char** argv) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::map<std::string, std::string> options = {
      {"--segment", ""}, {"--metadata", "P2PHANDSHAKE"}, {"--name", ""},    {"--host", ""},
      {"--at", "0"},     {"--size", "1048576"},          {"--volume", "0"}, {"--threads", "4"},
      {"--piece", "0"}};
  for (int i = 1; i < argc; i += 2) {
    if (!options.contains(argv[i]) || i + 1 == argc) {
      std::fprintf(stderr, "te_test_mover: do not understand '%s'\n", argv[i]);
      return 2;
    }
    options[argv[i]] = argv[i + 1];
  }
  te::EngineOptions own;
  own.metadata = options["--metadata"];
  own.name = options["--name"];
  own.host = options["--host"];
  const te::Result<std::unique_ptr<te::Engine>> engine = te::Engine::create(own);
  if (!engine.ok()) {
    std::fprintf(stderr, "te_test_mover: %s\n", engine.status().to_string().c_str());
    return 1;
  }
  const te::Result<te::SegmentId> segment = (*engine)->open_segment(options["--segment"]);
  if (!segment.ok()) {
    std::fprintf(stderr, "te_test_mover: %s\n", segment.status().to_string().c_str());
    return 1;
  }
  te::test::MoveOptions moves;
  moves.remote_at = std::stoull(options["--at"]);
  moves.remote_size = std::stoull(options["--size"]);
  moves.volume = std::stoull(options["--volume"]);
  moves.threads = std::stoull(options["--threads"]);
  moves.piece_max = std::stoull(options["--piece"]);
  const auto begin = std::chrono::steady_clock::now();
  const te::test::MoveResult result = te::test::move_and_verify(**engine, *segment, moves);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  if (!result.error.empty()) {
    std::fprintf(stderr, "te_test_mover: %s\n", result.error.c_str());
    return 1;
  }
  std::printf("moved %llu bytes in %.2f s\n", static_cast<unsigned long long>(result.bytes),
              took.count());
  return 0;
}
