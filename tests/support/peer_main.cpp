// te_test_peer: an engine in a process of its own, with one registered buffer, for tests that need
// a real target. It uses the C API alone; settings of its engine come from the environment.
//
//   te_test_peer --metadata M --name N --host H --port P --size BYTES --seed S [--graceful]
//                [--allocate] [--fragile] [--aliased] [--forbid-files] [--transport T]
//                [--descriptors N] [--own-pids] [--gpu N [--gpu-kind KIND]]
//
// --gpu: its memory is of that GPU; the program te_test_gpu_peer alone has any. --gpu-kind: whole
// (the default), chunks, fabric, managed or pool.
// --own-pids: it runs in a pid namespace of its own.
// --aliased: every page of the buffer is the same page, so a WRITE of several pages does not last.
// --forbid-files: the process may make no memory files, from its beginning.
// --descriptors: the most that the process may have, from its beginning.
//
// Prints "ready SEGMENT ENDPOINT ADDRESS" once it serves, then answers each line of its input:
//   stamp SEED            the buffer gets the pattern of the seed       -> ok
//   fill BYTE             the buffer is filled with one byte            -> ok
//   check SEED AT LENGTH  whether that range has the seed's pattern     -> same | differs at N
//   same SEED AT LENGTH   whether that range is as stamp left it       -> same | differs at N
//   filled BYTE           whether the buffer has nothing else           -> same | differs at N
//   unregister, register                                                -> ok | error TEXT
//   free                  with --allocate: gives the buffer back        -> ok | error TEXT
//   engines N             makes that many more engines, with 64 KiB each  -> their segments
//   damage KIND AT LENGTH with --fragile: makes that range inaccessible   -> ok | error
//   restore                             and all of it accessible again  -> ok | error
//   notifications         how many arrived since the last time          -> COUNT
//   hold                  takes every descriptor that is left             -> ok
//   release               gives them back                                 -> ok
//   logged                how many lines the library has logged           -> COUNT
// It ends when its input does (status 0), or with the thread that started it.
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "support/bytes.h"
#include "support/forbid.h"
#include "support/fragile_memory.h"
#include "transfer_engine_c.h"

#ifdef TE_TEST_GPU
#include "support/gpu_peer.h"
#endif

namespace {

using te::test::difference;
using te::test::kSame;
using te::test::other_than;

struct Peer {
  transfer_engine_t engine = nullptr;
  std::byte* memory = nullptr;
  std::byte* on_gpu = nullptr;  // where engines know it, if it is memory of a GPU
  std::byte* registered() const { return on_gpu == nullptr ? memory : on_gpu; }
  size_t size = 0;
  std::unique_ptr<te::test::FragileMemory> fragile;
  std::vector<transfer_engine_t> more;  // by the command engines
#ifdef TE_TEST_GPU
  std::unique_ptr<te::test::PeerGpuMemory> gpu;
#endif
};

std::atomic<int> lines_logged{0};

void log_line(int, const char* message, void*) {
  ++lines_logged;
  std::fprintf(stderr, "te_test_peer: %s\n", message);
}

int give_up(const std::string& what) {
  std::fprintf(stderr, "te_test_peer: %s: %s\n", what.c_str(), transferEngineLastError());
  return 1;
}

std::string outcome(int code) {
  return code == 0 ? "ok" : std::string("error ") + transferEngineLastError();
}

std::string compared(size_t at) {
  return at == kSame ? "same" : "differs at " + std::to_string(at);
}

std::string count_notifications(const Peer& peer) {
  int count = 0;
  notify_msg_t* messages = getNotifsFromEngine(peer.engine, &count);
  if (count > 0) freeNotifsMsgBuf(messages, count);
  return std::to_string(count);
}

std::string more_engines(Peer& peer, uint64_t count) {
  constexpr size_t kSize = 64 << 10;
  std::string names;
  for (uint64_t i = 0; i < count; ++i) {
    const transfer_engine_t engine =
        createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0);
    if (engine != nullptr) peer.more.push_back(engine);
    void* memory =
        ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char endpoint[256];
    if (engine == nullptr || installTransport(engine, "tcp", nullptr) == nullptr ||
        registerLocalMemory(engine, memory, kSize, "*", 1) != 0 ||
        getLocalIpAndPort(engine, endpoint, sizeof endpoint) != 0) {
      return std::string("error ") + transferEngineLastError();
    }
    names += (i == 0 ? "" : " ") + std::string(endpoint);
  }
  return names;
}

