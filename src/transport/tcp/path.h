// The way to one peer over TCP: a session of several lanes, made when it is needed.
//
// When one lane breaks the whole session ends, and the next has a higher epoch: the peer closes
// what is left of the older ones before it accepts, so bytes of a request that was given up can
// never arrive after those of its repetition.
//
// Threads: any.
#pragma once

#include <memory>
#include <vector>

#include "base/clock.h"
#include "base/event_loop.h"
#include "base/waker.h"
#include "transport/progress/callers.h"
#include "transport/tcp/attachment.h"
#include "transport/tcp/lane.h"

namespace te::tcp {

class TcpPath final : public Path, public LaneOwner, public std::enable_shared_from_this<TcpPath> {
 public:
  TcpPath(Transport& owner, TransportHost& host, std::vector<EventLoop*> loops, size_t lane_count,
          const LaneOptions& options, int64_t spin_ns, const Peer& peer);

  // The slices are sent now or as soon as the session stands.
  void submit(SliceList slices);
  void warm_up();
  void sweep();
  // Finds out where requests are under way to a peer that is gone.
  void check_alive();
  // See Transport. One caller makes progress, and the lanes are detached from their loops (see
  // Attachment). When several threads want something, or more than kCallerBytes are under way on
  // several lanes, it is the loops' work.
  bool progress(int64_t until_ns, Waker& waker);
  // Ends the session; every slice comes back as `code`. `why` is ok where nobody will ask.
  void reset(Code code, Status why);
  bool over() const override {
    MutexLock lock(mutex_);
    return ended_;
  }
  // No session will be made any more: what is here, and whatever comes, is returned as kCancelled.
  void end();

  void lane_ready(Lane& lane) override;
  void lane_blocked() override;
  void lane_broken(Lane& lane, Status why) override;
  void found_unreadable() override { careful_until_ns_.store(now_ns() + kCarefulNs); }
  bool careful() override;

 private:
  // What a lane takes before the next one is asked: many small requests then share a frame.
  static constexpr uint64_t kRunBytes = 128 << 10;
  static constexpr uint64_t kInlineBytes = 256 << 10;
  static constexpr uint64_t kCallerBytes = 256 << 10;
  static constexpr int64_t kCarefulNs = 10'000 * kNsPerMs;

  void connect() TE_REQUIRES(mutex_);
  bool is_current(const Lane& lane) const TE_REQUIRES(mutex_);
  // Null while the session does not stand.
  std::shared_ptr<const Lanes> ready_lanes();
  void warm_up(const Lanes& lanes);
  // Of the caller inside callers_.
  bool make_progress(int64_t until_ns, Waker& waker);
  void detach(const std::shared_ptr<const Lanes>& lanes);
  void end_progress();
  void leave_to_loops();
  // On a loop.
  void check_lease();
  // Returns slices by way of a loop: the caller may be inside submit().
  void return_later(SliceList slices, Code code);
  void distribute(SliceList slices, const Lanes& lanes);

  TransportHost& host_;
  const std::vector<EventLoop*> loops_;
  const size_t lane_count_;
  const LaneOptions options_;
  const Peer peer_;
  const uint64_t session_;

  mutable Mutex mutex_{LockRank::kConnection};
  uint64_t epoch_ TE_GUARDED_BY(mutex_) = 0;
  std::shared_ptr<const Lanes> lanes_ TE_GUARDED_BY(mutex_);  // of the session; null: none
  size_t lanes_ready_ TE_GUARDED_BY(mutex_) = 0;
  SliceList waiting_ TE_GUARDED_BY(mutex_);
  bool ended_ TE_GUARDED_BY(mutex_) = false;

  std::atomic<int64_t> careful_until_ns_{0};

  CallerProgress callers_;
  Attachment attachment_;
};

}  // namespace te::tcp
