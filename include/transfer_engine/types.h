// The plain types of the C++ API. The numbers are those of the C API.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "transfer_engine/status.h"

namespace te {

// A segment as opened by one engine. Never reused while the engine lives, except after 2^16
// reopenings.
using SegmentId = int32_t;
// Slot and generation of a batch, never a pointer: a stale or forged id is an error.
using BatchId = uint64_t;

inline constexpr SegmentId kLocalSegment = 0;  // the caller's own segment
inline constexpr BatchId kInvalidBatch = UINT64_MAX;

enum class Opcode : int32_t { kRead = 0, kWrite = 1 };

// How target_offset is read. A number may be both an offset and an address: buffers may lie at low
// addresses (static data and the heap of non-PIE programs, MAP_32BIT) below the end of a large
// segment.
enum class Addressing : int32_t {
  kDefault = 0,  // the mode of the engine
  kAuto = 1,     // whichever fits; refused if both ever fitted since the segment was opened
  kOffset = 2,   // bytes from the segment's start
  kAddress = 3,  // an address in the target's process
};

// State of a task. From kInvalid on it is terminal: nothing touches its local memory any more.
enum class TaskState : int32_t {
  kWaiting = 0,  // not submitted
  kPending = 1,  // submitted, in flight
  kInvalid = 2,
  kCancelled = 3,
  kCompleted = 4,  // WRITE: in place at the target; READ: in the source buffer
  kTimeout = 5,
  kFailed = 6,
};

inline bool is_terminal(TaskState state) { return state >= TaskState::kInvalid; }

// One READ or WRITE of one contiguous range.
struct TransferRequest {
  Opcode opcode = Opcode::kWrite;
  void* source = nullptr;  // local memory, inside one registered buffer; a READ fills it
  SegmentId target_id = kLocalSegment;
  uint64_t target_offset = 0;  // bytes from the segment's start, unless Addressing differs
  uint64_t length = 0;         // bytes; 0 completes at once
};

// Two arrays of blocks of one size, here and at the target, such as one layer of a KV cache.
struct BlockRegion {
  void* source = nullptr;      // where block 0 begins here
  uint64_t target_offset = 0;  // where block 0 begins at the target; read as that of a request
  uint64_t block_size = 0;     // bytes
};

// READs or WRITEs of whole blocks, as one task: in each region, block source_blocks[i] here and
// block target_blocks[i] at the target. Blocks that follow each other at both ends are moved
// together.
struct BlockList {
  Opcode opcode = Opcode::kWrite;
  SegmentId target_id = kLocalSegment;
  std::span<const BlockRegion> regions = {};
  std::span<const uint64_t> source_blocks = {};
  std::span<const uint64_t> target_blocks = {};  // as many
};

// READs or WRITEs of ranges, as one task. Ranges that follow each other at both ends are moved
// together. The arrays have the same length.
struct AddressList {
  Opcode opcode = Opcode::kWrite;
  SegmentId target_id = kLocalSegment;
  std::span<const uint64_t> sources = {};  // addresses here
  std::span<const uint64_t> target_offsets = {};
  std::span<const uint64_t> lengths = {};
};

struct TransferStatus {
  TaskState state = TaskState::kWaiting;
  uint64_t transferred_bytes = 0;
};

struct BatchOptions {
  // When the batch has ended, it goes into the completion queue of the engine.
  bool completion_queue = false;
};

// A batch of the completion queue, and its status over all tasks.
struct Completion {
  BatchId batch = kInvalidBatch;
  TransferStatus status = {};
};

// Why a task failed: peer, address, reason, what to do. Ok if it completed or is not terminal.
struct TaskError {
  Status status = {};
};

struct BufferEntry {
  void* addr = nullptr;
  size_t length = 0;  // bytes
};

// What peers may do to a registered buffer. kDefault offers what the memory allows: weights mapped
// with PROT_READ can be read and not written. Access that is stated in full and that the memory
// does not allow is an error.
enum class Access : int32_t {
  kNone = 0,       // local use only
  kDefault = 1,    // READ and WRITE, as far as the memory allows
  kRead = 2,       // READ only
  kWrite = 3,      // WRITE only
  kReadWrite = 4,  // READ and WRITE, or an error
};

enum class HugePages : int32_t {
  kNo = 0,
  kPrefer = 1,   // normal ones if there are none
  kRequire = 2,  // an error if there are none
};

struct AllocateOptions {
  std::string location = "*";  // "cpu:N": on that memory node
  HugePages huge_pages = HugePages::kNo;
  Access access = Access::kDefault;
};

// What memory is made of. Numbers that are not here are those of newer peers.
enum class MemoryKind : uint8_t {
  kHost = 0,
  kCuda = 1,  // of an NVIDIA GPU
  kFile = 2,
};

struct Notification {
  std::string name = {};     // text: no NUL; at most 262,144 bytes
  std::string message = {};  // any bytes; at most 524,288
};

// One buffer of a segment. `offset` is where it begins in the segment; target_offset of a
// TransferRequest counts from the same start.
struct SegmentBuffer {
  uint64_t address = 0;  // in the target's process
  uint64_t offset = 0;
  uint64_t length = 0;
  std::string location = {};           // such as "cpu:0" or "cuda:1", by the target's numbers
  bool remote_accessible = true;       // peers may read or write it
  Access access = Access::kReadWrite;  // which of the two; never kDefault
  MemoryKind kind = MemoryKind::kHost;
};

struct SegmentInfo {
  std::string name = {};
  std::string host = {};  // where the engine behind it is reached
  uint16_t port = 0;
  uint64_t instance = 0;    // changes when the process restarts
  uint64_t generation = 0;  // changes when its buffers do
  std::vector<SegmentBuffer> buffers = {};
};

// Load of one device: a NIC, or a transport without NICs.
struct DeviceLoad {
  std::string device = {};
  uint64_t inflight_bytes = 0;
  double bandwidth_bytes_per_s = 0;  // moving average
};

// One path to one open segment.
struct PathInfo {
  std::string segment = {};
  std::string transport = {};
  std::string local_device = {};
  std::string remote_device = {};
  std::string remote_address = {};
  // "tls"; "none": it goes over a network as it is; "host": it does not leave this machine.
  std::string encryption = {};
  std::string state = {};  // "idle", "connecting", "ready", "failed"
  std::string last_error = {};
  uint64_t inflight_bytes = 0;
  uint64_t completed_bytes = 0;
  // Of these, through parts in host memory at an end: the path does not reach the memory there.
  uint64_t staged_bytes = 0;
  uint64_t completed_slices = 0;
  uint64_t failed_slices = 0;  // without those whose task was cancelled before they were posted
};

// Whether a transport can serve on this machine.
struct TransportInfo {
  std::string name = {};
  bool available = false;
  bool installed = false;
  std::string detail = {};  // libraries and devices found, or what is missing
};

struct ProbeResult {
  uint64_t connect_us = 0;  // resolve and connect
  std::vector<uint64_t> round_trips_ns = {};
};

}  // namespace te
