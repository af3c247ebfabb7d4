// Segment, Transfer, BlockList and PreparedList as Python sees them.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "binding.h"
#include "segment_object.h"
#include "transfer.h"

namespace te::py {
namespace {

using namespace nb::literals;

template <Opcode kOpcode>
nb::object submit(nb::handle self, nb::handle source, nb::handle target_offset, nb::handle length,
                  nb::handle timeout, nb::handle notification, nb::handle addressing,
                  nb::handle after) {
  return SegmentObject::submit(self, kOpcode, source, target_offset, length,
                               {timeout, notification, addressing, after});
}

template <Opcode kOpcode>
nb::object prepare(nb::handle self, nb::handle source, nb::handle target_offset,
                   nb::handle length) {
  return SegmentObject::prepare(self, kOpcode, source, target_offset, length);
}

#define TE_SUBMIT_SIGNATURE(name)                                                  \
  nb::sig("def " name                                                              \
          "(self, source: Source, target_offset: int | Numbers | None = None, "    \
          "length: int | Numbers | None = None, *, timeout: float | None = None, " \
          "notification: Notification | tuple[str, Buffer] | None = None, "        \
          "addressing: Addressing | None = None, after: object = None) -> Transfer")
#define TE_PREPARE_SIGNATURE(name)                                                     \
  nb::sig("def " name                                                                  \
          "(self, source: BlockList | Numbers, target_offset: Numbers | None = None, " \
          "length: int | Numbers | None = None) -> PreparedList")

constexpr const char* kWriteDoc =
    R"(Starts to write local memory to the segment, and returns at once.

source, target_offset, length:
  an object with memory, an offset, None or the bytes of it to write;
  an address, an offset, a length;
  uint64 arrays or sequences of ints: addresses, offsets, lengths (or one length for all);
  a BlockList, or a PreparedList of prepare_write().
timeout: seconds after which the transfer ends in TransferTimeoutError; None: as the setting
transfer_timeout_ms says. notification: delivered to the target after the last byte.
after: work of a GPU that must end before the local memory is touched, such as the kernels that
write it: a torch.cuda.Event that was recorded, a torch.cuda.Stream with what is in it now, any
object with cuda_event or cuda_stream, or the handle of an event as an int. The call does not wait
for it. The event may be recorded again afterwards, or dropped.
Offsets and lengths are in bytes.

Raises InvalidArgumentError (also for memory that is not registered), OutOfRangeError,
PermissionDeniedError and others if nothing was started; Transfer.wait() raises later failures.)";

constexpr const char* kReadDoc =
    R"(Starts to read from the segment into local memory, and returns at once.

The arguments are those of write(); `source` is the local memory, which must be writable.)";

int traverse_segment(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (nb::inst_ready(self)) Py_VISIT(nb::inst_ptr<SegmentObject>(self)->engine());
  return 0;
}
int traverse_prepared(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (nb::inst_ready(self)) Py_VISIT(nb::inst_ptr<PreparedListObject>(self)->segment());
  return 0;
}

void define_lists(nb::module_& module) {
  nb::class_<BlockListObject>(
      module, "BlockList",
      "Blocks to transfer, such as those of the layers of a KV cache. A copy of what is given.\n\n"
      "regions: rows of (source address, target offset, block size in bytes), as a uint64 array of "
      "shape (n, 3) or a sequence of triples. In each region, block source_blocks[i] here and "
      "block "
      "target_blocks[i] at the target.")
      .def(nb::init<nb::handle, nb::handle, nb::handle>(), "regions"_a.none(),
           "source_blocks"_a.none(), "target_blocks"_a.none(),
           nb::sig("def __init__(self, regions: object, source_blocks: Numbers, "
                   "target_blocks: Numbers) -> None"))
      .def("__len__", &BlockListObject::blocks, "Blocks, over all regions.")
      .def("__repr__", [](const BlockListObject& self) {
        return "BlockList(" + std::to_string(self.blocks()) + " blocks)";
      });
  static PyType_Slot slots[] = {
      {Py_tp_traverse, reinterpret_cast<void*>(traverse_prepared)},
      {Py_tp_clear, reinterpret_cast<void*>(clear<PreparedListObject>)},
      {0, nullptr},
  };
  nb::class_<PreparedListObject>(
      module, "PreparedList",
      "A list that was checked, to be submitted many times; of Segment.prepare_write() or "
      "prepare_read(). It keeps no memory alive.",
      nb::type_slots(slots))
      .def_prop_ro(
          "ranges", [](const PreparedListObject& self) { return self.list().ranges(); },
          "Ranges after merging.")
      .def_prop_ro(
          "bytes", [](const PreparedListObject& self) { return self.list().bytes(); },
          "Bytes of all ranges.")
      .def("__repr__", [](const PreparedListObject& self) {
        return "PreparedList(" + std::to_string(self.list().ranges()) + " ranges, " +
               std::to_string(self.list().bytes()) + " bytes)";
      });
}

