#include "local_memory.h"

#include <nanobind/ndarray.h>

#include <algorithm>
#include <string>

#include "errors.h"

namespace te::py {
namespace {

constexpr const char* kAccepted =
    "give an object with the buffer protocol, __dlpack__ or __cuda_array_interface__, or an "
    "address "
    "and a length";

bool has(nb::handle object, const char* name) { return nb::hasattr(object, name); }

[[noreturn]] void refuse_layout(nb::handle object) {
  raise_invalid("the memory of the " + name_of_type(object) +
                " is not C-contiguous: give a contiguous copy or slice, which transfers as one "
                "range, or a list of ranges");
}

}  // namespace

std::string name_of_type(nb::handle object) {
  const nb::handle type = object.type();
  const std::string name = nb::str(nb::getattr(type, "__qualname__")).c_str();
  const std::string module = nb::str(nb::getattr(type, "__module__", nb::str("builtins"))).c_str();
  return module == "builtins" ? name : module + "." + name;
}

bool is_number(nb::handle object) {
  if (PyLong_Check(object.ptr())) return true;
  const PySequenceMethods* sequence = Py_TYPE(object.ptr())->tp_as_sequence;
  return PyIndex_Check(object.ptr()) && (sequence == nullptr || sequence->sq_length == nullptr);
}

uint64_t to_number(nb::handle object, const char* name, const char* range, uint64_t most) {
  nb::object number;
  if (!PyLong_Check(object.ptr())) {
    number = nb::steal(PyNumber_Index(object.ptr()));
    if (!number.is_valid()) {
      PyErr_Clear();
      raise_invalid(std::string(name) + " is a " + name_of_type(object) + ": give an int from " +
                    range);
    }
    object = number;
  }
  const unsigned long long value = PyLong_AsUnsignedLongLong(object.ptr());
  const bool too_large =
      value == static_cast<unsigned long long>(-1) && PyErr_Occurred() != nullptr;
  if (too_large || value > most) {
    PyErr_Clear();
    raise_invalid(std::string(name) + " is " + nb::str(object).c_str() + ": give an int from " +
                  range);
  }
  return value;
}

std::optional<std::chrono::duration<double>> to_seconds(nb::handle timeout) {
  if (timeout.is_none()) return std::nullopt;
  const double seconds = PyFloat_AsDouble(timeout.ptr());
  if (seconds == -1.0 && PyErr_Occurred() != nullptr) {
    raise_invalid_from_python("timeout is a " + name_of_type(timeout) + ": give seconds or None");
  }
  constexpr double kLongest = 1e9;
  if (!(seconds <= kLongest)) {
    raise_invalid("timeout is " + std::to_string(seconds) +
                  ": give seconds, at most 1,000,000,000, or None");
  }
  return std::chrono::duration<double>(std::max(seconds, 0.0));
}

// The members are whole before anything raises, so that the destructor releases them.
LocalMemory::LocalMemory(nb::handle object, nb::handle length, bool must_be_writable)
    : LocalMemory() {
  if (is_number(object)) {
    take_address(object, length);
    return;
  }
  if (PyObject_CheckBuffer(object.ptr())) {
    take_buffer(object, must_be_writable);
  } else if (!take_tensor(object) && !take_cuda_array(object)) {
    take_dlpack(object);
  }
  if (must_be_writable && read_only_) {
    raise(
        Status(Code::kPermission, "the memory of the " + name_of_type(object) +
                                      " is read-only, and would be written: give writable memory"),
        {.address = address_});
  }
  if (!length.is_none()) shorten(length);
}

std::string to_text(nb::handle object, const std::string& name) {
  if (!PyUnicode_Check(object.ptr())) {
    raise_invalid(name + " is a " + name_of_type(object) + ": give a str");
  }
  Py_ssize_t length = 0;
  const char* const text = PyUnicode_AsUTF8AndSize(object.ptr(), &length);
  if (text == nullptr) raise_invalid_from_python(name + " is no valid text");
  return {text, static_cast<size_t>(length)};
}

std::string to_message(nb::handle object) {
  if (!PyObject_CheckBuffer(object.ptr())) {
    raise_invalid("the message is a " + name_of_type(object) +
                  ": give bytes, such as text.encode()");
  }
  const LocalMemory memory(object, nb::none(), false);
  return {reinterpret_cast<const char*>(memory.address()), memory.length()};
}

void LocalMemory::release() {
  if (view_.obj != nullptr) PyBuffer_Release(&view_);
  Py_CLEAR(kept_);
}

void LocalMemory::take_address(nb::handle object, nb::handle length) {
  address_ = to_number(object, "the local address", kBytes);
  if (length.is_none()) {
    raise_invalid("an address was given without a length: give the length in bytes",
                  {.address = address_});
  }
  length_ = to_number(length, "length", kBytes);
}

void LocalMemory::take_buffer(nb::handle object, bool must_be_writable) {
  const int flags = must_be_writable ? PyBUF_WRITABLE : PyBUF_SIMPLE;
  if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) {
    view_ = {};
    nb::python_error cause;
    Py_buffer other;
    if (must_be_writable && PyObject_GetBuffer(object.ptr(), &other, PyBUF_SIMPLE) == 0) {
      address_ = reinterpret_cast<uint64_t>(other.buf);
      PyBuffer_Release(&other);
      read_only_ = true;
      return;
    }
    PyErr_Clear();
    if (PyObject_GetBuffer(object.ptr(), &other, PyBUF_STRIDES) == 0) {
      PyBuffer_Release(&other);
      refuse_layout(object);
    }
    PyErr_Clear();
    cause.restore();
    raise_invalid_from_python("the memory of the " + name_of_type(object) + " cannot be used");
  }
  address_ = reinterpret_cast<uint64_t>(view_.buf);
  length_ = static_cast<uint64_t>(view_.len);
  read_only_ = view_.readonly != 0;
}

