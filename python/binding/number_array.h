// Numbers of lists of transfers: addresses, offsets, lengths, blocks.
//
// Threads: with the GIL. The numbers of a NumberArray may be read without it.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <span>
#include <vector>

namespace te::py {

namespace nb = nanobind;

// 64-bit integers of an array (numpy, or anything with the buffer protocol or DLPack), read in
// place where they lie in a row; or of a sequence of ints. Raises InvalidArgumentError.
class NumberArray {
 public:
  // `columns`: 1, or the length of the rows of a two-dimensional array.
  NumberArray(nb::handle object, const char* name, size_t columns = 1) : NumberArray() {
    take(object, name, columns);  // the destructor releases what it had when it raised
  }
  NumberArray() = default;
  ~NumberArray();
  NumberArray(const NumberArray&) = delete;
  NumberArray& operator=(const NumberArray&) = delete;

  std::span<const uint64_t> values() const { return values_; }
  void take(nb::handle object, const char* name, size_t columns = 1);
  // `count` times the same.
  void fill(size_t count, uint64_t value);

 private:
  void take_buffer(nb::handle object, const char* name, size_t columns);
  void take_sequence(nb::handle object, const char* name, size_t columns);
  void copy_strided(const Py_buffer& view);
  void check_signs(const char* name) const;

  std::span<const uint64_t> values_ = {};
  std::vector<uint64_t> storage_;
  Py_buffer view_ = {};
};

}  // namespace te::py
