// The buffers as registered with every NIC that reaches them, in pieces where one region would be
// too large, and which NICs are near them.
//
// Threads: any. Nothing waits for a NIC but who registers or unregisters.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/task_pool.h"
#include "core/nic_affinity.h"
#include "core/registry.h"
#include "transport/rails/key.h"
#include "transport/rails/nic.h"

namespace te::rails {

class MemoryRegions {
 public:
  // `nics` outlive this, in the order of the nearness. `most_bytes`: of one region; 0: what the
  // NICs take. `pieces`: of one buffer, at most.
  MemoryRegions(std::vector<Nic*> nics, NicAffinity nearness, uint32_t pieces, uint64_t most_bytes);

  // The encoded Key; empty where no peer may or can touch the memory. That memory on a device is
  // not reached by NICs is logged, and no error. Of two buffers with the same
  // range the later one is found.
  Result<Bytes> add(const Buffer& buffer);
  void remove(const Buffer& buffer);
  void clear();

  // What find() found for a NIC, kept by who asks, one thread at a time.
  struct Found {
    uint64_t version = 0;  // of what was registered
    uint64_t begin = 0;
    uint64_t length = 0;
    uint64_t local_key = 0;
    bool on_device = false;  // the processor does not reach it
  };
  // By what key the NIC knows the local memory, which nobody unregisters meanwhile. `*length` is
  // cut at the end of the piece. False: it does not know it. `last` is of the same NIC, and spares
  // the search where the same piece is asked for again.
  bool find(size_t nic, const void* address, uint64_t* length, uint64_t* local_key,
            Found* last) const;
  // The NICs that know the memory, and those near it.
  NicAffinity::Nics nics_of(const void* address) const;
  // Whether a peer's access to the range, by this key, finds memory that can be touched. True also
  // where there is no such region: the NIC itself refuses that.
  bool may_touch(size_t nic, uint64_t remote_key, uint64_t address, uint64_t length,
                 bool write) const;

 private:
  using Regions = std::vector<std::unique_ptr<MemoryRegion>>;
  struct Memory {
    const Buffer* buffer = nullptr;
    uint64_t begin = 0;
    uint64_t length = 0;
    uint64_t piece_bytes = 0;
    std::vector<Regions> regions;                  // by NIC; empty: not with this one
    std::map<uint64_t, NicAffinity::Nics> places;  // by where they begin
  };

  // What was registered that holds the address; null: nothing.
  const Memory* holding(uint64_t address) const TE_REQUIRES_SHARED(mutex_);
  bool search(size_t nic, uint64_t at, Found* found) const;
  // `exported`: of memory that the processor does not reach, else null.
  Result<Memory> add_in_pieces(const Buffer& buffer, NicSet nics, uint64_t piece_bytes,
                               const ExportedRange* exported);
  Status register_with(size_t nic, Memory& memory, const ExportedRange* exported);
  Bytes keep(Memory added, std::map<uint64_t, NicAffinity::Nics> places);
  Bytes key_of(const Memory& memory) const;
  // Of one region. `*known`: whether every NIC of the set says what it takes.
  uint64_t most_at_once(NicSet nics, bool* known) const;
  // Runs `work` for every NIC of the set, at the same time.
  template <typename Work>
  void for_each(NicSet nics, Work&& work);

  const std::vector<Nic*> nics_;
  const NicAffinity nearness_;
  const uint32_t pieces_;
  const uint64_t most_bytes_;
  TaskPool pool_;
  mutable SharedMutex mutex_{LockRank::kRegions};
  std::atomic<uint64_t> version_{1};  // changes with memories_, before that is let go
  std::map<uint64_t, std::shared_ptr<Memory>> memories_ TE_GUARDED_BY(mutex_);
  // By another with the same range.
  std::vector<std::shared_ptr<Memory>> replaced_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::rails
