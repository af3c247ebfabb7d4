// The control connection to the engine behind one segment: made when it is needed, kept while it
// works. Where the engine was last is tried at once, while its name is looked up again, so that a
// directory that hangs stands in nobody's way.
//
// Threads: the loop's, unless stated. Callbacks come there, once, possibly from inside the call.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "engine/control_client.h"
#include "engine/finder.h"

namespace te {

// What all contacts of an engine share.
struct ContactSite {
  EventLoop& loop;
  ControlClient::Registry& registry;
  Finder& finder;
  const uint64_t own_instance;
  const std::chrono::milliseconds timeout;
  const std::shared_ptr<tls::Identity> identity = nullptr;  // with TLS
};

class Contact : public std::enable_shared_from_this<Contact> {
 public:
  using Found = std::function<void(Result<std::shared_ptr<ControlClient>>)>;

  Contact(const ContactSite& site, std::string name) : site_(site), name_(std::move(name)) {}

  // The client is usable, if only when the callback begins.
  void get(Found found);
  // Every get() ends with `why`; later ones begin anew.
  void close(const Status& why);

  // Who answered last, and where. Any thread.
  Locator locator() const {
    MutexLock lock(mutex_);
    return locator_;
  }
  SocketAddress address() const {
    MutexLock lock(mutex_);
    return address_;
  }

 private:
  // One round of looking for the engine.
  struct Search {
    bool looking_up = false;
    int64_t since_ns = 0;
    std::vector<std::shared_ptr<ControlClient>> attempts;  // that connect
    size_t running = 0;                                    // of them
    Status failure;
  };

  void begin_search();
  void looked_up(const std::shared_ptr<Search>& search, const Result<Finder::Place>& place);
  void attempt(const std::shared_ptr<Search>& search, const Locator& locator,
               std::vector<SocketAddress> addresses);
  void connected(const std::shared_ptr<Search>& search, const Locator& locator, size_t attempt,
                 Status status);
  void end_if_in_vain(const std::shared_ptr<Search>& search);
  void end_search(const Result<std::shared_ptr<ControlClient>>& result);

  const ContactSite& site_;
  const std::string name_;
  std::shared_ptr<ControlClient> client_;
  std::shared_ptr<Search> search_;  // the one under way
  std::vector<Found> waiting_;
  bool slow_name_ = false;
  mutable Mutex mutex_;
  SocketAddress address_ TE_GUARDED_BY(mutex_);
  Locator locator_ TE_GUARDED_BY(mutex_);
};

}  // namespace te
