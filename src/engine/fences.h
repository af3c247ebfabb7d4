// Fences: what keeps an abandoned WRITE from landing after a later one.
//
// A WRITE that came back unfinished may still be in a socket buffer or in the network, whatever
// transport it took. The transport hands over a fence, an exchange by which the target makes sure
// that nothing of it arrives any more. Until the target has answered, WRITEs to that run of the
// peer are kept here, on whatever path they are to go; READs are not. The target is asked at once,
// and again when a WRITE has to wait after that failed.
//
// A WRITE whose fence cannot be made comes back as kUnavailable: Recovery then looks for the peer
// again, which bounds the time, and plans it anew.
//
// Threads: any. any() is one load.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "core/batch.h"
#include "transport/transport.h"

namespace te {

class Fences {
 public:
  using Ask = std::function<void(const Peer&, std::string_view transport, Bytes hello,
                                 TransportHost::Answered)>;

  // `ask`: TransportHost::exchange(). `release`: posts slices again that were kept.
  // `give_back`: TransportHost::done(). None is called with a lock held.
  Fences(Ask ask, std::function<void(SliceList)> release,
         std::function<void(Slice*, Code)> give_back)
      : ask_(std::move(ask)), release_(std::move(release)), give_back_(std::move(give_back)) {}

  // TransportHost::fence(). The same twice is one.
  void add(const Peer& peer, std::string_view transport, Bytes hello);
  // A segment leads to this run of a peer now, perhaps again.
  void found(uint64_t instance);
  // Whether there may be something to hold.
  bool any() const { return peers_count_.load(std::memory_order_relaxed) != 0; }
  // Keeps the WRITEs that have to wait, and returns the rest in order.
  SliceList hold(SliceList slices);
  // Gives back what was cancelled meanwhile.
  void sweep();
  // Gives everything back; holds nothing any more.
  void stop();

 private:
  struct Fence {
    Peer peer;
    std::string transport;
    Bytes hello;
    bool asked = false;  // and not answered yet
    uint64_t finds = 0;  // as `finds_` when it was asked last
  };
  using FenceRef = std::shared_ptr<Fence>;
  struct FencedPeer {
    std::vector<FenceRef> fences;
    SliceList held;
  };

  void ask(const FenceRef& fence);
  void answered(const FenceRef& fence, const Result<Bytes>& answer);
  void give_back(SliceList slices, Code code) const;

  const Ask ask_;
  const std::function<void(SliceList)> release_;
  const std::function<void(Slice*, Code)> give_back_;
  std::atomic<size_t> peers_count_{0};
  Mutex mutex_;
  bool stopping_ TE_GUARDED_BY(mutex_) = false;
  // By instance. To those that are lost no segment leads, so nothing can be posted to them: most
  // are gone for good.
  std::unordered_map<uint64_t, FencedPeer> peers_ TE_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, std::vector<FenceRef>> lost_ TE_GUARDED_BY(mutex_);
  uint64_t finds_ TE_GUARDED_BY(mutex_) = 0;  // calls of found()
};

}  // namespace te
