#include "errors.h"

namespace te::py {
namespace {

// The classes by code, as a dict; made at the first error. Never destroyed by C++.
PyObject* classes = nullptr;

nb::handle class_of(Code code) {
  if (classes == nullptr) {
    nb::object all = nb::module_::import_("transfer_engine._errors").attr("CLASSES");
    classes = all.release().ptr();
  }
  return nb::handle(classes)[nb::int_(static_cast<int>(code))].ptr();
}

}  // namespace

nb::object to_exception(const Status& status, const ErrorContext& context) {
  const nb::object peer = context.peer.empty()
                              ? nb::none()
                              : nb::object(nb::str(context.peer.data(), context.peer.size()));
  const nb::object address = context.address ? nb::object(nb::int_(*context.address)) : nb::none();
  const std::string& text = status.message();
  // Names come from peers and files: what is no UTF-8 is replaced.
  const nb::object message =
      nb::steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
  if (!message.is_valid()) throw nb::python_error();
  return class_of(status.code())(message, peer, address);
}

void raise(const Status& status, const ErrorContext& context) {
  const nb::object exception = to_exception(status, context);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw nb::python_error();
}

void raise_invalid(const std::string& message, const ErrorContext& context) {
  raise(Status(Code::kInvalidArgument, message), context);
}

void raise_invalid_from_python(const std::string& message) {
  nb::python_error cause;
  if (cause.matches(PyExc_MemoryError) || !cause.matches(PyExc_Exception)) throw cause;
  const nb::object exception =
      to_exception(Status(Code::kInvalidArgument, message + ": " + nb::str(cause.value()).c_str()));
  PyException_SetCause(exception.ptr(), nb::borrow(cause.value()).release().ptr());
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw nb::python_error();
}

}  // namespace te::py
