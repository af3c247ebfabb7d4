// The directory over a server: claims names in a Store and keeps them.
//
// Owns the claims of this process and one thread, started by the first publish, which keeps them
// alive. Threads: any; publishing, withdrawing and keeping take turns, resolving waits for nobody.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "base/mutex.h"
#include "base/thread.h"
#include "directory/directory.h"
#include "directory/store.h"

namespace te {

class LeasedDirectory final : public Directory {
 public:
  LeasedDirectory(std::unique_ptr<Store> store, const DirectoryOptions& options);
  // As leave().
  ~LeasedDirectory() override;

  std::string describe() const override;
  Status publish(std::string_view name, const Locator& locator,
                 const std::function<bool(const Locator& holder)>& alive) override;
  Status withdraw(std::string_view name) override;
  Status leave() override;
  Result<Locator> resolve(std::string_view name) override;
  std::string local_address() const override;

 private:
  struct Claim {
    std::string key;
    std::string value;  // the record as stored
    Locator locator;
    std::function<bool(const Locator&)> alive;
    bool contested = false;  // warned that another one holds the name
  };

  Status claim(const std::string& name, const Claim& claim) TE_REQUIRES(turn_);
  Status take_over(const std::string& name, const Claim& claim, const std::string& held,
                   bool* taken) TE_REQUIRES(turn_);
  void keep_names();
  Status keep_name(const std::string& name, Claim& claim) TE_REQUIRES(turn_);
  void report(const Status& status);
  bool stopping() TE_EXCLUDES(mutex_);
  bool wait_for_next_round() TE_EXCLUDES(mutex_);
  Status start_keeper() TE_REQUIRES(turn_);

  const std::unique_ptr<Store> store_;
  const std::chrono::milliseconds round_;

  Mutex turn_{LockRank::kDirectory};  // held across calls to the server and to Claim::alive
  std::map<std::string, Claim, std::less<>> claims_ TE_GUARDED_BY(turn_);
  Thread keeper_ TE_GUARDED_BY(turn_);

  Mutex mutex_;  // never held across a call
  CondVar wake_;
  bool stopping_ TE_GUARDED_BY(mutex_) = false;
  bool away_ = false;  // of the keeper's thread: the server failed it, and that was said
};

}  // namespace te
