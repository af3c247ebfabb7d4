// Small pieces that the parts of Transfers share.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "base/fd.h"
#include "transfer_engine/status.h"
#include "transfer_engine/types.h"

namespace te {

Status no_batch(BatchId id);

// Makes an event descriptor poll readable, or not. Nothing where there is none.
inline void set_readable(const Fd& event, bool readable) {
  if (!event.valid()) return;
  uint64_t value = 1;
  if (readable) {
    (void)!::write(event.get(), &value, sizeof value);
  } else {
    (void)!::read(event.get(), &value, sizeof value);
  }
}

// Counts a caller in for as long as it lives. The count has the size of a futex: others share a
// counter of the library's, which each call would change too.
class CallCounter {
 public:
  explicit CallCounter(std::atomic<uint32_t>& count) : count_(count) { count_.fetch_add(1); }
  ~CallCounter() {
    if (count_.fetch_sub(1) == 1) count_.notify_all();
  }
  CallCounter(const CallCounter&) = delete;
  CallCounter& operator=(const CallCounter&) = delete;

 private:
  std::atomic<uint32_t>& count_;
};

}  // namespace te
