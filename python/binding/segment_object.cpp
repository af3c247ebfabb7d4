#include "segment_object.h"

#include <chrono>
#include <utility>

#include "number_array.h"
#include "transfer.h"

namespace te::py {
namespace {

// Addresses as a program gave them: arrays of one length, or one length for all.
struct Addresses {
  Addresses(nb::handle source_addresses, nb::handle offsets, nb::handle range_lengths)
      : target_offsets(offsets, "target_offset"), sources(source_addresses, "source") {
    if (range_lengths.is_none()) {
      raise_invalid("a list of addresses takes lengths: give an array, or one int for all");
    }
    if (is_number(range_lengths)) {
      lengths.fill(sources.values().size(), to_number(range_lengths, "length", kBytes));
    } else {
      lengths.take(range_lengths, "length");
    }
    if (sources.values().size() != target_offsets.values().size() ||
        sources.values().size() != lengths.values().size()) {
      raise_invalid("the lists have different lengths: " + std::to_string(sources.values().size()) +
                    " sources, " + std::to_string(target_offsets.values().size()) +
                    " target offsets, " + std::to_string(lengths.values().size()) +
                    " lengths; give as many of each");
    }
  }
  AddressList list(Opcode opcode, SegmentId target) const {
    return {opcode, target, sources.values(), target_offsets.values(), lengths.values()};
  }

