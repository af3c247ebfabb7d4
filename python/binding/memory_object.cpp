#include "memory_object.h"

#include <sys/mman.h>

#include <utility>

namespace te::py {

MemoryObject::MemoryObject(nb::object engine, size_t length, const AllocateOptions& options)
    : engine_(std::move(engine)), length_(length) {
  data_ = check(
      engine_object()->call([&](Engine& library) { return library.allocate(length, options); }));
  engine_object()->allocated().insert(this);
}

MemoryObject::~MemoryObject() { (void)free_now(); }

EngineObject* MemoryObject::engine_object() const { return nb::inst_ptr<EngineObject>(engine_); }

void MemoryObject::free() {
  if (data_ != nullptr && exports_ > 0) {
    raise(Status(Code::kBusy, "buffers of the memory are in use (" + std::to_string(exports_) +
                                  "), such as numpy arrays: delete these first"),
          {.address = address()});
  }
  check(free_now());
}

Status MemoryObject::free_now() {
  if (data_ == nullptr) return {};
  void* const data = std::exchange(data_, nullptr);
  if (mapped_ > 0) {
    ::munmap(data, mapped_);
    return {};
  }
  if (!engine_.is_valid() || engine_object()->closed()) return {};  // freed with the engine
  engine_object()->allocated().erase(this);
  return engine_object()->call([&](Engine& library) { return library.free(data); });
}

void MemoryObject::outlive(Engine& engine) {
  if (exports_ == 0) {
    data_ = nullptr;
    return;
  }
  const Result<size_t> mapped = engine.release(data_);
  if (mapped.ok()) mapped_ = *mapped;
}

int MemoryObject::get_buffer(PyObject* self, Py_buffer* view, int flags) {
  if (data_ == nullptr) {
    PyErr_SetString(PyExc_BufferError, "the memory was freed, or its engine was closed");
    view->obj = nullptr;
    return -1;
  }
  const int result =
      PyBuffer_FillInfo(view, self, data_, static_cast<Py_ssize_t>(length_), 0, flags);
  if (result == 0) ++exports_;
  return result;
}

}  // namespace te::py
