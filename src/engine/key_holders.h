// Peers that know keys of NICs. A NIC honours a key whoever shows it, for as long as its buffer is
// registered. So when one of these peers is not let in any more, or may not READ and WRITE any
// more, the buffers get other keys.
//
// Threads: any.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/task_pool.h"
#include "tls/principal.h"

namespace te {

class KeyHolders {
 public:
  // `renew` gives other keys to all buffers, and may take its time.
  explicit KeyHolders(std::function<Status()> renew) : renew_(std::move(renew)) {}
  ~KeyHolders() { stop(); }

  // It was told keys. Without TLS everybody is let in for ever.
  void add(const tls::Principal& peer);
  // To be called now and then: returns at once.
  void check(int64_t now_ns);
  void stop() { pool_.stop(); }

 private:
  static constexpr int kAttempts = 3;
  static constexpr size_t kMostCertificates = 256;  // of one name; the oldest is forgotten

  // Takes out those that would not be let in any more. Whether one of them may still be in use: a
  // certificate that expired after another one took its place was only exchanged.
  static bool lost_one(std::vector<tls::Principal>& shown, int64_t now_ns);

  void renew();

  const std::function<Status()> renew_;
  Mutex mutex_;
  // By name: with each certificate that it showed, the last one last.
  std::map<std::string, std::vector<tls::Principal>> peers_ TE_GUARDED_BY(mutex_);
  TaskPool pool_{1};
};

}  // namespace te
