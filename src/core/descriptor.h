// What a segment offers: its buffers with the keys for each transport. Made by the target from its
// registry, sent over the control channel, and looked into by initiators.
//
// A value; read-only once made. Keys are opaque bytes of one size per transport and segment.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "core/ambiguity.h"
#include "core/memory_kind.h"
#include "core/rights.h"
#include "transfer_engine/status.h"

namespace te {

struct RemoteBuffer {
  uint64_t address = 0;
  uint64_t offset = 0;
  uint64_t length = 0;
  uint32_t location = 0;  // index into Descriptor::locations
  Rights rights = Rights::kBoth;
  MemoryKind kind = MemoryKind::kHost;  // may be one that this release does not know
};

// What a request is about, at the target.
struct RemoteRange {
  uint64_t target_offset = 0;
  uint64_t length = 0;
  Rights rights = Rights::kRead;  // that it takes
  Addressing addressing = Addressing::kAuto;
};

class Descriptor {
 public:
  struct Transport {
    std::string name;
    uint32_t key_size = 0;
    Bytes info;  // the transport's own: its devices, say
  };

  // Limits on what a peer can make us hold.
  static constexpr uint64_t kMaxBuffers = 4'000'000;
  static constexpr uint64_t kMaxBytes = 512ull << 20;
  static constexpr uint32_t kMaxTransports = 32;
  static constexpr uint32_t kMaxKeySize = 1024;
  // Buffers of the engine's own are not part of the layout. Each has its address and this as
  // offset.
  static constexpr uint64_t kOwnOffsets = uint64_t{1} << 63;

  uint64_t instance = 0;
  uint64_t generation = 0;
  std::vector<Transport> transports;
  std::vector<std::string> locations;
  std::vector<NumberRange> ambiguous;  // offsets that are addresses too, or were; see Ambiguity

  // Buffers come in any order. `keys` holds one entry per transport, in their order; an empty one
  // means that the buffer is not reachable by that transport.
  void add(const RemoteBuffer& buffer, const std::vector<std::string_view>& keys);
  // After the last add(): sorts, and checks that neither offsets nor addresses overlap.
  Status finish();

  Bytes encode() const;
  static Result<Descriptor> decode(std::string_view bytes);

  size_t size() const { return buffers_.size(); }
  // Those of the application: the first.
  size_t laid_out() const { return laid_out_; }
  // By ascending offset.
  const RemoteBuffer& buffer(size_t index) const { return buffers_[index]; }
  // Null where the transport does not reach the buffer.
  const std::byte* key(size_t buffer, size_t transport) const;
  // The transport's index, or -1.
  int transport_index(std::string_view name) const;

  // Which buffer a range means. kAuto: as an offset or as an address, whichever fits, but nothing
  // that is or was ambiguous. Errors: outside every buffer, leaving its buffer, crossing into the
  // next, wrapping, ambiguous, not registered for what is wanted. `*address` is where the range
  // begins in the target's process.
  Result<size_t> resolve(const RemoteRange& range, uint64_t* address) const;

 private:
  static constexpr size_t kNone = SIZE_MAX;
  size_t holding_offset(uint64_t offset) const;
  size_t holding_address(uint64_t address) const;
  Status in_no_buffer(const RemoteRange& range) const;
  Status check_range(size_t index, const RemoteRange& range, uint64_t begin, bool by_offset) const;

  std::vector<RemoteBuffer> buffers_;
  std::vector<std::byte> keys_;  // per buffer: a presence byte and key_size bytes per transport
  std::vector<size_t> key_offsets_;
  std::vector<uint32_t> rows_;        // sorted position -> row of keys_
  std::vector<uint32_t> by_address_;  // sorted positions by address
  size_t row_size_ = 0;
  size_t laid_out_ = 0;
};

}  // namespace te
