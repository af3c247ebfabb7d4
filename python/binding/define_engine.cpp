// Engine, Registration and Memory as Python sees them.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstdio>
#include <vector>

#include "binding.h"
#include "engine_object.h"
#include "memory_object.h"
#include "number_array.h"
#include "segment_object.h"

namespace te::py {
namespace {

using namespace nb::literals;

// Counted by the engine: each has its own unregister().
struct Registration {
  nb::object engine;
  uint64_t address = 0;
  uint64_t length = 0;
  std::string location;
  bool registered = true;

  EngineObject& engine_object() const { return *nb::inst_ptr<EngineObject>(engine); }
  void unregister() {
    if (!registered || engine_object().closed()) return;
    engine_object().unregister(address);
    registered = false;
  }
  int traverse(visitproc visit, void* arg) {
    Py_VISIT(engine.ptr());
    return 0;
  }
  void clear() { engine = nb::object(); }
};

std::map<std::string, std::string> to_settings(nb::handle settings) {
  std::map<std::string, std::string> result;
  if (settings.is_none()) return result;
  const nb::object items = nb::steal(PyMapping_Items(settings.ptr()));
  if (!items.is_valid()) raise_invalid_from_python("settings: give a mapping of names to values");
  for (nb::handle item : items) {
    const std::string name = to_text(PyTuple_GET_ITEM(item.ptr(), 0), "a name in settings");
    const nb::handle value = PyTuple_GET_ITEM(item.ptr(), 1);
    // Switches are 0 and 1.
    const nb::object text = PyBool_Check(value.ptr())
                                ? nb::object(nb::str(value.is(Py_True) ? "1" : "0"))
                                : nb::object(nb::str(value));
    result[name] = to_text(text, "settings['" + name + "']");
  }
  return result;
}

void create(EngineObject* self, std::string metadata, std::string name, std::string host,
            nb::handle port, bool auto_discover, Addressing addressing, nb::handle settings) {
  const uint64_t number = to_number(port, "port", "0, which is any, to 65535", 65535);
  EngineOptions options{.metadata = std::move(metadata),
                        .name = std::move(name),
                        .host = std::move(host),
                        .port = static_cast<uint16_t>(number),
                        .auto_discover = auto_discover,
                        .addressing = addressing,
                        .config = to_settings(settings)};
  new (self) EngineObject(options);
}

// "[::1]:17" is ("::1", 17).
std::pair<std::string, int> split_endpoint(const std::string& endpoint) {
  const size_t colon = endpoint.rfind(':');
  std::string host = endpoint.substr(0, colon);
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return {host, std::stoi(endpoint.substr(colon + 1))};
}

std::string range_text(uint64_t address, uint64_t length) {
  char text[64];
  std::snprintf(text, sizeof text, "%#llx, %llu bytes", static_cast<unsigned long long>(address),
                static_cast<unsigned long long>(length));
  return text;
}

nb::object from_json(const std::string& text) {
  return nb::module_::import_("json").attr("loads")(nb::str(text.data(), text.size()));
}

Registration register_memory(nb::handle self, nb::handle memory, nb::handle length,
                             const std::string& location, Access access) {
  LocalMemory local(memory, length, false);
  const uint64_t bytes = local.length();
  const uint64_t address =
      nb::inst_ptr<EngineObject>(self)->register_object(std::move(local), location, access);
  return {nb::borrow(self), address, bytes, location};
}

void unregister_memory(EngineObject& self, nb::handle memory) {
  if (nb::isinstance<Registration>(memory)) {
    return nb::inst_ptr<Registration>(memory)->unregister();
  }
  if (is_number(memory)) return self.unregister(to_number(memory, "the local address", kBytes));
  self.unregister(LocalMemory(memory, nb::none(), false).address());
}

void register_batch(EngineObject& self, nb::handle addresses, nb::handle lengths,
                    const std::string& location, Access access) {
  const NumberArray begins(addresses, "addresses");
  const NumberArray sizes(lengths, "lengths");
  if (begins.values().size() != sizes.values().size()) {
    raise_invalid("there are " + std::to_string(begins.values().size()) + " addresses and " +
                  std::to_string(sizes.values().size()) + " lengths: give as many of each");
  }
  std::vector<BufferEntry> entries;
  entries.reserve(begins.values().size());
  for (size_t i = 0; i < begins.values().size(); ++i) {
    entries.push_back({reinterpret_cast<void*>(begins.values()[i]), sizes.values()[i]});
  }
  check(self.call(
      [&](Engine& engine) { return engine.register_memory_batch(entries, location, access); }));
}

void unregister_batch(EngineObject& self, nb::handle addresses) {
  const NumberArray begins(addresses, "addresses");
  std::vector<void*> entries;
  entries.reserve(begins.values().size());
  for (const uint64_t address : begins.values()) {
    entries.push_back(reinterpret_cast<void*>(address));
  }
  check(self.call([&](Engine& engine) { return engine.unregister_memory_batch(entries); }));
  for (const uint64_t address : begins.values()) self.forget_registered(address);
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  return nb::inst_ptr<MemoryObject>(self)->get_buffer(self, view, flags);
}
void release_buffer(PyObject* self, Py_buffer*) {
  nb::inst_ptr<MemoryObject>(self)->release_buffer();
}
int traverse_memory(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  if (nb::inst_ready(self)) Py_VISIT(nb::inst_ptr<MemoryObject>(self)->engine());
  return 0;
}

void define_memory(nb::module_& module) {
  nb::class_<Registration>(
      module, "Registration",
      "Memory that is registered, of Engine.register(). As a context manager it "
      "unregisters. Dropping it does nothing.",
      nb::type_slots(kCollected<Registration>))
      .def_ro("address", &Registration::address)
      .def_ro("length", &Registration::length, "bytes")
      .def_ro("location", &Registration::location)
      .def("unregister", &Registration::unregister,
           "Refuses peers, waits until no transfer touches the memory, and lets go of it.\n\n"
           "Raises BusyError while a stopped process is in the middle of a copy; call it again.")
      .def(
          "__enter__", [](nb::handle self) { return nb::borrow(self); },
          nb::sig("def __enter__(self) -> Registration"))
      .def(
          "__exit__", [](Registration& self, const nb::args&) { self.unregister(); },
          nb::sig("def __exit__(self, *args: object) -> None"))
      .def("__repr__", [](const Registration& self) {
        return "Registration(" + range_text(self.address, self.length) +
               (self.registered ? ")" : ", unregistered)");
      });
  static PyType_Slot slots[] = {
      {Py_tp_traverse, reinterpret_cast<void*>(traverse_memory)},
      {Py_tp_clear, reinterpret_cast<void*>(clear<MemoryObject>)},
      {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
      {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)},
      {0, nullptr},
  };
  nb::class_<MemoryObject>(module, "Memory",
                           "Memory of Engine.allocate(), registered and zeroed, with the buffer "
                           "protocol: numpy.frombuffer(memory, numpy.float16). Buffers of it stay "
                           "valid after the engine was closed.",
                           nb::type_slots(slots))
      .def_prop_ro("address", &MemoryObject::address)
      .def("__len__", &MemoryObject::length, "Bytes.")
      .def("free", &MemoryObject::free,
           "Unregisters and frees the memory. Raises BusyError while a buffer of it is in use.")
      .def(
          "__enter__", [](nb::handle self) { return nb::borrow(self); },
          nb::sig("def __enter__(self) -> Memory"))
      .def(
          "__exit__", [](MemoryObject& self, const nb::args&) { self.free(); },
          nb::sig("def __exit__(self, *args: object) -> None"))
      .def("__repr__", [](const MemoryObject& self) {
        if (self.address() == 0) return std::string("Memory(freed)");
        return "Memory(" + range_text(self.address(), self.length()) + ")";
      });
}

using EngineClass = nb::class_<EngineObject>;

void define_registration(EngineClass& engine) {
  engine
      .def("register", &register_memory, "memory"_a.none(), "length"_a = nb::none(), nb::kw_only(),
           "location"_a = "*", "access"_a = Access::kDefault,
           nb::sig("def register(self, memory: HasMemory | int, length: int | None = None, *, "
                   "location: str = '*', access: Access = ...) -> Registration"),
           R"(Registers memory, so that it can be transferred and, as `access` says, peers reach it.

memory: an object with memory, which is kept alive until it is unregistered, or an address.
length: bytes; None: all of the object. location: 'cpu:N', 'cuda:N', or '*' to find it out.
A range that is registered already is counted: unregister it as often.
Read-only objects are offered to peers for reading only.

Raises InvalidArgumentError, AlreadyExistsError (another overlap), PermissionDeniedError.)")
      .def("unregister", &unregister_memory, "memory"_a.none(),
           nb::sig("def unregister(self, memory: HasMemory | int | Registration) -> None"),
           "Refuses peers, waits until no transfer touches the memory, and lets go of it.\n\n"
           "memory: as registered: the object, its address or the Registration.\n"
           "Raises NotFoundError; BusyError while a stopped process is in the middle of a copy.")
      .def("register_batch", &register_batch, "addresses"_a.none(), "lengths"_a.none(),
           nb::kw_only(), "location"_a = "*", "access"_a = Access::kDefault,
           nb::sig("def register_batch(self, addresses: Numbers, lengths: Numbers, *, "
                   "location: str = '*', access: Access = ...) -> None"),
           "Registers many ranges (addresses, bytes), all or none. The caller keeps them alive.")
      .def("unregister_batch", &unregister_batch, "addresses"_a.none(),
           nb::sig("def unregister_batch(self, addresses: Numbers) -> None"),
           "Unregisters many ranges by their addresses, all or none.")
      .def(
          "allocate",
          [](nb::handle self, nb::handle length, const std::string& location, HugePages huge_pages,
             Access access) {
            return new MemoryObject(nb::borrow(self), to_number(length, "length", kBytes),
                                    {location, huge_pages, access});
          },
          "length"_a.none(), nb::kw_only(), "location"_a = "*", "huge_pages"_a = HugePages::kNo,
          "access"_a = Access::kDefault,
          nb::sig("def allocate(self, length: int, *, location: str = '*', "
                  "huge_pages: HugePages = ..., "
                  "access: Access = ...) -> Memory"),
          "Zeroed memory of `length` bytes that is registered, and that peers on this host map: "
          "the fastest between processes.\n\nRaises ResourceError.");
}

void define_segments(EngineClass& engine) {
  engine
      .def(
          "open",
          [](nb::handle self, std::string name, bool refresh) {
            return new SegmentObject(nb::borrow(self), std::move(name), refresh);
          },
          "name"_a, nb::kw_only(), "refresh"_a = false,
          "Resolves a name, connects, and learns the buffers of the segment.\n\n"
          "refresh: ask the engine behind it even if it is open already.\n"
          "Raises NotFoundError, UnavailableError, TransferTimeoutError. Ctrl-C interrupts it.")
      .def_prop_ro(
          "local_segment", [](nb::handle self) { return new SegmentObject(nb::borrow(self)); },
          nb::rv_policy::take_ownership, "The segment of this engine.")
      .def(
          "warmup",
          [](EngineObject& self, const std::string& name) {
            check(self.call([&](Engine& library) { return library.warmup_segment(name); }),
                  {.peer = name});
          },
          "name"_a,
          "Connects everything that transfers to an open segment will use, and reads a byte of it.")
      .def(
          "sync_segments",
          [](EngineObject& self) {
            check(self.call_peer([](Engine& library) { return library.sync_segment_cache(); }));
          },
          "Fetches the description of every open segment again.")
      .def(
          "probe",
          [](EngineObject& self, const std::string& name, size_t rounds) {
            return check(
                self.call_peer([&](Engine& library) { return library.probe(name, rounds); }),
                {.peer = name});
          },
          "name"_a, "rounds"_a = 5,
          "Resolves and connects again, then measures round trips. The segment need not be open.")
      .def(
          "paths_of",
          [](EngineObject& self, const std::string& name) {
            return check(self.call_peer([&](Engine& library) { return library.paths_of(name); }),
                         {.peer = name});
          },
          "name"_a, "What paths() gives in the engine behind a segment, which need not be open.")
      .def(
          "remove_local_segment",
          [](EngineObject& self, const std::string& name) {
            check(self.call([&](Engine& library) { return library.remove_local_segment(name); }));
          },
          "name"_a, "Takes the name of this engine out of the directory.");
}

void define_transports(EngineClass& engine) {
  engine
      .def(
          "install_transport",
          [](EngineObject& self, const std::string& protocol, const std::string& matrix) {
            check(self.call(
                [&](Engine& library) { return library.install_transport(protocol, matrix); }));
          },
          "protocol"_a, "nic_priority_matrix"_a = "",
          "Serves a transport, such as 'tcp'. The first replaces tcp and shm, which are served if "
          "none is installed.\n\nnic_priority_matrix: JSON; empty: as discovered.\n"
          "Raises NotFoundError, UnsupportedError.")
      .def(
          "uninstall_transport",
          [](EngineObject& self, const std::string& protocol) {
            check(
                self.call([&](Engine& library) { return library.uninstall_transport(protocol); }));
          },
          "protocol"_a, "Transfers in flight over it move to other transports, or fail.")
      .def(
          "transports",
          [](EngineObject& self) {
            return self.call([](Engine& library) { return library.transports(); });
          },
          "Every transport: whether this machine can serve it, and what is missing.")
      .def(
          "discover_topology",
          [](EngineObject& self) {
            check(self.call([](Engine& library) { return library.discover_topology(); }));
          },
          "Reads the topology of this machine again.")
      .def(
          "topology",
          [](EngineObject& self) {
            return from_json(check(self.call([](Engine& library) { return library.topology(); })));
          },
          nb::sig("def topology(self) -> dict[str, Any]"),
          "Memory nodes, GPUs, NICs and their distances.")
      .def(
          "nic_priority_matrix",
          [](EngineObject& self) {
            return from_json(
                check(self.call([](Engine& library) { return library.nic_priority_matrix(); })));
          },
          nb::sig("def nic_priority_matrix(self) -> dict[str, Any]"),
          "Which NICs serve which location, preferred ones first.")
      .def(
          "set_addressing",
          [](EngineObject& self, Addressing addressing) {
            check(self.call([&](Engine& library) { return library.set_addressing(addressing); }));
          },
          "addressing"_a, "How target offsets are read from now on, unless a call says otherwise.");
}

void define_observation(EngineClass& engine) {
  engine
      .def(
          "take_notifications",
          [](EngineObject& self) {
            return self.call([](Engine& library) { return library.take_notifications(); });
          },
          "Takes all notifications that have arrived.")
      .def(
          "device_loads",
          [](EngineObject& self) {
            return self.call([](Engine& library) { return library.device_loads(); });
          },
          "The load of each NIC or transport, measured since the previous call.")
      .def(
          "paths",
          [](EngineObject& self) {
            return self.call([](Engine& library) { return library.paths(); });
          },
          "The paths to all open segments, with their counts and last errors.")
      .def(
          "effective_config",
          [](EngineObject& self) {
            return from_json(self.call([](Engine& library) { return library.effective_config(); }));
          },
          nb::sig("def effective_config(self) -> list[dict[str, Any]]"),
          "Every setting: name, value, default, unit, origin, help.")
      .def("_completion_fd", [](EngineObject& self) { return check(self.quick().completion_fd()); })
      .def("_take_completions", [](EngineObject& self) {
        std::vector<BatchId> batches;
        if (self.closed()) return batches;
        std::array<Completion, 256> completions;
        for (size_t count = completions.size(); count == completions.size();) {
          count = self.quick().take_completions(completions);
          for (size_t i = 0; i < count; ++i) batches.push_back(completions[i].batch);
        }
        return batches;
      });
}

}  // namespace

void define_engine(nb::module_& module) {
  define_memory(module);
  EngineClass engine(
      module, "Engine",
      R"(Moves bytes between registered memory of processes. One per process is usual.

metadata: the directory: 'P2PHANDSHAKE' (none), 'etcd://h:p', 'redis://h:p', 'http://h:p/path'.
name: of the segment in the directory. host: the address that peers should use; '' chooses one.
port: 0 means any free one. auto_discover: find the topology and install every transport.
settings: as `te info` lists them; they override the environment.

Raises AlreadyExistsError, InvalidArgumentError, ResourceError, UnavailableError.
A context manager, which closes. Every method may be called from any thread.)",
      nb::type_slots(kCollected<EngineObject>), nb::is_weak_referenceable());
  engine
      .def("__init__", &create, "metadata"_a = "P2PHANDSHAKE", "name"_a = "", "host"_a = "",
           "port"_a.none() = 0, nb::kw_only(), "auto_discover"_a = false,
           "addressing"_a = Addressing::kDefault, "settings"_a = nb::none(),
           nb::sig("def __init__(self, metadata: str = 'P2PHANDSHAKE', name: str = '', "
                   "host: str = '', port: int = 0, *, auto_discover: bool = False, "
                   "addressing: Addressing = ..., "
                   "settings: Mapping[str, str | int | bool] | None = None) -> None"))
      .def("close", &EngineObject::close,
           "Cancels transfers in flight, waits for calls of other threads, and ends the engine.")
      .def(
          "__enter__", [](nb::handle self) { return nb::borrow(self); },
          nb::sig("def __enter__(self) -> Engine"))
      .def(
          "__exit__", [](EngineObject& self, const nb::args&) { self.close(); },
          nb::sig("def __exit__(self, *args: object) -> None"))
      .def("__repr__",
           [](EngineObject& self) {
             if (self.closed()) return std::string("Engine(closed)");
             return "Engine(" + quoted(self.quick().local_name()) + ")";
           })
      .def_prop_ro("closed", &EngineObject::closed)
      .def_prop_ro(
          "local_endpoint", [](EngineObject& self) { return self.quick().local_endpoint(); },
          "'host:port'; without a directory this is the name that others open.")
      .def_prop_ro(
          "local_name", [](EngineObject& self) { return self.quick().local_name(); },
          "The name of the local segment.")
      .def_prop_ro(
          "host",
          [](EngineObject& self) { return split_endpoint(self.quick().local_endpoint()).first; },
          "Of local_endpoint, without brackets.")
      .def_prop_ro(
          "port",
          [](EngineObject& self) { return split_endpoint(self.quick().local_endpoint()).second; },
          "Of local_endpoint.");
  define_registration(engine);
  define_segments(engine);
  define_transports(engine);
  define_observation(engine);
  module.def("_close_all", &EngineObject::close_all);
}

}  // namespace te::py