void define_transfer(nb::module_& module) {
  nb::class_<Transfer>(module, "Transfer",
                       "What Segment.write() or read() started. It keeps its memory alive until it "
                       "is done; if it is dropped, it goes on.",
                       nb::type_slots(kCollected<Transfer>))
      .def("wait", &Transfer::wait, "timeout"_a = nb::none(),
           nb::sig("def wait(self, timeout: float | None = None) -> int"),
           R"(Waits until the transfer is done, and returns the bytes that it moved.

Raises why it failed, or TransferTimeoutError if it is still in flight after `timeout` seconds.
Ctrl-C interrupts it within 100 ms; the transfer goes on.)")
      .def("done", &Transfer::done,
           "Whether nothing touches the local memory any more. Does not wait.")
      .def("cancel", &Transfer::cancel,
           "Asks to end the transfer. It is done soon, in TransferCancelledError or complete.")
      .def_prop_ro("error", &Transfer::error,
                   nb::sig("def error(self) -> TransferEngineError | None"),
                   "Why it failed; None while it is in flight, and if it completed.")
      .def_prop_ro("bytes", &Transfer::bytes, "Bytes moved so far.")
      .def(
          "__await__",
          [](nb::handle self) {
            return nb::module_::import_("transfer_engine._asyncio").attr("await_transfer")(self);
          },
          nb::sig("def __await__(self) -> Generator[Any, None, int]"),
          "As wait(), without a limit of time. Cancelling the awaiting task cancels the transfer.")
      .def("__repr__", [](Transfer& self) { return "Transfer(" + self.state() + ")"; })
      .def_prop_ro("_batch", &Transfer::batch)
      .def("_set_awaited", &Transfer::set_awaited)
      .def_prop_ro("_waiters", &Transfer::waiters);
}

}  // namespace

void define_segment(nb::module_& module) {
  static PyType_Slot slots[] = {
      {Py_tp_traverse, reinterpret_cast<void*>(traverse_segment)},
      {Py_tp_clear, reinterpret_cast<void*>(clear<SegmentObject>)},
      {0, nullptr},
  };
  define_lists(module);
  define_transfer(module);
  const nb::arg none[] = {};
  (void)none;
  nb::class_<SegmentObject>(
      module, "Segment",
      "The registered memory of an engine, of Engine.open(). Closed by close(), "
      "at the end of a `with` block, or when it is dropped.",
      nb::type_slots(slots))
      .def_prop_ro("name", &SegmentObject::name, "The name that was opened.")
      .def_prop_ro("id", &SegmentObject::id, "The number of the segment in its engine.")
      .def("write", &submit<Opcode::kWrite>, "source"_a.none(), "target_offset"_a = nb::none(),
           "length"_a = nb::none(), nb::kw_only(), "timeout"_a = nb::none(),
           "notification"_a = nb::none(), "addressing"_a = nb::none(), "after"_a = nb::none(),
           TE_SUBMIT_SIGNATURE("write"), kWriteDoc)
      .def("read", &submit<Opcode::kRead>, "source"_a.none(), "target_offset"_a = nb::none(),
           "length"_a = nb::none(), nb::kw_only(), "timeout"_a = nb::none(),
           "notification"_a = nb::none(), "addressing"_a = nb::none(), "after"_a = nb::none(),
           TE_SUBMIT_SIGNATURE("read"), kReadDoc)
      .def("prepare_write", &prepare<Opcode::kWrite>, "source"_a.none(),
           "target_offset"_a = nb::none(), "length"_a = nb::none(),
           TE_PREPARE_SIGNATURE("prepare_write"),
           "Checks a list once, for write(). Raises as the first write() of the list would.")
      .def("prepare_read", &prepare<Opcode::kRead>, "source"_a.none(),
           "target_offset"_a = nb::none(), "length"_a = nb::none(),
           TE_PREPARE_SIGNATURE("prepare_read"),
           "Checks a list once, for read(). Raises as the first read() of the list would.")
      .def(
          "notify",
          [](SegmentObject& self, const std::string& name, nb::handle message) {
            self.notify({name, to_message(message)});
          },
          "name"_a, "message"_a.none() = nb::bytes("", 0),
          nb::sig("def notify(self, name: str, message: Buffer = b'') -> None"),
          "Sends a message to the application of the target, and returns when its engine has "
          "it.\n\n"
          "Raises UnavailableError, or TransferTimeoutError, after which it may be there or not.")
      .def("describe", &SegmentObject::describe, "The buffers of the segment, as known now.")
      .def("close", &SegmentObject::close,
           "Lets go of the segment. Transfers in flight go on; new ones are refused.")
      .def(
          "__enter__", [](nb::handle self) { return nb::borrow(self); },
          nb::sig("def __enter__(self) -> Segment"))
      .def(
          "__exit__", [](SegmentObject& self, const nb::args&) { self.close(); },
          nb::sig("def __exit__(self, *args: object) -> None"))
      .def("__repr__",
           [](const SegmentObject& self) { return "Segment(" + quoted(self.name()) + ")"; });
}

}  // namespace te::py
