// An object for each thread, made when the thread first asks for it.
//
// A `thread_local` with a destructor is destroyed too early for this library. The main thread's are
// destroyed before exit handlers and destructors of statics run, a thread's before those that the
// application made earlier, and all of these may call the API. So src/ has no such `thread_local`:
// this object lives for as long as the thread can make calls.
//
// Threads: any; the object is the calling thread's.
#pragma once

#include <pthread.h>

#include <cstddef>
#include <new>

namespace te {

namespace per_thread_internal {

class ThreadEnd {
 public:
  explicit ThreadEnd(void (*destroy)(void* place));
  // Calls `destroy` when the calling thread ends, after its `thread_local` objects are destroyed.
  // Never while exit() runs. Without memory, or after 1,024 keys of the process, it is not called.
  void note(void* place) const;

 private:
  pthread_key_t key_{};
  bool made_ = false;
};

}  // namespace per_thread_internal

// The calling thread's object. A thread that ends destroys it last. If another of its destructors
// asks later still, a new object is made, and destroyed in turn. The thread that ends the process
// keeps its object. Throws only what the constructor throws.
template <typename T>
T& per_thread() {
  struct Place {
    T& object() { return *std::launder(reinterpret_cast<T*>(bytes)); }
    alignas(T) std::byte bytes[sizeof(T)];
    bool used;
  };
  static thread_local Place place;
  if (!place.used) [[unlikely]] {
    static const per_thread_internal::ThreadEnd end([](void* ended) {
      auto& its = *static_cast<Place*>(ended);
      its.used = false;
      its.object().~T();
    });
    ::new (place.bytes) T;
    place.used = true;
    end.note(&place);
  }
  return place.object();
}

}  // namespace te
