// A transport over rails: the entry from the engine, which NIC libraries share.
//
// Threads: any, unless stated.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "transport/rails/memory_regions.h"
#include "transport/rails/peer_rails.h"
#include "transport/rails/rail_engine.h"

namespace te::rails {

class RailTransport : public Transport {
 public:
  Result<Bytes> register_memory(const Buffer& buffer) override { return memories_->add(buffer); }
  void unregister_memory(const Buffer& buffer) override { memories_->remove(buffer); }
  // Whether one of the path's NICs knows that local memory.
  bool knows(const Rail& rail, const void* address) const;
  void warm_up(Path& path) override;
  void adopt(tls::Connection, const wire::Hello&, std::shared_ptr<void>) override {}
  void submit(SliceList slices) override;
  // Of several rails to the peer, any: the slices may be under way on each.
  bool progress(Path& path, int64_t until_ns, Waker& waker) override {
    return of(path).engine.progress().run_by_caller(until_ns, waker);
  }
  void sweep(Path& path) override { of(path).engine.sweep(of(path)); }
  void reset(Path& path) override { of(path).engine.reset(of(path)); }

 protected:
  explicit RailTransport(TransportHost& host) : host_(host) {}

  static Rail& of(Path& path) { return static_cast<Rail&>(path); }

  // What the peer says of its NICs; null, after a warning, where it cannot be understood.
  std::shared_ptr<const Advertisement> decode_offer(const Peer& peer, ByteView info) const;
  // It cannot be understood.
  void warn_of(const Peer& peer, const Status& why) const;
  // A run of the peer's engine that was there before is gone: what waits for it looks for the new
  // one.
  void end_earlier_runs(const Peer& peer);
  // The path that a rail is to the engine. `at_end`: after nothing is posted on it any more.
  std::shared_ptr<Path> make_path(std::shared_ptr<Rail> rail, std::function<void()> at_end = {});
  // Has the rails to one peer share what is posted, where there are several. `preferred`: of each.
  static void join(const std::vector<std::shared_ptr<Path>>& rails,
                   const std::vector<bool>& preferred, const PeerRailsOptions& options);
  std::vector<std::shared_ptr<Rail>> all_rails() const;
  // Returns what waits for rails, and whatever is posted from then on.
  void close_rails();

  TransportHost& host_;
  std::unique_ptr<MemoryRegions> memories_;

 private:
  mutable Mutex mutex_{LockRank::kTransport};
  std::vector<std::weak_ptr<Rail>> rails_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::rails
