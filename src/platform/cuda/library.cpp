#include "platform/cuda/library.h"

#include <memory>

#include "base/dynamic_library.h"
#include "base/log.h"

namespace te::cuda {
namespace {

constexpr const char* kName = "libcuda.so.1";
constexpr int kInterface = 11'040;  // the variants of functions as of CUDA 11.4

constexpr int kWithDmaBuf = 11'070;

using GetProcAddress = CuResult (*)(const char*, void**, int version, uint64_t flags);

// Looks functions up by their names without a version.
class Functions {
 public:
  explicit Functions(GetProcAddress get) : get_(get) {}

  template <typename Function>
  void look_up(const char* name, Function* function) {
    void* found = nullptr;
    if (get_(name, &found, kInterface, 0) != CuResult::kSuccess) found = nullptr;
    if (found == nullptr && missing_.empty()) missing_ = name;
    *function = reinterpret_cast<Function>(found);
  }
  template <typename Function>
  void look_up_optional(const char* name, int version, Function* function) {
    void* found = nullptr;
    if (get_(name, &found, version, 0) != CuResult::kSuccess) found = nullptr;
    *function = reinterpret_cast<Function>(found);
  }
  const std::string& missing() const { return missing_; }

 private:
  const GetProcAddress get_;
  std::string missing_;
};

void look_up_sharing(Functions& functions, SharingFunctions& sharing) {
  functions.look_up("cuIpcGetMemHandle", &sharing.get_handle);
  functions.look_up("cuIpcOpenMemHandle", &sharing.open_handle);
  functions.look_up("cuIpcCloseMemHandle", &sharing.close_handle);
  functions.look_up("cuMemRetainAllocationHandle", &sharing.retain_chunk);
  functions.look_up("cuMemRelease", &sharing.release_chunk);
  functions.look_up("cuMemExportToShareableHandle", &sharing.export_chunk);
  functions.look_up("cuMemImportFromShareableHandle", &sharing.import_chunk);
  functions.look_up("cuMemAddressReserve", &sharing.reserve);
  functions.look_up("cuMemAddressFree", &sharing.free_reserved);
  functions.look_up("cuMemMap", &sharing.map);
  functions.look_up("cuMemUnmap", &sharing.unmap);
  functions.look_up("cuMemSetAccess", &sharing.set_access);
}

Result<std::unique_ptr<Library>> load(const std::string& path) {
  Result<DynamicLibrary> opened = DynamicLibrary::open_if_loaded(path);
  if (!opened.ok()) return opened.status();
  GetProcAddress get = nullptr;
  opened->look_up("cuGetProcAddress", &get);
  TE_RETURN_IF_ERROR(opened->keep("a driver of CUDA 11.4 or later"));
  auto library = std::make_unique<Library>();
  Functions functions(get);
  functions.look_up("cuGetErrorName", &library->get_error_name);
  functions.look_up("cuDeviceGetCount", &library->device_get_count);
  functions.look_up("cuDeviceGet", &library->device_get);
  functions.look_up("cuDeviceGetPCIBusId", &library->device_get_pci_bus_id);
  functions.look_up("cuDeviceGetAttribute", &library->device_get_attribute);
  functions.look_up("cuDevicePrimaryCtxRetain", &library->primary_context_retain);
  functions.look_up("cuDevicePrimaryCtxRelease", &library->primary_context_release);
  functions.look_up("cuDevicePrimaryCtxGetState", &library->primary_context_state);
  functions.look_up("cuCtxPushCurrent", &library->push_context);
  functions.look_up("cuCtxPopCurrent", &library->pop_context);
  functions.look_up("cuPointerGetAttributes", &library->pointer_get_attributes);
  functions.look_up("cuPointerSetAttribute", &library->pointer_set_attribute);
  functions.look_up("cuMemHostRegister", &library->host.add);
  functions.look_up("cuMemHostUnregister", &library->host.remove);
  functions.look_up("cuStreamCreate", &library->streams.create);
  functions.look_up("cuStreamDestroy", &library->streams.destroy);
  functions.look_up("cuStreamSynchronize", &library->streams.synchronize);
  functions.look_up("cuStreamGetCtx", &library->streams.get_context);
  functions.look_up("cuStreamWaitEvent", &library->streams.wait_event);
  functions.look_up("cuEventCreate", &library->events.create);
  functions.look_up("cuEventDestroy", &library->events.destroy);
  functions.look_up("cuEventRecord", &library->events.record);
  functions.look_up("cuEventQuery", &library->events.query);
  functions.look_up("cuEventSynchronize", &library->events.synchronize);
  functions.look_up("cuMemcpyAsync", &library->memcpy_async);
  look_up_sharing(functions, library->sharing);
  functions.look_up_optional("cuMemGetHandleForAddressRange", kWithDmaBuf,
                             &library->sharing.get_handle_for_range);
  if (!functions.missing().empty()) {
    return error(Code::kUnsupported, "{} is not a driver of CUDA 11.4 or later: it has no {}",
                 opened->path(), functions.missing());
  }
  return library;
}

OpenLibraries<Library>& opened = *new OpenLibraries<Library>;

}  // namespace

Status Library::failed(std::string_view call, CuResult result, Code code) const {
  const char* name = nullptr;
  if (get_error_name(result, &name) != CuResult::kSuccess || name == nullptr) name = "error";
  return error(code, "{} failed: {} ({})", call, name, static_cast<int>(result));
}

const Library* loaded_library() {
  const Result<const Library*> library = opened.get(kName, load);
  if (library.ok()) return *library;
  if (library.code() == Code::kUnsupported) {
    warn_once(fmt::format("memory of GPUs cannot be registered: {}", library.status().message()));
  }
  return nullptr;
}

}  // namespace te::cuda
