// Keeps registered memory in place while a system call reads or writes it.
//
// Threads: one at a time.
#pragma once

#include <vector>

#include "core/access_table.h"
#include "transport/tcp/frame.h"

namespace te::tcp {

class AccessPins {
 public:
  explicit AccessPins(AccessTable& table) : table_(table) {}
  ~AccessPins() { release(); }
  AccessPins(const AccessPins&) = delete;
  AccessPins& operator=(const AccessPins&) = delete;

  // The range of a request that was allowed when it arrived. On kOk it stays until release().
  Code pin(const RequestEntry& entry, Rights wanted) {
    const AccessKey& key = entry.key;
    if (!keys_.empty() && keys_.back().index == key.index && keys_.back().secret == key.secret) {
      return Code::kOk;
    }
    const Code code = table_.acquire(key, entry.address, entry.length, wanted);
    if (code == Code::kOk) keys_.push_back(key);
    return code;
  }
  void release() {
    for (const AccessKey& key : keys_) table_.release(key);
    keys_.clear();
  }

 private:
  AccessTable& table_;
  std::vector<AccessKey> keys_;  // kept for its memory
};

}  // namespace te::tcp
