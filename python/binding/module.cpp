// The extension module transfer_engine._native.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

#include "binding.h"
#include "gil.h"
#include "machine_info.h"
#include "transfer_engine/engine.h"

namespace {

// What `te info --json` prints, of an engine that is made for it.
std::string machine_info() {
  const te::py::WithoutGil released;
  return te::tool::machine_info(te::Engine::create({}))
      .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

NB_MODULE(_native, module) {
  namespace nb = nanobind;
  using namespace nb::literals;
  module.doc() = "What the package transfer_engine is made of; import that.";
  const std::string_view version = te::version();
  module.attr("__version__") = nb::str(version.data(), version.size());
  // Objects that a daemon thread still holds at the end of the interpreter are no defect. The tests
  // ask for the warnings.
  nb::set_leak_warnings(false);
  module.def("_warn_of_leaks", [] { nb::set_leak_warnings(true); });
  te::py::define_values(module);
  te::py::define_engine(module);
  te::py::define_segment(module);
  module.def(
      "info", [] { return nb::module_::import_("json").attr("loads")(nb::cast(machine_info())); },
      nb::sig("def info() -> dict[str, Any]"),
      "What `te info --json` prints: transports and libraries with what is missing, addresses, "
      "topology, configuration; but not the GPUs, since asking for them initializes their driver. "
      "'error' says why no engine can be created here, or is ''.");
  module.def("set_log_level", &te::set_log_level, "level"_a,
             "Messages above the level are dropped, in all engines of the process.");
}
