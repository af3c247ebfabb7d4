// Where each buffer begins in its segment: end to end from offset 0 in the order of registration; a
// freed range is used again, first fit. Not thread-safe.
//
// place() may throw and has then changed nothing; free() never throws, so that what was placed can
// be taken back when memory is short.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

namespace te {

class Layout {
 public:
  uint64_t place(uint64_t length);
  void free(uint64_t offset, uint64_t length);
  // One past the last byte in use.
  uint64_t end() const { return end_; }

 private:
  using Holes = std::map<uint64_t, uint64_t>;

  void add_spare();

  Holes holes_;  // offset -> length; never adjacent, none touches end_
  // Behind every hole is a range in use, so with these there are nodes for as many holes as free()
  // can make.
  std::vector<Holes::node_type> spares_;
  size_t placed_ = 0;
  uint64_t end_ = 0;
};

}  // namespace te
