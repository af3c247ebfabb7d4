// The parts of the module, each of which defines some of its classes.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace te::py {

namespace nb = nanobind;

void define_values(nb::module_& module);
void define_engine(nb::module_& module);
void define_segment(nb::module_& module);

// As a literal of Python.
inline std::string quoted(const std::string& text) {
  return nb::repr(nb::str(text.data(), text.size())).c_str();
}

// For nb::type_slots of a class that holds references. traverse() may only visit; clear() lets go.
template <typename Class>
int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (!nb::inst_ready(self)) return 0;
  return nb::inst_ptr<Class>(self)->traverse(visit, arg);
}
template <typename Class>
int clear(PyObject* self) {
  if (nb::inst_ready(self)) nb::inst_ptr<Class>(self)->clear();
  return 0;
}
template <typename Class>
inline PyType_Slot kCollected[] = {
    {Py_tp_traverse, reinterpret_cast<void*>(traverse<Class>)},
    {Py_tp_clear, reinterpret_cast<void*>(clear<Class>)},
    {0, nullptr},
};

}  // namespace te::py
