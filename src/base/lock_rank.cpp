#include "base/lock_rank.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <iterator>

namespace te::lock_order {
namespace {

constexpr const char* kNames[] = {
    "part of another lock",
    "installing a transport",
    "host memory that a peer stages in",
    "a part of it",
    "registration, against installation",
    "the topology",
    "one call to the directory after the other",
    "receiving on a TCP connection",
    "slices in recovery",
    "notifications to be sent",
    "a batch",
    "the table of batches",
    "a new target of a segment",
    "the encoded descriptor",
    "the load of devices",
    "what a link to another process is made by",
    "a link to another process",
    "what a transport made",
    "the endpoints of a NIC",
    "progress of a NIC",
    "the rails to a peer",
    "the connections to a peer",
    "memory regions",
    "the responders of a NIC",
    "a responder",
    "the open segments",
    "a segment",
    "the registry of buffers",
    "the installed transports",
    "a leaf: only those of base follow",
    "an event loop or a pool",
    "libraries opened at run time",
    "the environment",
    "the handler of signals",
    "the log",
};
constexpr size_t kRanks = std::size(kNames);
static_assert(kRanks == static_cast<size_t>(LockRank::kLog) + 1);

// Locks held, by rank.
constinit thread_local std::array<uint16_t, kRanks> held{};

constinit thread_local bool unchecked = false;

}  // namespace

void about_to_wait(LockRank rank) {
  if (rank == LockRank::kUnchecked || unchecked) return;
  const auto wanted = static_cast<size_t>(rank);
  for (size_t i = wanted; i < kRanks; ++i) {
    if (held[i] == 0) continue;
    std::fprintf(stderr,
                 "lock order: a thread that holds a lock of rank '%s' waits for one of rank '%s' "
                 "(base/lock_rank.h)\n",
                 kNames[i], kNames[wanted]);
    std::abort();
  }
}

void taken(LockRank rank) { ++held[static_cast<size_t>(rank)]; }

void released(LockRank rank) { --held[static_cast<size_t>(rank)]; }

void stop_checking(bool stopped) { unchecked = stopped; }

}  // namespace te::lock_order
