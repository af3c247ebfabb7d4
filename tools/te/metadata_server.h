// The small HTTP metadata server: a map in memory, for trying things out and for clusters that run
// neither etcd nor redis. GET, PUT and DELETE of <path>?key=KEY; <path> alone lists what it holds;
// "/" is a page for people; "/health" answers "ok".
//
// Entries have no lease: they stay until they are deleted, and are gone after a restart, when the
// engines publish them again. With tokens only who has one may write, and only who has the token
// that wrote an entry may change or delete it; an engine that restarts with its token may replace
// what its last run left. Threads: every method from any thread, one at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "metadata_listener.h"
#include "transfer_engine/status.h"

namespace te::tool {

struct MetadataServerOptions : ServerTlsFiles {
  std::string host = "0.0.0.0";
  uint16_t port = 8080;  // 0: any free one
  std::string path = "/metadata";
  size_t max_entries = 100'000;        // one more is refused with 507
  size_t max_value_bytes = 64 * 1024;  // longer values are refused with 413
  std::string token_file;              // empty: everybody may do everything
  bool protect_reads = false;          // values and lists need a token too
};

class MetadataServer {
 public:
  explicit MetadataServer(MetadataServerOptions options);
  // Stops.
  ~MetadataServer();
  MetadataServer(const MetadataServer&) = delete;
  MetadataServer& operator=(const MetadataServer&) = delete;

  // Serves in threads of its own; returns the port. kAlreadyExists when the port is in use,
  // kInvalidArgument for files that cannot be used. May be called again after stop(), and then
  // begins empty.
  Result<uint16_t> start();
  // False once it accepts no connection any more: stopped, or refused by the system.
  bool serving() const;
  // Ends the requests under way and forgets every entry. Nothing when it does not run.
  void stop();

 private:
  class Impl;
  const MetadataServerOptions options_;
  std::unique_ptr<Impl> impl_;
};

// Says on stdout where it serves, then serves until SIGINT or SIGTERM. Returns the exit code.
int run_metadata_server(const MetadataServerOptions& options);

}  // namespace te::tool
