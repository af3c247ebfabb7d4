// The Python class Engine: it owns an engine of the library, the memory that is registered with it,
// and what is in flight.
//
// Threads: with the GIL, which guards all members. call() releases it while the library works.
// An engine is destroyed only when no call is inside it: close() waits for those of other threads.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "errors.h"
#include "gil.h"
#include "local_memory.h"
#include "transfer_engine/engine.h"

namespace te::py {

class MemoryObject;
class Transfer;

// One batch in flight with the memory that it uses. Its Transfer owns it, and hands it to the
// engine if it is dropped before the batch is terminal.
struct Flight {
  BatchId batch = kInvalidBatch;
  LocalMemory memory;
  Transfer* owner = nullptr;  // null: dropped
  bool awaited = false;       // by an event loop
  Flight* before = nullptr;
  Flight* behind = nullptr;
};

class EngineObject {
 public:
  explicit EngineObject(const EngineOptions& options);
  ~EngineObject();
  EngineObject(const EngineObject&) = delete;
  EngineObject& operator=(const EngineObject&) = delete;

  // Cancels what is in flight, waits for the calls of other threads, ends the engine. Never raises.
  void close();
  bool closed() const { return engine_ == nullptr || closing_; }
  static void close_all();

  // f(Engine&) without the GIL. It must not throw. Raises TransferCancelledError once closed.
  template <typename Function>
  auto call(Function&& f) {
    if (closed()) raise_closed();
    const Call counted(*this);
    const WithoutGil released;
    return f(*engine_);
  }
  // The same for calls that wait for a peer: Status or Result. Ctrl-C and the end of the engine
  // interrupt them. Handlers of signals run outside of the call, or one that closes the engine
  // would wait for itself; if it raises nothing, f is called again.
  template <typename Function>
  auto call_peer(Function&& f) {
    for (;;) {
      if (closed()) raise_closed();
      bool interrupted = false;
      auto result = [&] {
        const Call counted(*this);
        WithoutGil released;
        const Interruptible interruptible([&] {
          return released.take_for([&] {
            interrupted = ctrl_c_waits();
            return interrupted || closing_;
          });
        });
        return f(*engine_);
      }();
      if (interrupted && PyErr_CheckSignals() != 0) throw nb::python_error();
      if (result.code() != Code::kCancelled || (!interrupted && !closing_)) return result;
    }
  }
  // call() with the GIL, for calls that take less than a microsecond.
  Engine& quick() {
    if (closed()) raise_closed();
    return *engine_;
  }

  // Memory. All raise.
  uint64_t register_object(LocalMemory memory, const std::string& location, Access access);
  void unregister(uint64_t address);
  void forget_registered(uint64_t address);
  std::set<MemoryObject*>& allocated() { return allocated_; }

  // Flights.
  void add(Flight& flight);
  void remove(Flight& flight);
  // Takes over one whose Transfer was dropped.
  void adopt(std::unique_ptr<Flight> flight);
  // Lets go of those that were taken over and have ended.
  void sweep();
  // The batch ended, or the engine did: tells the event loops that await it.
  void tell_waiters(BatchId batch) noexcept;
  // transfer_engine._asyncio.Waiters of this engine, made when it is first needed.
  nb::object waiters(nb::handle self);

  int traverse(visitproc visit, void* arg);
  void clear();

 private:
  class Call {
   public:
    explicit Call(EngineObject& object) : object_(object) { ++object_.calls_; }
    ~Call() { --object_.calls_; }

   private:
    EngineObject& object_;
  };

  [[noreturn]] static void raise_closed();
  // Whether SIGINT came and its handler is still to run. On the main thread.
  static bool ctrl_c_waits();
  void await_calls();
  void end_flights();

  std::unique_ptr<Engine> engine_;  // null: closed
  bool closing_ = false;
  int calls_ = 0;
  Flight* first_ = nullptr;
  size_t adopted_ = 0;    // flights without an owner
  size_t sweep_at_ = 64;  // as many of them
  // By address; of objects alone.
  std::multimap<uint64_t, LocalMemory> registered_;
  std::set<MemoryObject*> allocated_;
  nb::object waiters_;
};

}  // namespace te::py
