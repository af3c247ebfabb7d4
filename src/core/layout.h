// Where each buffer begins in its segment: end to end from offset 0 in the order of registration; a
// freed range is used again, first fit. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>

namespace te {

class Layout {
 public:
  uint64_t place(uint64_t length);
  void free(uint64_t offset, uint64_t length);
  // One past the last byte in use.
  uint64_t end() const { return end_; }

 private:
  std::map<uint64_t, uint64_t> holes_;  // offset -> length; never adjacent, none touches end_
  uint64_t end_ = 0;
};

}  // namespace te