std::string hold_descriptors(bool hold) {
  static std::vector<int> held;
  for (int fd = 0; hold && (fd = ::dup(0)) >= 0;) held.push_back(fd);
  for (const int fd : held) {
    if (!hold) ::close(fd);
  }
  if (!hold) held.clear();
  return "ok";
}

void* alias_one_page(size_t size) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const int file = ::memfd_create("te-test-page", MFD_CLOEXEC);
  if (file < 0 || size % page != 0 || ::ftruncate(file, static_cast<off_t>(page)) != 0) {
    return MAP_FAILED;
  }
  void* memory = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (size_t at = 0; memory != MAP_FAILED && at < size; at += page) {
    void* const place = static_cast<std::byte*>(memory) + at;
    if (::mmap(place, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) != place) {
      return MAP_FAILED;
    }
  }
  ::close(file);
  return memory;
}

// Where the processor sees it.
std::byte* make_gpu_memory(Peer& peer, int gpu, const std::string& kind) {
#ifdef TE_TEST_GPU
  peer.gpu = std::make_unique<te::test::PeerGpuMemory>(gpu, kind, peer.size);
  peer.on_gpu = peer.gpu->data();
  return peer.gpu->view();
#else
  (void)peer;
  (void)gpu;
  (void)kind;
  return nullptr;
#endif
}

