#include "engine_object.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "memory_object.h"
#include "transfer.h"

namespace te::py {
namespace {

// Those that are open, for the end of the interpreter. With the GIL.
std::set<EngineObject*>& open_engines() {
  static std::set<EngineObject*>* engines = new std::set<EngineObject*>;
  return *engines;
}

}  // namespace

EngineObject::EngineObject(const EngineOptions& options) {
  Result<std::unique_ptr<Engine>> engine = [&] {
    const WithoutGil released;
    return Engine::create(options);
  }();
  engine_ = check(std::move(engine), {.peer = options.name});
  open_engines().insert(this);
}

EngineObject::~EngineObject() { close(); }

void EngineObject::raise_closed() {
  raise(Status(Code::kCancelled, "the engine was closed: create another one"));
}

bool EngineObject::ctrl_c_waits() {
  if (PyOS_InterruptOccurred() == 0) return false;
  PyErr_SetInterrupt();  // which the question has taken
  return true;
}

void EngineObject::close() {
  if (closed()) return;
  closing_ = true;
  open_engines().erase(this);
  // In a forked child there is nobody to wait for, and nothing to end.
  const bool own = engine_->check_process().ok();
  if (own) {
    for (Flight* flight = first_; flight != nullptr; flight = flight->behind) {
      (void)engine_->cancel(flight->batch);
    }
    await_calls();
    for (MemoryObject* memory : allocated_) memory->outlive(*engine_);
  }
  std::unique_ptr<Engine> engine = std::move(engine_);
  {
    const WithoutGil released;
    engine.reset();
  }
  end_flights();
  // What is let go may run any code.
  std::multimap<uint64_t, LocalMemory> registered = std::move(registered_);
  registered_.clear();
}

// They end soon: what they wait for was cancelled, or has a limit of time.
void EngineObject::await_calls() {
  for (int rounds = 0; calls_ > 0; ++rounds) {
    const WithoutGil released;
    std::this_thread::sleep_for(
        std::chrono::microseconds(std::min(50 << std::min(rounds, 5), 1000)));
  }
}

// The engine is gone: nothing touches their memory any more.
void EngineObject::end_flights() {
  while (first_ != nullptr) {
    Flight* flight = first_;
    remove(*flight);
    if (flight->owner != nullptr) {
      flight->owner->engine_closed();
    } else {
      const std::unique_ptr<Flight> adopted(flight);
    }
  }
  adopted_ = 0;
}

void EngineObject::close_all() {
  while (!open_engines().empty()) (*open_engines().begin())->close();
}

uint64_t EngineObject::register_object(LocalMemory memory, const std::string& location,
                                       Access access) {
  const uint64_t address = memory.address();
  if (memory.read_only()) {
    if (access == Access::kWrite || access == Access::kReadWrite) {
      raise(Status(Code::kPermission,
                   "the memory is read-only and cannot be registered for writing: give writable "
                   "memory, or Access.READ"),
            {.address = address});
    }
    if (access == Access::kDefault) access = Access::kRead;
  }
  check(call([&](Engine& engine) {
          return engine.register_memory(reinterpret_cast<void*>(address), memory.length(), location,
                                        access);
        }),
        {.address = address});
  if (memory.owner() != nullptr) registered_.emplace(address, std::move(memory));
  return address;
}

void EngineObject::unregister(uint64_t address) {
  check(call([&](Engine& engine) {
          return engine.unregister_memory(reinterpret_cast<void*>(address));
        }),
        {.address = address});
  forget_registered(address);
}

void EngineObject::forget_registered(uint64_t address) {
  const auto found = registered_.find(address);
  if (found == registered_.end()) return;
  const LocalMemory released = std::move(found->second);
  registered_.erase(found);
}

void EngineObject::add(Flight& flight) {
  flight.before = nullptr;
  flight.behind = first_;
  if (first_ != nullptr) first_->before = &flight;
  first_ = &flight;
  if (adopted_ >= sweep_at_) sweep();
}

void EngineObject::remove(Flight& flight) {
  (flight.before == nullptr ? first_ : flight.before->behind) = flight.behind;
  if (flight.behind != nullptr) flight.behind->before = flight.before;
  flight.before = flight.behind = nullptr;
}

void EngineObject::adopt(std::unique_ptr<Flight> flight) {
  flight->owner = nullptr;
  flight.release();  // it is in the list
  ++adopted_;
}

void EngineObject::sweep() {
  std::vector<std::unique_ptr<Flight>> ended;
  for (Flight *flight = first_, *next = nullptr; flight != nullptr; flight = next) {
    next = flight->behind;
    if (flight->owner != nullptr) continue;
    const Result<TransferStatus> status = engine_->status(flight->batch, 0);
    if (status.ok() && !is_terminal(status->state)) continue;
    (void)engine_->free_batch(flight->batch);
    remove(*flight);
    ended.emplace_back(flight);
  }
  adopted_ -= ended.size();
  sweep_at_ = 64 + 2 * adopted_;
}

void EngineObject::tell_waiters(BatchId batch) noexcept {
  if (!waiters_.is_valid()) return;
  const nb::object waiters = waiters_;
  const nb::error_scope untouched;
  PyObject* result =
      PyObject_CallMethod(waiters.ptr(), "ended", "K", static_cast<unsigned long long>(batch));
  if (result == nullptr) PyErr_WriteUnraisable(waiters.ptr());
  Py_XDECREF(result);
}

nb::object EngineObject::waiters(nb::handle self) {
  if (!waiters_.is_valid()) {
    waiters_ = nb::module_::import_("transfer_engine._asyncio").attr("Waiters")(self);
  }
  return waiters_;
}

int EngineObject::traverse(visitproc visit, void* arg) {
  for (const auto& [address, memory] : registered_) Py_VISIT(memory.owner());
  for (Flight* flight = first_; flight != nullptr; flight = flight->behind) {
    if (flight->owner == nullptr) Py_VISIT(flight->memory.owner());
  }
  Py_VISIT(waiters_.ptr());
  return 0;
}

void EngineObject::clear() {
  close();
  const nb::object waiters = std::move(waiters_);
  waiters_ = nb::object();
}

}  // namespace te::py
