#include "base/dynamic_library.h"

#include <dlfcn.h>
#include <link.h>

#include "base/log.h"

namespace te {

void DynamicLibrary::Closer::operator()(void* handle) const { ::dlclose(handle); }

Result<DynamicLibrary> DynamicLibrary::open(const std::string& path) {
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* why = ::dlerror();  // NOLINT(concurrency-mt-unsafe): glibc keeps it for each thread
    return Status(Code::kUnsupported, why == nullptr ? path + " cannot be opened" : why);
  }
  return DynamicLibrary(handle, path);
}

Result<DynamicLibrary> DynamicLibrary::open_if_loaded(const std::string& path) {
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  if (handle == nullptr) return error(Code::kNotFound, "{} is not loaded", path);
  return DynamicLibrary(handle, path);
}

void* DynamicLibrary::find(const char* name, const char* version) {
  void* const found =
      version == nullptr ? ::dlsym(handle_.get(), name) : ::dlvsym(handle_.get(), name, version);
  if (found == nullptr && missing_.empty()) {
    missing_ = version == nullptr ? name : fmt::format("{}@{}", name, version);
  }
  return found;
}

void* DynamicLibrary::find_optional(const char* name) { return ::dlsym(handle_.get(), name); }

Status DynamicLibrary::keep(std::string_view expected) {
  if (!missing_.empty()) {
    return error(Code::kUnsupported, "{} is not {}: it has no {}", path(), expected, missing_);
  }
  (void)handle_.release();
  return {};
}

std::string DynamicLibrary::path() const {
  link_map* map = nullptr;
  const bool known = ::dlinfo(handle_.get(), RTLD_DI_LINKMAP, &map) == 0 && map != nullptr;
  return known ? map->l_name : name_;
}

}  // namespace te
