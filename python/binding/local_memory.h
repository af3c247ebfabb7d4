// Local memory as Python programs name it: an object that has memory, or an address and a length.
//
// Threads: with the GIL. What a buffer's owner is told when it is released may run any code.
#pragma once

#include <nanobind/nanobind.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace te::py {

namespace nb = nanobind;

// Keeps the object alive, and its buffer exported, as long as it lives.
class LocalMemory {
 public:
  // `object`: with the buffer protocol, data_ptr() (torch), __cuda_array_interface__ or __dlpack__;
  // C-contiguous. Or an address, which takes a length. `length`: None, or bytes from the beginning.
  // Raises InvalidArgumentError. Memory that must be writable and is not: PermissionDeniedError.
  LocalMemory(nb::handle object, nb::handle length, bool must_be_writable);
  LocalMemory() = default;
  LocalMemory(LocalMemory&& other) noexcept
      : address_(other.address_),
        length_(other.length_),
        read_only_(other.read_only_),
        view_(std::exchange(other.view_, {})),
        kept_(std::exchange(other.kept_, nullptr)) {}
  LocalMemory& operator=(LocalMemory&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(length_, other.length_);
    std::swap(read_only_, other.read_only_);
    std::swap(view_, other.view_);
    std::swap(kept_, other.kept_);
    return *this;
  }
  LocalMemory(const LocalMemory&) = delete;
  LocalMemory& operator=(const LocalMemory&) = delete;
  ~LocalMemory() { release(); }

  uint64_t address() const { return address_; }
  uint64_t length() const { return length_; }
  bool read_only() const { return read_only_; }  // its owner says so; addresses: false
  void release();
  // The object, for the garbage collector; may be null.
  PyObject* owner() const { return view_.obj != nullptr ? view_.obj : kept_; }

 private:
  void take_address(nb::handle object, nb::handle length);
  void take_buffer(nb::handle object, bool must_be_writable);
  bool take_tensor(nb::handle object);
  bool take_cuda_array(nb::handle object);
  void take_dlpack(nb::handle object);
  void shorten(nb::handle length);

  uint64_t address_ = 0;
  uint64_t length_ = 0;
  bool read_only_ = false;
  Py_buffer view_ = {};
  PyObject* kept_ = nullptr;
};

// A number of an argument: an int, or what has __index__. Raises InvalidArgumentError, with the
// argument's name, if it is another thing, or not in `range`, which ends at `most`.
uint64_t to_number(nb::handle object, const char* name, const char* range,
                   uint64_t most = UINT64_MAX);
inline constexpr const char* kAnyNumber = "0 to 2^64 - 1";
inline constexpr const char* kBytes = "0 to 2^64 - 1, in bytes";
// Seconds of the argument `timeout`, at least 0; nullopt for None. Raises InvalidArgumentError if
// it is another thing, not a number, or more than 10^9.
std::optional<std::chrono::duration<double>> to_seconds(nb::handle timeout);
// Whether it is one number and not several: an int, or a scalar of numpy.
bool is_number(nb::handle object);
// A str. Raises InvalidArgumentError, with the argument's name, if it is another thing, or has code
// points that UTF-8 does not.
std::string to_text(nb::handle object, const std::string& name);
// The bytes of a notification's message: of any contiguous object with the buffer protocol.
std::string to_message(nb::handle object);
// "numpy.ndarray", for messages.
std::string name_of_type(nb::handle object);

}  // namespace te::py
