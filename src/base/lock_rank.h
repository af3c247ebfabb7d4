// The order in which one thread takes locks. Each lock has a rank; while a thread holds it, it
// waits only for locks of later ranks. Builds with a sanitizer check that, whichever locks a test
// happens to bring together: a breach ends the process with the names of both.
//
// Values; no state but what each thread holds.
#pragma once

#include <cstdint>

namespace te {

// Outermost first.
enum class LockRank : uint8_t {
  kUnchecked,    // part of another lock
  kInstall,      // installing a transport
  kLease,        // host memory that a peer stages in
  kLeasePart,    // a part of it
  kBarrier,      // registration, against installation
  kTopology,     // the topology
  kDirectory,    // one call to the directory after the other
  kReceiving,    // receiving on a TCP connection
  kRecovery,     // slices in recovery
  kNotifier,     // notifications to be sent
  kBatch,        // a batch
  kBatchTable,   // the table of batches
  kTarget,       // a new target of a segment
  kDescriptor,   // the encoded descriptor
  kMeter,        // the load of devices
  kLinkOwner,    // what a link to another process is made by
  kLink,         // a link to another process
  kTransport,    // what a transport made
  kNic,          // the endpoints of a NIC
  kProgress,     // progress of a NIC
  kRails,        // the rails to a peer
  kConnection,   // the connections to a peer
  kRegions,      // memory regions
  kResponders,   // the responders of a NIC
  kResponder,    // a responder
  kSegments,     // the open segments
  kSegment,      // a segment
  kMemory,       // the registry of buffers
  kTransports,   // the installed transports
  kLeaf,         // a leaf: only those of base follow
  kLoop,         // an event loop or a pool
  kLibrary,      // libraries opened at run time
  kEnvironment,  // the environment
  kGuard,        // the handler of signals
  kLog,          // the log
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TE_CHECKS_LOCK_ORDER 1
#define TE_LOCK_ORDER(call) call
#else
#define TE_LOCK_ORDER(call)
#endif

// Of the calling thread.
namespace lock_order {
void about_to_wait(LockRank rank);
void taken(LockRank rank);
void released(LockRank rank);
// While a process forks, one thread holds all locks that the child needs.
void stop_checking(bool stopped);
}  // namespace lock_order

}  // namespace te
