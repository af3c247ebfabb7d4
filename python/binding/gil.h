// Leaving and taking the interpreter's lock (GIL) around calls of the library.
//
// A daemon thread that wants the GIL while the interpreter ends never gets it: CPython then ends
// the thread, by unwinding or by exit, in the middle of our frames. Such a thread sleeps here
// instead, until the process is gone.
#pragma once

#include <Python.h>
#include <cxxabi.h>
#include <unistd.h>

namespace te::py {

inline void take_gil(PyThreadState* state) noexcept {
  try {
    PyEval_RestoreThread(state);
  } catch (abi::__forced_unwind&) {
    for (;;) ::pause();
  }
}

// While it lives the thread does not hold the GIL. No Python object may be touched.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() { take_gil(state_); }
  // f() with the GIL.
  template <typename Function>
  auto take_for(Function&& f) {
    take_gil(state_);
    const auto result = f();
    state_ = PyEval_SaveThread();
    return result;
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace te::py
