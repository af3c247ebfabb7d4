#include "transport/fabric/library.h"

#include <array>
#include <csignal>
#include <map>
#include <vector>

#include "base/dynamic_library.h"
#include "base/environment.h"
#include "base/fork.h"
#include "base/log.h"
#include "base/mutex.h"

namespace te::fabric {
namespace {

constexpr const char* kUsual[] = {"/opt/amazon/efa/lib/libfabric.so.1",
                                  "/opt/amazon/efa/lib64/libfabric.so.1", "libfabric.so.1"};
constexpr uint32_t kApi = FI_VERSION(1, 18);

// Some providers install signal handlers of their own when they are loaded, and end the process in
// them. What a signal does is the application's: it is as before when this ends.
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
constexpr Variable kSettings[] = {
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
};

}  // namespace

void InfoDeleter::operator()(fi_info* info) const { library->freeinfo_(info); }

Info Library::find(const char* node, uint64_t flags, const fi_info& hints, int* error) const {
  const KeepSignals keep;  // providers are loaded by the first call
  fi_info* found = nullptr;
  *error = getinfo_(api_, node, nullptr, flags, &hints, &found);
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
  if (!opened->look_up("fi_getinfo", "FABRIC_1.3", &library->getinfo_) ||
      !opened->look_up("fi_freeinfo", "FABRIC_1.3", &library->freeinfo_) ||
      !opened->look_up("fi_dupinfo", "FABRIC_1.3", &library->dupinfo_) ||
      !opened->look_up("fi_fabric", "FABRIC_1.1", &library->fabric_) ||
      !opened->look_up("fi_strerror", "FABRIC_1.0", &library->strerror_) ||
      !opened->look_up("fi_version", "FABRIC_1.0", &version)) {
    return error(Code::kUnsupported, "{} is no libfabric of version 1.9 or later: {}", path,
                 DynamicLibrary::last_error("a symbol is missing"));
  }
  library->path_ = opened->path();
  opened->keep();
  library->version_ = version();
  library->api_ = std::min(library->version_, kApi);
  return library;
}

Result<const Library*> Library::open(const std::string& path) {
  static Mutex mutex;
  [[maybe_unused]] static const bool held = (hold_during_forks(mutex), true);
  static std::map<std::string, std::unique_ptr<Library>> opened;
  MutexLock lock(mutex);
  if (const auto found = opened.find(path); found != opened.end()) return found->second.get();
  std::vector<std::string> wanted{path};
  set_missing_variables(kSettings);
  if (path.empty()) wanted.assign(std::begin(kUsual), std::end(kUsual));
  Status last;
  for (const std::string& each : wanted) {
    Result<std::unique_ptr<Library>> loaded = load(each);
    if (loaded.ok()) return (opened[path] = loaded.take()).get();
    last = loaded.status();
  }
  return error(Code::kUnsupported,
               "libfabric cannot be opened ({}): install it (libfabric1, or AWS's EFA installer), "
               "or set fabric_library to its path",
               last.message());
}

}  // namespace te::fabric
