// The Python class Memory: memory of Engine::allocate, with the buffer protocol.
//
// Threads: with the GIL. Buffers of it hold a reference, so it is freed after the last one.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>

#include "engine_object.h"

namespace te::py {

class MemoryObject {
 public:
  MemoryObject(nb::object engine, size_t length, const AllocateOptions& options);
  ~MemoryObject();
  MemoryObject(const MemoryObject&) = delete;
  MemoryObject& operator=(const MemoryObject&) = delete;

  uint64_t address() const { return reinterpret_cast<uint64_t>(data_); }
  size_t length() const { return data_ == nullptr ? 0 : length_; }
  // BusyError while a buffer is exported.
  void free();
  // The engine ends: what programs still look at stays, and is unregistered.
  void outlive(Engine& engine);
  PyObject* engine() const { return engine_.ptr(); }
  int get_buffer(PyObject* self, Py_buffer* view, int flags);
  void release_buffer() { --exports_; }
  void clear() { engine_ = nb::object(); }

 private:
  EngineObject* engine_object() const;
  Status free_now();

  nb::object engine_;
  void* data_ = nullptr;  // null: freed
  size_t length_ = 0;
  int exports_ = 0;
  size_t mapped_ = 0;  // bytes that this object unmaps, once it has outlived its engine
};

}  // namespace te::py
