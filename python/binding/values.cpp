// The plain values and enumerations of the module.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "binding.h"
#include "local_memory.h"
#include "transfer_engine/engine.h"

namespace te::py {
namespace {

using namespace nb::literals;

// "PathInfo(segment='a', transport='tcp')": the class and its attributes.
nb::str represent(nb::handle self) {
  nb::str text = nb::str(nb::str("{}(").format(self.type().attr("__name__")));
  const char* separator = "";
  for (nb::handle name : self.type().attr("__match_args__")) {
    text = nb::str(nb::str("{}{}{}={!r}").format(text, separator, name, nb::getattr(self, name)));
    separator = ", ";
  }
  return nb::str(text + nb::str(")"));
}

// Adds read-only attributes in the order in which they are shown.
template <typename Class>
class ValueClass {
 public:
  ValueClass(nb::module_& module, const char* name, const char* doc) : class_(module, name, doc) {}
  template <typename Type>
  ValueClass& field(const char* name, Type Class::*member, const char* doc) {
    class_.def_ro(name, member, doc);
    names_.append(name);
    return *this;
  }
  template <typename Function>
  ValueClass& computed(const char* name, Function function, const char* doc) {
    class_.def_prop_ro(name, function, doc);
    names_.append(name);
    return *this;
  }
  ~ValueClass() {
    class_.attr("__match_args__") = nb::tuple(names_);
    class_.def("__repr__", [](nb::handle self) { return represent(self); });
  }
  ValueClass(const ValueClass&) = delete;
  ValueClass& operator=(const ValueClass&) = delete;

