#include "platform/cuda/follow.h"

#include "base/log.h"
#include "platform/cuda/gpu.h"

namespace te::cuda {
namespace {

// A stream of the engine's own waits for the work, and an event behind that is asked. So what the
// application does to its event and its stream afterwards does not matter.
class Followed final : public DeviceWork {
 public:
  Followed(const Library& library, std::shared_ptr<Gpu> gpu, Gpu::Marker marker)
      : library_(library), gpu_(std::move(gpu)), marker_(marker) {}
  ~Followed() override { gpu_->give_back(marker_, ended_); }

  Status add(Event event) {
    const Gpu::Current current(*gpu_);
    TE_RETURN_IF_ERROR(current.status());
    return failure("cuStreamWaitEvent", library_.streams.wait_event(marker_.stream, event, 0));
  }
  Status all_added() {
    const Gpu::Current current(*gpu_);
    TE_RETURN_IF_ERROR(current.status());
    return failure("cuEventRecord", library_.events.record(marker_.event, marker_.stream));
  }
  Result<bool> has_ended() override {
    const Gpu::Current current(*gpu_);
    TE_RETURN_IF_ERROR(current.status());
    const CuResult result = library_.events.query(marker_.event);
    if (result == CuResult::kNotReady) return false;
    TE_RETURN_IF_ERROR(failure("cuEventQuery", result));
    ended_ = true;
    return true;
  }

 private:
  Status failure(std::string_view call, CuResult result) const {
    if (result == CuResult::kSuccess) return {};
    return library_.failed(call, result, Code::kInvalidArgument);
  }

  const Library& library_;
  const std::shared_ptr<Gpu> gpu_;
  const Gpu::Marker marker_;
  bool ended_ = false;
};

// An event behind what is in the stream now, in the stream's own context.
class EventInStream {
 public:
  explicit EventInStream(const Library& library) : library_(library) {}
  ~EventInStream() {
    if (event_ != nullptr) (void)library_.events.destroy(event_);
    Context context = nullptr;
    if (pushed_) (void)library_.pop_context(&context);
  }
  EventInStream(const EventInStream&) = delete;
  EventInStream& operator=(const EventInStream&) = delete;

  Status record(Stream stream) {
    Context context = nullptr;
    TE_RETURN_IF_ERROR(check("cuStreamGetCtx", library_.streams.get_context(stream, &context)));
    TE_RETURN_IF_ERROR(check("cuCtxPushCurrent", library_.push_context(context)));
    pushed_ = true;
    TE_RETURN_IF_ERROR(
        check("cuEventCreate", library_.events.create(&event_, kEventDisableTiming)));
    return check("cuEventRecord", library_.events.record(event_, stream));
  }
  Event get() const { return event_; }

 private:
  Status check(std::string_view call, CuResult result) const {
    if (result == CuResult::kSuccess) return {};
    return library_.failed(call, result, Code::kInvalidArgument);
  }

  const Library& library_;
  Event event_ = nullptr;
  bool pushed_ = false;
};

}  // namespace

Result<std::unique_ptr<DeviceWork>> follow(const Library& library, Event event, Stream stream) {
  Result<std::shared_ptr<Gpu>> gpu = Gpu::hold_any(library);
  if (!gpu.ok()) return gpu.status();
  const Result<Gpu::Marker> marker = (*gpu)->take_marker();
  if (!marker.ok()) return marker.status();
  auto work = std::make_unique<Followed>(library, gpu.take(), *marker);
  if (event != nullptr) {
    const Status added = work->add(event);
    if (!added.ok()) {
      return added.with_context(
          fmt::format("the event {} cannot be followed", static_cast<void*>(event)));
    }
  }
  if (stream != nullptr) {
    EventInStream in_stream(library);
    Status added = in_stream.record(stream);
    if (added.ok()) added = work->add(in_stream.get());
    if (!added.ok()) {
      return added.with_context(
          fmt::format("the stream {} cannot be followed", static_cast<void*>(stream)));
    }
  }
  TE_RETURN_IF_ERROR(work->all_added());
  return std::unique_ptr<DeviceWork>(std::move(work));
}

}  // namespace te::cuda
