// The buffers as registered with every card, in pieces where one registration is too large.
//
// Threads: any.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "core/nearness.h"
#include "core/registry.h"
#include "transport/fabric/domain.h"
#include "transport/fabric/message.h"

namespace te::fabric {

class Memories {
 public:
  // `domains` in the order of `offer`'s cards, which is `nearness`'s too. `most_bytes`: of one
  // registration; 0: as much as the provider takes.
  Memories(std::vector<Domain*> domains, Nearness nearness, uint32_t pieces, uint64_t most_bytes)
      : domains_(std::move(domains)),
        nearness_(std::move(nearness)),
        pieces_(pieces),
        most_bytes_(most_bytes) {}

  // The encoded Key; empty where no card reaches such memory. Of two buffers with the same range
  // the later one is found.
  Result<Bytes> add(const Buffer& buffer);
  void remove(const Buffer& buffer);
  void clear();

  // Those that the memory is registered with, as bits; none: it is not registered.
  uint64_t cards(const void* address) const;
  // What to show `card`'s provider for local memory. `*length` is cut at the end of the piece.
  // False: not registered.
  bool find(size_t card, const void* address, uint64_t* length, void** descriptor) const;
  // Whether a peer's access to the range with `card` would find memory that can be touched. True
  // also where no such buffer is registered, which the provider tells the peer itself.
  bool may_touch(size_t card, const Hello::Range& range) const;

 private:
  struct Memory {
    const Buffer* buffer = nullptr;
    uint64_t length = 0;
    uint64_t piece_bytes = 0;
    std::vector<std::vector<Owned<fid_mr>>> ranges;  // by card; empty: not with this one
  };

  Result<Memory> add_in_pieces(const Buffer& buffer, uint64_t piece_bytes);
  Bytes key_of(const Buffer& buffer, const Memory& memory) const;
  void close(Memory memory);

  const std::vector<Domain*> domains_;
  const Nearness nearness_;
  const uint32_t pieces_;
  const uint64_t most_bytes_;
  mutable SharedMutex mutex_;
  std::map<uint64_t, Memory> memories_ TE_GUARDED_BY(mutex_);
  std::vector<Memory> replaced_ TE_GUARDED_BY(mutex_);  // by another with the same range
};

}  // namespace te::fabric
