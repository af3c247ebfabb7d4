#include "directory/curl_library.h"

#include <memory>

#include "base/dynamic_library.h"
#include "base/log.h"

namespace te {
namespace {

Result<std::unique_ptr<CurlLibrary>> load_curl(const std::string& path) {
  Result<DynamicLibrary> library = DynamicLibrary::open(path);
  if (!library.ok()) {
    return error(Code::kUnsupported,
                 "etcd, HTTP and TLS metadata servers take libcurl: {}; install it "
                 "(Debian: libcurl4)",
                 library.status().message());
  }
  auto curl = std::make_unique<CurlLibrary>();
  library->look_up("curl_global_init", &curl->global_init);
  library->look_up("curl_easy_init", &curl->easy_init);
  library->look_up("curl_easy_cleanup", &curl->easy_cleanup);
  library->look_up("curl_easy_reset", &curl->easy_reset);
  library->look_up("curl_easy_setopt", &curl->easy_setopt);
  library->look_up("curl_easy_perform", &curl->easy_perform);
  library->look_up("curl_easy_getinfo", &curl->easy_getinfo);
  library->look_up("curl_easy_recv", &curl->easy_recv);
  library->look_up("curl_easy_send", &curl->easy_send);
  library->look_up("curl_easy_strerror", &curl->easy_strerror);
  library->look_up("curl_slist_append", &curl->slist_append);
  library->look_up("curl_slist_free_all", &curl->slist_free_all);
  TE_RETURN_IF_ERROR(library->keep("libcurl"));
  if (curl->global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
    return Status(Code::kResource, "libcurl cannot be initialised");
  }
  return curl;
}

OpenLibraries<CurlLibrary>& curl_libraries = *new OpenLibraries<CurlLibrary>;

}  // namespace

Result<const CurlLibrary*> curl_library(const std::string& path) {
  return curl_libraries.get(path, load_curl);
}

}  // namespace te
