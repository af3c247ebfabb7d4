// Looks up where segments are: asks the directory, and name servers for the host's addresses.
//
// Both block, so threads do that, as many as there are look-ups that hang: a look-up that waits
// for kPatienceMs, as all threads of its pool are blocked, gets another one. Look-ups that are
// known to be slow or to fail have a pool of their own, so others mostly do not wait at all.
//
// Threads: find() on the loop; its callback comes there too. stop() from outside the loop.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/mutex.h"
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

  // Look-ups that hang keep the directory until they end, which may be after the finder's end.
  Finder(EventLoop& loop, std::shared_ptr<Directory> directory);
  ~Finder() { stop(); }
  // Starts a thread of either pool. kResource.
  Status start() {
    TE_RETURN_IF_ERROR(usual_.start());
    return slow_.start();
  }

  // Inside the call where nothing blocks: a name that is a numeric address. `slow`: the last
  // look-up of the name took long, or failed.
  void find(const std::string& name, bool slow, Found found);
  // All look-ups are answered with kCancelled, and so are those that come later. Does not wait for
  // those that hang.
  void stop();

  // Blocks; any thread.
  static Result<Place> find_now(Directory& directory, const std::string& name);

 private:
  static constexpr size_t kThreads = 8;  // of either pool, at least
  static constexpr size_t kMost = 512;   // and at most
  static constexpr int64_t kPatienceMs = 10;
  static constexpr int64_t kStopMs = 10;  // threads that end within this leave nothing behind

  struct Waiting;  // the look-ups that have no answer

  EventLoop& loop_;
  const std::shared_ptr<Directory> directory_;
  const std::shared_ptr<Waiting> waiting_;
  TaskPool usual_{kThreads};
  TaskPool slow_{kThreads};
};

}  // namespace te
