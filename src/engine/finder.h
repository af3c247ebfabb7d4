// Looks up where segments are: asks the directory, and name servers for the host's addresses.
//
// Both block, so that is done on a small pool. Look-ups that are known to be slow or to fail have
// threads of their own, so that they do not delay the others.
//
// Threads: find() on the loop; its callback comes there too. stop() from outside the loop.
#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/socket.h"
#include "base/task_pool.h"
#include "core/locator.h"
#include "directory/directory.h"

namespace te {

class Finder {
 public:
  struct Place {
    Locator locator;
    std::vector<SocketAddress> addresses;
  };
  using Found = std::function<void(Result<Place>)>;

  Finder(EventLoop& loop, Directory& directory) : loop_(loop), directory_(directory) {}
  ~Finder() { stop(); }
  // Starts a thread of either pool. kResource.
  Status start() {
    TE_RETURN_IF_ERROR(usual_.start());
    return slow_.start();
  }

  // Inside the call where nothing blocks: a name that is a numeric address. `slow`: the last
  // look-up of the name took long, or failed.
  void find(const std::string& name, bool slow, Found found);
  // Look-ups under way are waited for, which the directory's timeout bounds; the others are
  // answered with kCancelled, and so is what comes later.
  void stop();

  // Blocks; any thread.
  static Result<Place> find_now(Directory& directory, const std::string& name);

 private:
  static constexpr size_t kThreads = 8;  // of either pool

  EventLoop& loop_;
  Directory& directory_;
  std::atomic<bool> stopping_{false};
  TaskPool usual_{kThreads};
  TaskPool slow_{kThreads};
};

}  // namespace te