 private:
  nb::class_<Class> class_;
  nb::list names_;
};

std::string kind_of(const SegmentBuffer& buffer) {
  constexpr const char* kNames[] = {"host", "cuda", "file"};
  const auto number = static_cast<size_t>(buffer.kind);
  return number < std::size(kNames) ? kNames[number] : std::to_string(number);
}

void define_enums(nb::module_& module) {
  nb::enum_<Addressing>(module, "Addressing", "How target offsets are read.")
      .value("DEFAULT", Addressing::kDefault, "the mode of the engine, which is OFFSET if not set")
      .value("AUTO", Addressing::kAuto, "whichever fits; refused if both ever fitted")
      .value("OFFSET", Addressing::kOffset, "bytes from the start of the segment")
      .value("ADDRESS", Addressing::kAddress, "an address in the target's process");
  nb::enum_<Access>(module, "Access", "What peers may do to registered memory.")
      .value("NONE", Access::kNone, "nothing: local use only")
      .value("DEFAULT", Access::kDefault, "read and write, as far as the memory allows")
      .value("READ", Access::kRead)
      .value("WRITE", Access::kWrite)
      .value("READ_WRITE", Access::kReadWrite, "read and write, or an error");
  nb::enum_<HugePages>(module, "HugePages", "Whether allocated memory has huge pages.")
      .value("NO", HugePages::kNo)
      .value("PREFER", HugePages::kPrefer, "normal pages if there are no huge ones")
      .value("REQUIRE", HugePages::kRequire, "an error if there are none");
  nb::enum_<LogLevel>(module, "LogLevel", "Which messages the library writes to stderr.")
      .value("ERROR", LogLevel::kError)
      .value("WARNING", LogLevel::kWarning)
      .value("INFO", LogLevel::kInfo)
      .value("DEBUG", LogLevel::kDebug);
}

void define_notification(nb::module_& module) {
  nb::class_<Notification>(module, "Notification",
                           "A message for the application of another engine.\n\n"
                           "name: text without NUL, at most 262,144 bytes. message: any bytes, at "
                           "most 524,288.")
      .def(
          "__init__",
          [](Notification* self, std::string name, nb::handle message) {
            new (self) Notification{std::move(name), to_message(message)};
          },
          "name"_a, "message"_a.none() = nb::bytes("", 0),
          nb::sig("def __init__(self, name: str, message: Buffer = b'') -> None"))
      .def_ro("name", &Notification::name)
      .def_prop_ro("message",
                   [](const Notification& self) {
                     return nb::bytes(self.message.data(), self.message.size());
                   })
      .def(
          "__eq__",
          [](const Notification& self, nb::handle other) {
            if (!nb::isinstance<Notification>(other)) return false;
            const auto& value = *nb::inst_ptr<Notification>(other);
            return value.name == self.name && value.message == self.message;
          },
          nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__repr__", [](nb::handle self) { return represent(self); })
      .attr("__match_args__") = nb::make_tuple("name", "message");
}

}  // namespace

void define_values(nb::module_& module) {
  define_enums(module);
  define_notification(module);
  ValueClass<SegmentBuffer>(module, "SegmentBuffer", "One registered buffer of a segment.")
      .field("address", &SegmentBuffer::address, "in the target's process")
      .field("offset", &SegmentBuffer::offset, "bytes from the start of the segment")
      .field("length", &SegmentBuffer::length, "bytes")
      .field("location", &SegmentBuffer::location, "such as 'cpu:0'")
      .field("remote_accessible", &SegmentBuffer::remote_accessible, "peers may read or write it")
      .field("access", &SegmentBuffer::access, "which of the two")
      .computed("kind", kind_of,
                "what it is made of: 'host', 'cuda', 'file'; or a newer peer's number");
  ValueClass<SegmentInfo>(module, "SegmentInfo", "What a segment offers, as known now.")
      .field("name", &SegmentInfo::name, "")
      .field("host", &SegmentInfo::host, "where the engine behind it is reached")
      .field("port", &SegmentInfo::port, "")
      .field("instance", &SegmentInfo::instance, "changes when the process restarts")
      .field("generation", &SegmentInfo::generation, "changes when its buffers do")
      .field("buffers", &SegmentInfo::buffers, "");
  ValueClass<DeviceLoad>(module, "DeviceLoad", "The load of a NIC, or of a transport without NICs.")
      .field("device", &DeviceLoad::device, "")
      .field("inflight_bytes", &DeviceLoad::inflight_bytes, "")
      .field("bandwidth_bytes_per_s", &DeviceLoad::bandwidth_bytes_per_s,
             "since the previous call, smoothed over 1 s");
  ValueClass<PathInfo>(module, "PathInfo", "One path to an open segment.")
      .field("segment", &PathInfo::segment, "")
      .field("transport", &PathInfo::transport, "")
      .field("local_device", &PathInfo::local_device, "")
      .field("remote_device", &PathInfo::remote_device, "")
      .field("remote_address", &PathInfo::remote_address, "")
      .field(
          "encryption", &PathInfo::encryption,
          "'tls'; 'none': it goes over a network as it is; 'host': it does not leave this machine")
      .field("state", &PathInfo::state, "'idle', 'connecting', 'ready' or 'failed'")
      .field("last_error", &PathInfo::last_error, "")
      .field("inflight_bytes", &PathInfo::inflight_bytes, "")
      .field("completed_bytes", &PathInfo::completed_bytes, "")
      .field("staged_bytes", &PathInfo::staged_bytes,
             "of these, through parts in host memory at an end: the path does not reach the memory "
             "there")
      .field("completed_slices", &PathInfo::completed_slices, "")
      .field("failed_slices", &PathInfo::failed_slices, "");
  ValueClass<TransportInfo>(module, "TransportInfo", "Whether a transport can serve here.")
      .field("name", &TransportInfo::name, "")
      .field("available", &TransportInfo::available, "this machine has what it takes")
      .field("installed", &TransportInfo::installed, "the engine uses it")
      .field("detail", &TransportInfo::detail, "libraries and devices found, or what is missing");
  ValueClass<ProbeResult>(module, "ProbeResult", "How long it takes to reach a segment.")
      .field("connect_us", &ProbeResult::connect_us, "microseconds to resolve and connect")
      .field("round_trips_ns", &ProbeResult::round_trips_ns, "nanoseconds of each round trip");
}

}  // namespace te::py
