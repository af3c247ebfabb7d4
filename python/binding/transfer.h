// The Python class Transfer: one submission that was started.
//
// Threads: with the GIL. It owns its batch and keeps its memory alive while the batch is in flight.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine_object.h"
#include "segment_object.h"

namespace te::py {

class Transfer {
 public:
  // Submits by submit(Engine&, BatchId). `segment`: the Python object.
  template <typename Submit>
  static nb::object start(nb::handle segment, LocalMemory memory, const Submit& submit);
  // A flight that was submitted.
  Transfer(nb::object segment, std::unique_ptr<Flight> flight);
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  bool done();
  // Bytes moved. Raises why it failed, or TransferTimeoutError after `timeout` seconds.
  uint64_t wait(nb::handle timeout);
  void cancel();
  nb::object error();
  uint64_t bytes();
  // For people. Raises nothing.
  std::string state();

  // For await: the number of its batch, while it is in flight.
  uint64_t batch();
  void set_awaited() {
    if (flight_ != nullptr) flight_->awaited = true;
  }
  nb::object waiters();

  // The engine is gone, and with it the flight, which is out of its list.
  void engine_closed();
  int traverse(visitproc visit, void* arg);
  void clear();

 private:
  SegmentObject& segment() const { return *nb::inst_ptr<SegmentObject>(segment_); }
  EngineObject& engine() const { return segment().engine_object(); }
  ErrorContext context() const;
  void settle(const TransferStatus& status);
  uint64_t result();
  void wait_slice(std::chrono::milliseconds slice);

  nb::object segment_;
  std::unique_ptr<Flight> flight_;  // null: it ended, as these say
  uint64_t address_ = 0;            // of the local memory; 0: of a list
  uint64_t bytes_ = 0;
  Status status_;
};

template <typename Submit>
nb::object Transfer::start(nb::handle segment, LocalMemory memory, const Submit& submit) {
  SegmentObject& object = *nb::inst_ptr<SegmentObject>(segment);
  // All that may raise comes first: once it is submitted, its memory must stay.
  auto flight = std::make_unique<Flight>();
  nb::object result = nb::inst_alloc(nb::type<Transfer>());
  const Status status = object.engine_object().call([&](Engine& engine) -> Status {
    const Result<BatchId> batch = engine.allocate_batch(1, {.completion_queue = true});
    if (!batch.ok()) return batch.status();
    flight->batch = *batch;
    const Status submitted = submit(engine, *batch);
    if (!submitted.ok()) (void)engine.free_batch(*batch);
    return submitted;
  });
  if (!status.ok()) {
    ErrorContext context = object.context();
    if (memory.address() != 0) context.address = memory.address();
    raise(status, context);
  }
  flight->memory = std::move(memory);
  new (nb::inst_ptr<Transfer>(result)) Transfer(nb::borrow(segment), std::move(flight));
  nb::inst_mark_ready(result);
  return result;
}

}  // namespace te::py
