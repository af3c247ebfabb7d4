// Peers that know keys of NICs. A NIC honours a key whoever shows it, for as long as its buffer is
// registered. So when one of these peers is not let in any more, or may not READ and WRITE any
// more, the buffers get other keys.
//
// Threads: any.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "base/mutex.h"
#include "base/task_pool.h"
#include "tls/visitor.h"

namespace te {

class KeyHolders {
 public:
  // `renew` gives other keys to all buffers, and may take its time.
  explicit KeyHolders(std::function<Status()> renew) : renew_(std::move(renew)) {}
  ~KeyHolders() { stop(); }

  // It was told keys. Without TLS everybody is let in for ever.
  void add(const tls::Visitor& peer);
  // To be called now and then: returns at once.
  void check(int64_t now_ns);
  void stop() { pool_.stop(); }

 private:
  static constexpr int kAttempts = 3;

  void renew();

  const std::function<Status()> renew_;
  Mutex mutex_;
  std::map<std::string, tls::Visitor> peers_ TE_GUARDED_BY(mutex_);  // by their names
  TaskPool pool_{1};
};

}  // namespace te