// torch.Tensor, also where DLPack does not know the type or the tensor requires a gradient.
bool LocalMemory::take_tensor(nb::handle object) {
  if (!has(object, "data_ptr") || !has(object, "is_contiguous") || !has(object, "element_size")) {
    return false;
  }
  const std::string no_memory =
      "the " + name_of_type(object) + " has no memory that can be transferred";
  try {
    address_ = nb::cast<uint64_t>(object.attr("data_ptr")());
    if (!nb::cast<bool>(object.attr("is_contiguous")())) refuse_layout(object);
  } catch (nb::python_error& cause) {
    if (!cause.matches(PyExc_RuntimeError)) throw;
    cause.restore();
    raise_invalid_from_python(no_memory);  // a sparse one
  }
  length_ = nb::cast<uint64_t>(object.attr("numel")()) *
            nb::cast<uint64_t>(object.attr("element_size")());
  if (address_ == 0 && length_ != 0) raise_invalid(no_memory + ": it has a shape only");
  // Views that are conjugated or negated where they are read: the bytes are those of the original.
  for (const char* view : {"conj", "neg"}) {
    const std::string is_view = std::string("is_") + view;
    if (has(object, is_view.c_str()) && nb::cast<bool>(object.attr(is_view.c_str())())) {
      raise_invalid("the bytes of the " + name_of_type(object) + " are not its values: give its " +
                    "resolve_" + view + "()");
    }
  }
  kept_ = object.inc_ref().ptr();
  return true;
}

bool LocalMemory::take_cuda_array(nb::handle object) {
  if (!has(object, "__cuda_array_interface__")) return false;
  const std::string malformed =
      "__cuda_array_interface__ of the " + name_of_type(object) + " is malformed";
  bool contiguous = true;
  try {
    const nb::object interface = object.attr("__cuda_array_interface__");
    const nb::object data = interface["data"];
    address_ = nb::cast<uint64_t>(data[0]);
    read_only_ = nb::cast<bool>(data[1]);
    const std::string type = nb::cast<nb::str>(interface["typestr"]).c_str();
    // "<f4": the order of bytes, the kind, the bytes of an element.
    uint64_t bytes = std::stoull(type.substr(2));
    const nb::object strides = interface.attr("get")("strides");
    const nb::object shape = interface["shape"];
    for (size_t i = nb::len(shape); i-- > 0;) {
      const uint64_t extent = nb::cast<uint64_t>(shape[i]);
      contiguous = contiguous && (strides.is_none() || extent <= 1 ||
                                  nb::cast<int64_t>(strides[i]) == static_cast<int64_t>(bytes));
      bytes *= extent;
    }
    length_ = bytes;
  } catch (nb::python_error& cause) {
    cause.restore();
    raise_invalid_from_python(malformed);
  } catch (const nb::cast_error&) {
    raise_invalid(malformed);
  } catch (const std::logic_error&) {
    raise_invalid(malformed);
  }
  if (!contiguous) refuse_layout(object);
  kept_ = object.inc_ref().ptr();
  return true;
}

void LocalMemory::take_dlpack(nb::handle object) {
  if (!has(object, "__dlpack__")) {
    raise_invalid("a " + name_of_type(object) +
                  " has no memory that can be transferred: " + kAccepted);
  }
  nb::ndarray<nb::ro> array;
  try {
    array = nb::cast<nb::ndarray<nb::ro>>(object);
  } catch (const nb::cast_error&) {
    raise_invalid("__dlpack__ of the " + name_of_type(object) +
                  " does not give its memory: " + kAccepted);
  }
  int64_t expected = 1;
  for (size_t i = array.ndim(); i-- > 0;) {
    if (array.shape(i) > 1 && array.stride(i) != expected) refuse_layout(object);
    expected *= static_cast<int64_t>(array.shape(i));
  }
  address_ = reinterpret_cast<uint64_t>(array.data());
  length_ = array.nbytes();
  kept_ = nb::cast(array).release().ptr();
}

void LocalMemory::shorten(nb::handle length) {
  const uint64_t wanted = to_number(length, "length", kBytes);
  if (wanted > length_) {
    const uint64_t address = address_;
    raise(
        Status(Code::kOutOfRange, "length is " + std::to_string(wanted) + ", and the memory has " +
                                      std::to_string(length_) + " bytes: give at most that"),
        {.address = address});
  }
  length_ = wanted;
}

}  // namespace te::py
