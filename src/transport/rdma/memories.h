// Which memory is registered with which cards, under what keys, and which cards are near it.
//
// Threads: any.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/task_pool.h"
#include "core/nearness.h"
#include "core/registry.h"
#include "transport/rdma/card.h"
#include "transport/rdma/message.h"

namespace te::rdma {

class Memories {
 public:
  // `cards` outlive this. `most_bytes`: of one registration; 0: what the cards take.
  Memories(std::vector<Card*> cards, Nearness nearness, uint32_t pieces, uint64_t most_bytes);

  // The encoded Key; empty where peers may not touch the memory. Of two buffers with the same range
  // the later one is found.
  Result<Bytes> add(const Buffer& buffer);
  void remove(const Buffer& buffer);
  void clear();

  // What find() found for a card, kept by who asks, one thread at a time.
  struct Found {
    uint64_t version = 0;  // of what was registered
    uint64_t begin = 0;
    uint64_t length = 0;
    uint32_t key = 0;
  };
  // By what key `card` knows the local memory, which nobody unregisters meanwhile. `*length` is cut
  // at the end of the piece. False: it does not know it. `last` is of the same card, and spares the
  // search where the same piece is asked for again.
  bool find(size_t card, const void* address, uint64_t* length, uint32_t* key, Found* last) const;
  // The cards that know the memory and those near it.
  Nearness::Cards cards_of(const void* address) const;

 private:
  struct Memory {
    const Buffer* buffer = nullptr;
    uint64_t length = 0;
    uint64_t piece_bytes = 0;
    std::vector<std::vector<Range>> ranges;      // by card; empty: not with this one
    std::map<uint64_t, Nearness::Cards> places;  // by where they begin
  };

  // What was registered that holds the address, and where it begins; null: nothing.
  std::pair<uint64_t, const Memory*> holding(uint64_t address) const TE_REQUIRES_SHARED(mutex_);
  bool search(size_t card, uint64_t at, Found* found) const;
  Result<Memory> add_in_pieces(const Buffer& buffer, CardSet cards, uint64_t piece_bytes);
  Bytes key_of(const Buffer& buffer, const Memory& memory) const;
  uint64_t most_at_once(CardSet cards) const;
  // Runs `work` for every card of the set, at the same time.
  template <typename Work>
  void for_each(CardSet cards, Work&& work);

  const std::vector<Card*> cards_;
  const Nearness nearness_;
  const uint32_t pieces_;
  const uint64_t most_bytes_;
  TaskPool pool_;
  mutable SharedMutex mutex_;
  std::atomic<uint64_t> version_{1};  // changes with memories_, before that is let go
  std::map<uint64_t, std::shared_ptr<Memory>> memories_ TE_GUARDED_BY(mutex_);
  // By another with the same range.
  std::vector<std::shared_ptr<Memory>> replaced_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::rdma
