#include "transport/fabric/library.h"

#include <array>
#include <csignal>
#include <vector>

#include "base/dynamic_library.h"
#include "base/environment.h"
#include "base/log.h"

namespace te::fabric {
namespace {

constexpr const char* kUsual[] = {"/opt/amazon/efa/lib/libfabric.so.1",
                                  "/opt/amazon/efa/lib64/libfabric.so.1", "libfabric.so.1"};
constexpr uint32_t kApi = FI_VERSION(1, 18);

// Some providers install signal handlers of their own when they are loaded, and end the process in
// them. What a signal does is the application's: it is as before when this ends. One at a time:
// another one would take a provider's handler for the application's.
class KeepSignals {
 public:
  KeepSignals() {
    for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], nullptr, &before_[i]);
  }
  ~KeepSignals() {
    for (size_t i = 0; i < kSignals.size(); ++i) ::sigaction(kSignals[i], &before_[i], nullptr);
  }
  KeepSignals(const KeepSignals&) = delete;
  KeepSignals& operator=(const KeepSignals&) = delete;

 private:
  static constexpr std::array kSignals{SIGHUP,  SIGINT,  SIGQUIT, SIGILL,  SIGTRAP,
                                       SIGABRT, SIGBUS,  SIGFPE,  SIGUSR1, SIGSEGV,
                                       SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGCHLD};
  std::array<struct sigaction, kSignals.size()> before_{};
};

// The environment is a provider's only setting, read when it is loaded. What the user set stays.
constexpr Variable kProviderVariables[] = {
    // The tcp provider gathers small messages in buffers of its own, with plain instructions:
    // memory that an application unmapped would end the process there. Without these buffers the
    // kernel moves every byte, and reports such memory.
    {"FI_TCP_STAGING_SBUF_SIZE", "0"},
    {"FI_TCP_PREFETCH_RBUF_SIZE", "0"},
    // ofi_rxm has buffers for thousands of received messages of 16 KB with each endpoint: 70 MB
    // each, over tcp in 1.17. No messages are sent here but its own, which are small; so it is 2
    // MB.
    // Both sides need the same size.
    {"FI_OFI_RXM_USE_SRX", "0"},
    {"FI_OFI_RXM_BUFFER_SIZE", "512"},
    // The peers of an endpoint that ofi_rxm makes room for in a queue of its own: 12 MB each, for
    // 256 of them. An endpoint has one peer here, but for programs with very many or few
    // descriptors.
    {"FI_UNIVERSE_SIZE", "64"},
    // How often, in us, ofi_rxm looks at connections that peers ask for: each 10 ms by itself. One
    // that it has not looked at when its endpoint is closed stays open for ever (Endpoint).
    {"FI_OFI_RXM_CM_PROGRESS_INTERVAL", "100"},
};

OpenLibraries<Library>& libraries = *new OpenLibraries<Library>;

}  // namespace

void InfoDeleter::operator()(fi_info* info) const { library->freeinfo_(info); }

Info Library::find(const char* node, uint64_t flags, const fi_info& hints, int* error) const {
  fi_info* found = nullptr;
  libraries.alone([&] {
    const KeepSignals keep;  // providers are loaded by the first call
    *error = getinfo_(api_, node, nullptr, flags, &hints, &found);
  });
  return {*error == 0 ? found : nullptr, {this}};
}

std::string Library::description() const {
  return fmt::format("libfabric {}.{} ({})", FI_MAJOR(version_), FI_MINOR(version_), path_);
}

Result<std::unique_ptr<Library>> Library::load(const std::string& path) {
  const KeepSignals keep;
  Result<DynamicLibrary> opened = DynamicLibrary::open(path);
  if (!opened.ok()) return opened.status();
  std::unique_ptr<Library> library(new Library());
  decltype(&::fi_version) version = nullptr;
  // The versions whose structures these headers, and all later ones, begin with: an unversioned
  // look-up would give the library's newest, whose structures may be larger.
  opened->look_up("fi_getinfo", &library->getinfo_, "FABRIC_1.3");
  opened->look_up("fi_freeinfo", &library->freeinfo_, "FABRIC_1.3");
  opened->look_up("fi_dupinfo", &library->dupinfo_, "FABRIC_1.3");
  opened->look_up("fi_fabric", &library->fabric_, "FABRIC_1.1");
  opened->look_up("fi_strerror", &library->strerror_, "FABRIC_1.0");
  opened->look_up("fi_version", &version, "FABRIC_1.0");
  library->path_ = opened->path();
  TE_RETURN_IF_ERROR(opened->keep("libfabric of version 1.9 or later"));
  library->version_ = version();
  library->api_ = std::min(library->version_, kApi);
  return library;
}

Result<std::unique_ptr<Library>> Library::load_any(const std::string& path) {
  if (!path.empty()) return load(path);
  Status last;
  for (const char* usual : kUsual) {
    Result<std::unique_ptr<Library>> loaded = load(usual);
    if (loaded.ok()) return loaded;
    last = loaded.status();
  }
  return last;
}

Result<const Library*> Library::open(const std::string& path) {
  set_missing_variables(kProviderVariables);
  Result<const Library*> opened = libraries.get(path, load_any);
  if (!opened.ok()) {
    return error(
        Code::kUnsupported,
        "libfabric cannot be opened ({}): install it (libfabric1, or AWS's EFA installer), "
        "or set fabric_library to its path",
        opened.status().message());
  }
  return opened;
}

}  // namespace te::fabric