  NumberArray target_offsets;  // first: whether it is a list decides
  NumberArray sources;
  NumberArray lengths;
};

void refuse_places(nb::handle target_offset, nb::handle length, const char* what) {
  if (!target_offset.is_none() || !length.is_none()) {
    raise_invalid(std::string("a ") + what +
                  " says itself where its ranges are: give no target_offset and no length");
  }
}

const char* name_of(Opcode opcode) { return opcode == Opcode::kRead ? "read" : "write"; }

void* to_handle(nb::handle number, const char* name) {
  return reinterpret_cast<void*>(to_number(number, name, kBytes));
}

// An event, or a stream, as torch and others have them, or the number of an event.
void set_after(nb::handle after, SubmitOptions* options) {
  constexpr uintptr_t kLegacyStream = 1;  // CU_STREAM_LEGACY, the default stream
  if (nb::hasattr(after, "cuda_event")) {
    options->after_event = to_handle(after.attr("cuda_event"), "after.cuda_event");
  } else if (nb::hasattr(after, "cuda_stream")) {
    void* const stream = to_handle(after.attr("cuda_stream"), "after.cuda_stream");
    options->after_stream = stream != nullptr ? stream : reinterpret_cast<void*>(kLegacyStream);
    return;
  } else if (is_number(after)) {
    options->after_event = to_handle(after, "after");
  } else {
    raise_invalid("after is a " + name_of_type(after) +
                  ": give a torch.cuda.Event or torch.cuda.Stream, another object with cuda_event "
                  "or cuda_stream, or the handle of an event as an int");
  }
  if (options->after_event == nullptr) {
    raise_invalid(
        "the event of `after` was never recorded: record it in the stream whose work "
        "the transfer follows");
  }
}

[[noreturn]] void refuse_list(nb::handle source, const char* method) {
  raise_invalid(std::string(method) + " takes lists, not a " + name_of_type(source) +
                " and one target offset: give addresses, target offsets and lengths, or a "
                "BlockList");
}

}  // namespace

BlockListObject::BlockListObject(nb::handle regions, nb::handle source_blocks,
                                 nb::handle target_blocks) {
  constexpr size_t kColumns = 3;
  const NumberArray rows(regions, "regions", kColumns);
  const NumberArray sources(source_blocks, "source_blocks");
  const NumberArray targets(target_blocks, "target_blocks");
  if (sources.values().size() != targets.values().size()) {
    raise_invalid("there are " + std::to_string(sources.values().size()) + " source_blocks and " +
                  std::to_string(targets.values().size()) + " target_blocks: give as many of each");
  }
  regions_.reserve(rows.values().size() / kColumns);
  for (size_t i = 0; i < rows.values().size(); i += kColumns) {
    regions_.push_back(
        {reinterpret_cast<void*>(rows.values()[i]), rows.values()[i + 1], rows.values()[i + 2]});
  }
  source_blocks_.assign(sources.values().begin(), sources.values().end());
  target_blocks_.assign(targets.values().begin(), targets.values().end());
}

SubmitOptions SubmitArguments::options() const {
  SubmitOptions options;
  if (const auto seconds = to_seconds(timeout)) {
    options.timeout = std::chrono::ceil<std::chrono::milliseconds>(*seconds);
  }
  if (!notification.is_none()) options.notification = to_notification(notification);
  if (!addressing.is_none()) {
    if (!nb::isinstance<Addressing>(addressing)) {
      raise_invalid("addressing is a " + name_of_type(addressing) + ": give one of Addressing");
    }
    options.addressing = nb::cast<Addressing>(addressing);
  }
  if (!after.is_none()) set_after(after, &options);
  return options;
}

Notification to_notification(nb::handle object) {
  if (nb::isinstance<Notification>(object)) return nb::cast<Notification>(object);
  Notification notification;
  if (!PyTuple_Check(object.ptr()) || PyTuple_GET_SIZE(object.ptr()) != 2) {
    raise_invalid("notification is a " + name_of_type(object) +
                  ": give a Notification or a tuple (name, message)");
  }
  notification.name = to_text(PyTuple_GET_ITEM(object.ptr(), 0), "the name of the notification");
  notification.message = to_message(PyTuple_GET_ITEM(object.ptr(), 1));
  return notification;
}

bool PreparedListObject::is_for(const SegmentObject& segment) const {
  if (!segment_.is_valid()) return false;
  const SegmentObject& own = *nb::inst_ptr<SegmentObject>(segment_);
  return own.engine() == segment.engine() && own.id() == segment.id();
}

SegmentObject::SegmentObject(nb::object engine)
    : engine_(std::move(engine)), name_(engine_object().quick().local_name()) {}

SegmentObject::SegmentObject(nb::object engine, std::string name, bool refresh)
    : engine_(std::move(engine)), name_(std::move(name)) {
  id_ = check(engine_object().call_peer([&](Engine& library) {
    return refresh ? library.open_segment_no_cache(name_) : library.open_segment(name_);
  }),
              context());
  open_ = true;
}

Status SegmentObject::close_now() {
  if (!open_ || !engine_.is_valid() || engine_object().closed()) return {};
  open_ = false;
  return engine_object().call([&](Engine& library) { return library.close_segment(id_); });
}

nb::object SegmentObject::submit(nb::handle self, Opcode opcode, nb::handle source,
                                 nb::handle target_offset, nb::handle length,
                                 const SubmitArguments& how) {
  SegmentObject& segment = *nb::inst_ptr<SegmentObject>(self);
  segment.check_not_closed();
  const SubmitOptions options = how.options();
  if (nb::isinstance<PreparedListObject>(source)) {
    refuse_places(target_offset, length, "PreparedList");
    const PreparedListObject& prepared = *nb::inst_ptr<PreparedListObject>(source);
    if (prepared.opcode() != opcode || !prepared.is_for(segment)) {
      raise_invalid(std::string("the list was prepared for another ") +
                        (prepared.opcode() != opcode ? "direction" : "segment") +
                        ": prepare it with prepare_" + name_of(opcode) + " of this segment",
                    segment.context());
    }
    return Transfer::start(self, {}, [&](Engine& engine, BatchId batch) {
      return engine.submit_list(batch, prepared.list(), options);
    });
  }
  if (nb::isinstance<BlockListObject>(source)) {
    refuse_places(target_offset, length, "BlockList");
    const BlockList blocks = nb::inst_ptr<BlockListObject>(source)->list(opcode, segment.id_);
    return Transfer::start(self, {}, [&](Engine& engine, BatchId batch) {
      return engine.submit_list(batch, blocks, options);
    });
  }
  if (!target_offset.is_none() && !is_number(target_offset)) {
    const Addresses addresses(source, target_offset, length);
    const AddressList list = addresses.list(opcode, segment.id_);
    return Transfer::start(self, {}, [&](Engine& engine, BatchId batch) {
      return engine.submit_list(batch, list, options);
    });
  }
  LocalMemory memory(source, length, opcode == Opcode::kRead);
  TransferRequest request{opcode, reinterpret_cast<void*>(memory.address()), segment.id_, 0,
                          memory.length()};
  if (!target_offset.is_none()) {
    request.target_offset = to_number(target_offset, "target_offset", kBytes);
  }
  return Transfer::start(self, std::move(memory), [&](Engine& engine, BatchId batch) {
    return engine.submit(batch, {&request, 1}, options);
  });
}

nb::object SegmentObject::prepare(nb::handle self, Opcode opcode, nb::handle source,
                                  nb::handle target_offset, nb::handle length) {
  SegmentObject& segment = *nb::inst_ptr<SegmentObject>(self);
  segment.check_not_closed();
  EngineObject& engine = segment.engine_object();
  const auto wrap = [&](const auto& list) {
    PreparedList prepared = check(
        engine.call([&](Engine& library) { return library.prepare(list); }), segment.context());
    return nb::cast(new PreparedListObject(std::move(prepared), opcode, nb::borrow(self)),
                    nb::rv_policy::take_ownership);
  };
  if (nb::isinstance<BlockListObject>(source)) {
    refuse_places(target_offset, length, "BlockList");
    return wrap(nb::inst_ptr<BlockListObject>(source)->list(opcode, segment.id_));
  }
  if (target_offset.is_none() || is_number(target_offset)) {
    refuse_list(source, opcode == Opcode::kRead ? "prepare_read" : "prepare_write");
  }
  const Addresses addresses(source, target_offset, length);
  return wrap(addresses.list(opcode, segment.id_));
}

void SegmentObject::notify(const Notification& notification) {
  check_not_closed();
  bool sent = false;
  check(engine_object().call_peer([&](Engine& library) {
    if (!std::exchange(sent, true)) return library.notify(id_, notification);
    return Status(Code::kCancelled, "a signal interrupted it: the target may have it or not");
  }),
        context());
}

SegmentInfo SegmentObject::describe() {
  check_not_closed();
  return check(
      engine_object().call_peer([&](Engine& library) { return library.describe_segment(id_); }),
      context());
}

}  // namespace te::py
