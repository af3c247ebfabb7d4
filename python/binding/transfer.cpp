#include "transfer.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

namespace te::py {
namespace {

using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

// Between two looks at signals and at the end of the engine.
constexpr Milliseconds kSlice{100};

std::optional<Clock::time_point> deadline_after(
    std::optional<std::chrono::duration<double>> seconds) {
  if (!seconds) return std::nullopt;
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(*seconds);
}

}  // namespace

Transfer::Transfer(nb::object segment, std::unique_ptr<Flight> flight)
    : segment_(std::move(segment)), flight_(std::move(flight)) {
  address_ = flight_->memory.address();
  flight_->owner = this;
  engine().add(*flight_);
}

Transfer::~Transfer() {
  if (flight_ == nullptr) return;
  // It goes on. What is not known of it, in a forked child, goes with the engine.
  const bool ended = [this] {
    if (engine().closed()) return false;
    const Result<TransferStatus> status = engine().quick().status(flight_->batch, 0);
    if (!status.ok() || !is_terminal(status->state)) return false;
    (void)engine().quick().free_batch(flight_->batch);
    return true;
  }();
  if (ended) {
    engine().remove(*flight_);
  } else {
    engine().adopt(std::move(flight_));
  }
}

ErrorContext Transfer::context() const {
  ErrorContext context = segment().context();
  if (address_ != 0) context.address = address_;
  return context;
}

bool Transfer::done() {
  if (flight_ == nullptr) return true;
  if (engine().closed()) return false;  // it is just being closed
  const TransferStatus status = check(engine().quick().status(flight_->batch, 0), context());
  bytes_ = status.transferred_bytes;
  if (!is_terminal(status.state)) return false;
  settle(status);
  return true;
}

void Transfer::settle(const TransferStatus& status) {
  Engine& library = engine().quick();
  if (status.state != TaskState::kCompleted) {
    Result<TaskError> error = library.task_error(flight_->batch, 0);
    status_ = error.ok() ? error->status : error.status();
    if (status_.ok()) status_ = Status(Code::kCancelled, "the transfer did not complete");
  }
  engine().remove(*flight_);
  const std::unique_ptr<Flight> flight = std::move(flight_);
  (void)library.free_batch(flight->batch);
  if (flight->awaited) engine().tell_waiters(flight->batch);
}

void Transfer::engine_closed() {
  const std::unique_ptr<Flight> flight = std::move(flight_);
  status_ = Status(Code::kCancelled, "the engine was closed while the transfer was in flight");
  if (flight->awaited) engine().tell_waiters(flight->batch);
}

uint64_t Transfer::wait(nb::handle timeout) {
  const auto seconds = to_seconds(timeout);  // a wrong one is refused, done or not
  if (done()) return result();
  const std::optional<Clock::time_point> deadline = deadline_after(seconds);
  for (;;) {
    Milliseconds slice = kSlice;
    if (deadline) {
      slice = std::min(slice, std::chrono::ceil<Milliseconds>(*deadline - Clock::now()));
      slice = std::max(slice, Milliseconds(0));
    }
    wait_slice(slice);
    if (done()) return result();
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (deadline && Clock::now() >= *deadline) {
      raise(Status(Code::kTimeout,
                   "the transfer is still in flight, and goes on: wait longer, or cancel() it"),
            context());
    }
  }
}

void Transfer::wait_slice(Milliseconds slice) {
  if (engine().closed()) {
    // Another thread is closing it, and ends this transfer.
    const WithoutGil released;
    std::this_thread::sleep_for(Milliseconds(1));
    return;
  }
  const BatchId batch = flight_->batch;
  const Status status = engine().call([&](Engine& library) { return library.wait(batch, slice); });
  if (flight_ == nullptr) return;  // another thread saw the end, and freed the batch
  if (!status.ok() && status.code() != Code::kTimeout && status.code() != Code::kCancelled) {
    raise(status, context());
  }
}

uint64_t Transfer::result() {
  check(status_, context());
  return bytes_;
}

void Transfer::cancel() {
  if (done() || engine().closed()) return;
  const BatchId batch = flight_->batch;
  const Status status = engine().call([&](Engine& library) { return library.cancel(batch); });
  if (!done()) check(status, context());
}

nb::object Transfer::error() {
  if (!done() || status_.ok()) return nb::none();
  return to_exception(status_, context());
}

uint64_t Transfer::bytes() {
  (void)done();
  return bytes_;
}

std::string Transfer::state() {
  const bool known =
      flight_ == nullptr || engine().closed() || !engine().quick().check_process().ok() || done();
  if (!known || flight_ != nullptr) return "in flight";
  if (!status_.ok()) return "failed: " + std::string(code_name(status_.code()));
  return "done, " + std::to_string(bytes_) + " bytes";
}

uint64_t Transfer::batch() { return flight_ == nullptr ? kInvalidBatch : flight_->batch; }

nb::object Transfer::waiters() { return engine().waiters(segment().engine()); }

int Transfer::traverse(visitproc visit, void* arg) {
  Py_VISIT(segment_.ptr());
  if (flight_ != nullptr) Py_VISIT(flight_->memory.owner());
  return 0;
}

// One in flight stays whole: its memory is in use.
void Transfer::clear() {
  if (flight_ == nullptr) segment_ = nb::object();
}

}  // namespace te::py