void* make_memory(Peer& peer, std::map<std::string, std::string>& options, bool allocate,
                  bool fragile, bool aliased) {
  const std::string& gpu = options["--gpu"];
  if (!gpu.empty()) return make_gpu_memory(peer, std::stoi(gpu), options["--gpu-kind"]);
  if (allocate) return allocateMemory(peer.engine, peer.size, "*", HUGE_PAGES_NO);
  if (fragile) {
    peer.fragile = std::make_unique<te::test::FragileMemory>(peer.size);
    return peer.fragile->data();
  }
  if (aliased) return alias_one_page(peer.size);
  return ::mmap(nullptr, peer.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

std::string damage(const Peer& peer, const std::string& kind, uint64_t at, uint64_t length) {
  for (const te::test::Damage damage : te::test::kDamages) {
    if (kind != te::test::name_of(damage)) continue;
    return peer.fragile && peer.fragile->damage(damage, at, length) ? "ok" : "error";
  }
  return "error unknown kind";
}

std::string obey(Peer& peer, const std::string& line) {
#ifdef TE_TEST_GPU
  if (peer.gpu) {
    peer.memory = peer.gpu->view();  // it may have been replaced
    if (std::optional<std::string> answer = peer.gpu->obey(peer.engine, line)) return *answer;
    peer.memory = peer.gpu->view();
  }
#endif
  std::istringstream words(line);
  std::string command;
  uint64_t seed = 0, at = 0, length = 0;
  words >> command;
  if (command == "damage") {
    std::string kind;
    words >> kind >> at >> length;
    return damage(peer, kind, at, length);
  }
  if (command == "restore") return peer.fragile && peer.fragile->restore() ? "ok" : "error";
  words >> seed >> at >> length;
  if (command == "stamp") {
    te::test::stamp(peer.memory, peer.size, seed);
    return "ok";
  }
  if (command == "fill") {
    te::test::fill_with(peer.memory, peer.size, static_cast<std::byte>(seed));
    return "ok";
  }
  if (command == "check") {
    if (at > peer.size || length > peer.size - at) return "error range";
    return compared(difference(peer.memory + at, length, seed));
  }
  if (command == "same") {
    const uint64_t begin = (at + 7) / 8 * 8;
    if (begin > peer.size || at + length > peer.size) return "error range";
    if (at + length <= begin) return "same";
    return compared(difference(peer.memory + begin, at + length - begin, seed, begin));
  }
  if (command == "filled") {
    return compared(other_than(peer.memory, peer.size, static_cast<std::byte>(seed)));
  }
  if (command == "unregister")
    return outcome(unregisterLocalMemory(peer.engine, peer.registered()));
  if (command == "free") return outcome(freeMemory(peer.engine, peer.memory));
  if (command == "register") {
    return outcome(registerLocalMemory(peer.engine, peer.registered(), peer.size, "*", 1));
  }
  if (command == "engines") return more_engines(peer, seed);
  if (command == "notifications") return count_notifications(peer);
  if (command == "hold" || command == "release") return hold_descriptors(command == "hold");
  if (command == "logged") return std::to_string(lines_logged.load());
  return "error unknown command";
}

// Returns in a child, which is the first process of the namespace.
void enter_own_pids() {
  if (::unshare(CLONE_NEWPID) != 0) std::exit(give_up("no pid namespace"));
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    return;
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  // Nothing can be forked here any more, which a search for leaks would do.
  ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

std::map<std::string, std::string> default_options() {
  return {{"--metadata", "P2PHANDSHAKE"},
          {"--name", ""},
          {"--host", ""},
          {"--port", "0"},
          {"--size", "1048576"},
          {"--seed", "0"},
          {"--transport", ""},
          {"--descriptors", "0"},
          {"--gpu", ""},
          {"--gpu-kind", "whole"}};
}

}  // namespace

int main(int argc, char** argv) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::map<std::string, std::string> options = default_options();
  bool graceful = false, allocate = false, fragile = false, aliased = false, forbid_files = false;
  for (int i = 1; i < argc; ++i) {
    if (std::string(argv[i]) == "--graceful") {
      graceful = true;
    } else if (std::string(argv[i]) == "--allocate") {
      allocate = true;
    } else if (std::string(argv[i]) == "--fragile") {
      fragile = true;
    } else if (std::string(argv[i]) == "--aliased") {
      aliased = true;
    } else if (std::string(argv[i]) == "--forbid-files") {
      forbid_files = true;
    } else if (std::string(argv[i]) == "--own-pids") {
      enter_own_pids();
    } else if (options.contains(argv[i]) && i + 1 < argc) {
      options[argv[i]] = argv[i + 1];
      ++i;
    } else {
      std::fprintf(stderr, "te_test_peer: do not understand '%s'\n", argv[i]);
      return 2;
    }
  }
  if (forbid_files && !te::test::forbid_memory_files()) return give_up("no seccomp filters");
  if (const rlim_t most = std::stoull(options["--descriptors"]); most != 0) {
    const rlimit limit{most, most};
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  setTransferEngineLogCallback(log_line, nullptr);
  Peer peer;
  peer.size = std::stoull(options["--size"]);
  peer.engine = createTransferEngine(options["--metadata"].c_str(), options["--name"].c_str(),
                                     options["--host"].c_str(), std::stoull(options["--port"]), 0);
  if (peer.engine == nullptr) return give_up("no engine");
  if (!options["--transport"].empty() &&
      installTransport(peer.engine, options["--transport"].c_str(), nullptr) == nullptr) {
    return give_up("no transport");
  }
  void* memory = make_memory(peer, options, allocate, fragile, aliased);
  if (memory == nullptr || memory == MAP_FAILED) return give_up("no memory");
  peer.memory = static_cast<std::byte*>(memory);
  te::test::stamp(peer.memory, peer.size, std::stoull(options["--seed"]));
  if (graceful) enableGracefulShutdown(peer.engine);
  if (!allocate && registerLocalMemory(peer.engine, peer.registered(), peer.size, "*", 1) != 0) {
    return give_up("no registration");
  }
  char endpoint[256];
  if (getLocalIpAndPort(peer.engine, endpoint, sizeof endpoint) != 0) return give_up("no endpoint");
  const bool no_server = options["--metadata"] == "P2PHANDSHAKE";
  std::printf("ready %s %s %p\n", no_server ? endpoint : options["--name"].c_str(), endpoint,
              static_cast<void*>(peer.registered()));
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    std::printf("%s\n", obey(peer, line).c_str());
    std::fflush(stdout);
  }
  for (const transfer_engine_t engine : peer.more) destroyTransferEngine(engine);
  destroyTransferEngine(peer.engine);
  return 0;
}
