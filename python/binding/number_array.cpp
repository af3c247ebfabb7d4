#include "number_array.h"

#include <cstring>
#include <string>
#include <string_view>

#include "errors.h"
#include "local_memory.h"

namespace te::py {
namespace {

bool is_number_format(const char* format, bool& has_sign) {
  std::string_view text = format == nullptr ? "B" : format;
  if (!text.empty() && std::string_view("@=<").find(text[0]) != std::string_view::npos) {
    text.remove_prefix(1);
  }
  has_sign = text == "q" || text == "l" || text == "n";
  return has_sign || text == "Q" || text == "L" || text == "N" || text == "P";
}

}  // namespace

void NumberArray::take(nb::handle object, const char* name, size_t columns) {
  if (PyObject_CheckBuffer(object.ptr())) {
    take_buffer(object, name, columns);
  } else if (nb::hasattr(object, "__dlpack__") && nb::hasattr(object, "numpy")) {
    const nb::object array = object.attr("numpy")();  // torch: the same memory
    take_buffer(array, name, columns);
  } else {
    take_sequence(object, name, columns);
  }
}

NumberArray::~NumberArray() {
  if (view_.obj != nullptr) PyBuffer_Release(&view_);
}

void NumberArray::fill(size_t count, uint64_t value) {
  storage_.assign(count, value);
  values_ = storage_;
}

void NumberArray::take_buffer(nb::handle object, const char* name, size_t columns) {
  if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_FORMAT | PyBUF_STRIDES) != 0) {
    view_ = {};
    raise_invalid_from_python(std::string(name) + ": the array cannot be read");
  }
  bool has_sign = false;
  const bool right_shape = columns == 1
                               ? view_.ndim == 1
                               : view_.ndim == 2 && static_cast<size_t>(view_.shape[1]) == columns;
  if (view_.itemsize != sizeof(uint64_t) || !is_number_format(view_.format, has_sign) ||
      !right_shape) {
    const std::string shape =
        columns == 1 ? "one dimension" : "shape (n, " + std::to_string(columns) + ")";
    const std::string has = "elements of format '" +
                            std::string(view_.format == nullptr ? "B" : view_.format) + "' and " +
                            std::to_string(view_.ndim) + " dimensions";
    PyBuffer_Release(&view_);
    raise_invalid(std::string(name) + " is an array with " + has + ": give 64-bit integers in " +
                  shape + ", such as x.astype(numpy.uint64)");
  }
  if (PyBuffer_IsContiguous(&view_, 'C') != 0 &&
      reinterpret_cast<uintptr_t>(view_.buf) % alignof(uint64_t) == 0) {
    values_ = {static_cast<const uint64_t*>(view_.buf),
               static_cast<size_t>(view_.len) / sizeof(uint64_t)};
  } else {
    copy_strided(view_);
    PyBuffer_Release(&view_);
  }
  if (has_sign) check_signs(name);
}

void NumberArray::copy_strided(const Py_buffer& view) {
  const Py_ssize_t inner = view.ndim == 2 ? view.shape[1] : 1;
  const Py_ssize_t inner_stride = view.ndim == 2 ? view.strides[1] : 0;
  storage_.reserve(static_cast<size_t>(view.shape[0] * inner));
  for (Py_ssize_t row = 0; row < view.shape[0]; ++row) {
    for (Py_ssize_t column = 0; column < inner; ++column) {
      uint64_t value = 0;
      std::memcpy(
          &value,
          static_cast<const char*>(view.buf) + row * view.strides[0] + column * inner_stride,
          sizeof(value));
      storage_.push_back(value);
    }
  }
  values_ = storage_;
}

void NumberArray::check_signs(const char* name) const {
  uint64_t all = 0;
  for (const uint64_t value : values_) all |= value;
  if (all >> 63 != 0) {
    raise_invalid(std::string(name) + " has a negative number: give numbers of 0 or more");
  }
}

void NumberArray::take_sequence(nb::handle object, const char* name, size_t columns) {
  constexpr auto kWrong = static_cast<unsigned long long>(-1);
  nb::object sequence;
  if (!PyUnicode_Check(object.ptr()) && !PyDict_Check(object.ptr())) {
    sequence = nb::steal(PySequence_Fast(object.ptr(), ""));
  }
  if (!sequence.is_valid()) {
    PyErr_Clear();
    raise_invalid(std::string(name) + " is a " + name_of_type(object) +
                  ": give an array of uint64 or a sequence of ints");
  }
  const auto name_of = [&](Py_ssize_t i) {
    return std::string(name) + "[" + std::to_string(i) + "]";
  };
  // Looked up each time: __index__ of an element may change the list.
  const auto size = [&] { return PySequence_Fast_GET_SIZE(sequence.ptr()); };
  storage_.reserve(static_cast<size_t>(size()) * columns);
  for (Py_ssize_t i = 0; i < size(); ++i) {
    const nb::object item = nb::borrow(PySequence_Fast_GET_ITEM(sequence.ptr(), i));
    if (columns == 1) {
      const unsigned long long value =
          PyLong_Check(item.ptr()) ? PyLong_AsUnsignedLongLong(item.ptr()) : kWrong;
      if (value != kWrong) {
        storage_.push_back(value);
      } else {
        PyErr_Clear();
        storage_.push_back(to_number(item, name_of(i).c_str(), kAnyNumber));
      }
      continue;
    }
    NumberArray row(item, name_of(i).c_str());
    if (row.values().size() != columns) {
      raise_invalid(name_of(i) + " has " + std::to_string(row.values().size()) + " numbers: give " +
                    std::to_string(columns));
    }
    storage_.insert(storage_.end(), row.values().begin(), row.values().end());
  }
  values_ = storage_;
}

}  // namespace te::py
