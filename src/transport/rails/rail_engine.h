// The rails that go through one NIC, or through one endpoint of it: what waits on them, whose turn
// it is, and what callers and the other rails of a peer want of them. What moves bytes and what
// connects is a library's, which derives from this.
//
// Threads: any; what needs the progress lock says so.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "transport/progress/progress.h"
#include "transport/rails/peer_rails.h"
#include "transport/rails/rail.h"

namespace te::rails {

class RailEngine : protected ProgressDriver {
 public:
  // `wake` makes the progress thread come.
  RailEngine(TransportHost& host, int64_t spin_ns, std::function<void()> wake)
      : host_(host), progress_(host, *this, spin_ns, std::move(wake)) {}

  // How slices get in, and who works.
  Progress& progress() { return progress_; }
  const Progress& progress() const { return progress_; }
  virtual NicSpeed speed() = 0;

  // What follows is done soon, by the progress thread; any locks may be held.

  // Has the peer's rails told of the outcome.
  void connect(Rail& rail) { command(rail, &RailEngine::connect_now); }
  // Another rail to the peer failed: asks whether the peer is there, if this one seems ready.
  void doubt(Rail& rail) { command(rail, &RailEngine::doubt_now); }
  // As Transport's.
  void sweep(Rail& rail) { command(rail, &RailEngine::sweep_now); }
  void reset(Rail& rail) { command(rail, &RailEngine::reset_now); }
  // Nothing is posted on the rail any more, and no slice is under way.
  void retire(Rail& rail) { command(rail, &RailEngine::retire_now); }

 protected:
  // ProgressDriver
  void submitted(SliceList slices) override TE_REQUIRES(progress_.lock);
  void advance() override TE_REQUIRES(progress_.lock);

  // Posts what the rail has room for, and connects it if that is wanted. Whether something of the
  // rail's still waits.
  virtual bool advance_rail(Rail& rail, int64_t now) TE_REQUIRES(progress_.lock) = 0;
  // Slices under way may have been cancelled, and are to end soon then.
  virtual void sweep_under_way(Rail& rail) TE_REQUIRES(progress_.lock) = 0;
  // What is under way ends soon, as kUnavailable.
  virtual void reset_connection(Rail& rail, const Status& why) TE_REQUIRES(progress_.lock) = 0;
  virtual void doubt_now(Rail& rail) TE_REQUIRES(progress_.lock) { (void)rail; }
  // Calls forget(), now or once nothing points to the rail any more.
  virtual void retire_now(Rail& rail) TE_REQUIRES(progress_.lock) = 0;

  void know(Rail& rail) TE_REQUIRES(progress_.lock);
  void activate(Rail& rail) TE_REQUIRES(progress_.lock);
  void forget(Rail& rail) TE_REQUIRES(progress_.lock);
  // All that it knows; they end without the lock.
  std::map<Rail*, std::shared_ptr<Rail>> forget_all() TE_REQUIRES(progress_.lock);

  // The outcome of connect(), or what became of the rail since.
  void rail_ready(Rail& rail) TE_REQUIRES(progress_.lock);
  void rail_idle(Rail& rail) TE_REQUIRES(progress_.lock);  // for no fault of its own
  void rail_failed(Rail& rail, Code code) TE_REQUIRES(progress_.lock);

  // `posted_ns`: 0 where it was not posted.
  void return_slice(Rail& rail, Slice* slice, Code code, int64_t posted_ns)
      TE_REQUIRES(progress_.lock);
  // What was handed to the rail and not posted.
  void return_queue(Rail& rail, Code code) TE_REQUIRES(progress_.lock);
  // The same, to the peer's other rails, of which there are some.
  void hand_back(Rail& rail) TE_REQUIRES(progress_.lock);

  TransportHost& host_;
  Progress progress_;
  std::map<Rail*, std::shared_ptr<Rail>> known_ TE_GUARDED_BY(progress_.lock);
  std::vector<Rail*> active_ TE_GUARDED_BY(progress_.lock);  // with something that waits

 private:
  void command(Rail& rail, void (RailEngine::*what)(Rail&));
  void connect_now(Rail& rail) TE_REQUIRES(progress_.lock);
  void sweep_now(Rail& rail) TE_REQUIRES(progress_.lock);
  void reset_now(Rail& rail) TE_REQUIRES(progress_.lock);
};

}  // namespace te::rails
