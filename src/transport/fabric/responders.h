// The endpoints of one NIC that peers reach: one for each path of a peer, as long as there is
// room, so that closing it ends what is left of that path and disturbs no other. Beyond that
// several paths share one, and closing it interrupts them all: they connect again.
//
// Threads: any; serve() and what is about sleeping, the progress thread.
#pragma once

#include <poll.h>

#include <atomic>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "transport/fabric/domain.h"
#include "transport/fabric/message.h"

namespace te::fabric {

class Responders {
 public:
  // At most `most` endpoints. `wake`: wakes the progress thread.
  Responders(Domain& domain, size_t most, std::function<void()> wake)
      : domain_(domain), most_(most), wake_(std::move(wake)) {}
  ~Responders() { stop(); }

  // Finds out whether endpoints can be made here.
  Status open();
  // Of this NIC. The answer as Hello says.
  Result<Bytes> accept(const Hello& hello);
  // Closes all endpoints: of no peer's operation is anything left. They connect again.
  void end_all();
  void stop();

  // Lets the provider work for peers, where it needs that. Whether there seems to have been
  // something to do, which it does not tell, but that takes longer.
  bool serve();
  // Adds what to sleep on. `*blind`: there is nothing that tells. False: do not sleep.
  bool may_sleep(std::vector<pollfd>& entries, bool* blind);
  // Whether others are to be slept on.
  bool changed() const { return changed_.load(); }
  size_t depth() const { return depth_; }

 private:
  // With a queue of its own: ofi_rxm 1.17 leaves behind in a queue what it knew of an endpoint that
  // was closed.
  struct Responder {
    Mutex mutex{LockRank::kResponder};                        // taken after the others
    std::unique_ptr<Endpoint> endpoint TE_GUARDED_BY(mutex);  // null: closed
    Bytes name;
    size_t users = 0;
    int64_t empty_ns = kNever;  // what a look takes that finds nothing
  };
  using ResponderRef = std::shared_ptr<Responder>;
  struct User {
    uint64_t epoch = 0;
    ResponderRef responder;
  };

  Result<Bytes> connect(const Hello& hello) TE_REQUIRES(mutex_);
  // A new one where there is room, else the one with the fewest users.
  Result<ResponderRef> find_room() TE_REQUIRES(mutex_);
  Result<ResponderRef> make();
  // Closes the endpoint of the path, if it has one.
  void close(uint64_t id) TE_REQUIRES(mutex_);
  void close(Responder& responder);
  void close_all() TE_REQUIRES(mutex_);
  static bool serve(Domain& domain, Responder& responder);

  Domain& domain_;
  const size_t most_;
  const std::function<void()> wake_;
  size_t depth_ = 1;
  std::atomic<bool> changed_{false};
  std::vector<ResponderRef> polled_;  // the progress thread's
  Mutex mutex_{LockRank::kResponders};
  bool stopped_ TE_GUARDED_BY(mutex_) = false;
  std::unordered_map<uint64_t, User> users_ TE_GUARDED_BY(mutex_);  // by the path's id
  std::vector<ResponderRef> responders_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::fabric
