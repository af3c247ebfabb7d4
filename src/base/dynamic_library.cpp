#include "base/dynamic_library.h"

#include <dlfcn.h>
#include <link.h>

namespace te {

void DynamicLibrary::Closer::operator()(void* handle) const { ::dlclose(handle); }

std::string DynamicLibrary::last_error(const std::string& otherwise) {
  const char* why = ::dlerror();  // NOLINT(concurrency-mt-unsafe): glibc keeps it for each thread
  return why == nullptr ? otherwise : why;
}

Result<DynamicLibrary> DynamicLibrary::open(const std::string& path) {
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return Status(Code::kUnsupported, last_error(path + " cannot be opened"));
  }
  return DynamicLibrary(handle, path);
}

void* DynamicLibrary::find(const char* name, const char* version) const {
  return version == nullptr ? ::dlsym(handle_.get(), name) : ::dlvsym(handle_.get(), name, version);
}

std::string DynamicLibrary::path() const {
  link_map* map = nullptr;
  const bool known = ::dlinfo(handle_.get(), RTLD_DI_LINKMAP, &map) == 0 && map != nullptr;
  return known ? map->l_name : name_;
}

}  // namespace te
