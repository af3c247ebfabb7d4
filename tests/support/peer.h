// A target in a process of its own: te_test_peer, told what to do line by line.
//
// Start it from a thread that lives as long as the test: the kernel kills it when that thread ends,
// and it ends by itself when this side of its pipe is closed. One thread at a time, except ask(),
// which serializes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/fd.h"

namespace te::test {

struct PeerOptions {
  std::string metadata = "P2PHANDSHAKE";
  std::string name = "127.0.0.1";
  std::string host = "127.0.0.1";
  uint16_t port = 0;
  uint64_t size = 1 << 20;                              // bytes, registered
  uint64_t seed = 0;                                    // of the pattern they have at the start
  bool graceful = false;                                // with enableGracefulShutdown()
  bool allocate = false;                                // the engine allocates its memory
  bool fragile = false;                                 // that can be damaged
  bool forbid_files = false;                            // it may make no memory files
  bool own_pids = false;                                // in a pid namespace of its own
  uint64_t descriptors = 0;                             // as many as it may have; 0: as here
  int gpu = -1;                                         // whose memory it is; -1: of none
  std::string gpu_kind = "whole";                       // of it: see peer_main.cpp
  std::string transport = {};                           // to install; empty: the default
  std::map<std::string, std::string> environment = {};  // settings of its engine
};

class PeerProcess {
 public:
  // Fails the test when the peer does not come up; then running() is false.
  explicit PeerProcess(const PeerOptions& options);
  // Asks it to end, and makes sure of it. Fails the test when it ends by itself with a status other
  // than 0, as after a crash or a leak.
  ~PeerProcess();
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  bool running() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }
  const std::string& segment() const { return segment_; }    // what to open
  const std::string& endpoint() const { return endpoint_; }  // host:port
  uint16_t port() const;
  uint64_t address() const { return address_; }  // of its memory, in its process

  // Sends a line and returns the answer: see peer_main.cpp. Empty when it is gone.
  std::string ask(const std::string& command);
  void signal(int number) const;
  // SIGSTOP, and returns when every thread of it stands still; signal(SIGCONT) lets it go on.
  void stop() const;
  // Closes its input; it should end by itself.
  void close_input() { to_.reset(); }
  // Waits for its end; the status as waitpid gives it, or -1 when it is still there after `limit`.
  int wait_for_end(int limit_ms = 20'000);
  // As a crash would; returns when it is gone.
  void kill();

 private:
  std::string read_line(int limit_ms);

  pid_t pid_ = -1;
  Fd to_;
  Fd from_;
  std::string received_;
  std::string segment_;
  std::string endpoint_;
  uint64_t address_ = 0;
  std::mutex asking_;
};

struct MoverOptions {
  std::string segment;
  uint64_t at = 0;
  uint64_t size = 0;
  uint64_t volume = UINT64_MAX;
  // As mover_main.cpp's: {"--forbid", "first"}, say.
  std::vector<std::string> more = {};
};

// Starts a te_test_mover; its pid. Whoever starts it kills it and waits for it.
pid_t start_mover(const MoverOptions& options);

// Runs one to its end.
struct MoverEnd {
  // This system does not let it do what was asked for.
  static constexpr int kNotPossible = 77;
  int status = -1;
  std::string said;  // on stdout and stderr

  // What its path of this transport did.
  uint64_t bytes(const std::string& transport) const { return number(transport, 0); }
  uint64_t failed_slices(const std::string& transport) const { return number(transport, 1); }

 private:
  uint64_t number(const std::string& transport, int column) const;
};
MoverEnd run_mover(const MoverOptions& options);

// What a te_test_mover with these settings in its environment says on stderr before it ends.
std::string mover_error(const std::map<std::string, std::string>& environment);

}  // namespace te::test
