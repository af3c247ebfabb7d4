#include "directory/curl_library.h"

#include <utility>

#include "base/dynamic_library.h"
#include "base/log.h"

namespace te {
namespace {

constexpr const char* kName = "libcurl.so.4";  // its ABI of the last twenty years

}  // namespace

Result<CurlLibrary> open_curl(const std::string& path) {
  Result<DynamicLibrary> library = DynamicLibrary::open(path);
  if (!library.ok()) {
    return error(Code::kUnsupported,
                 "etcd and HTTP metadata servers take libcurl: {}; install it (Debian: libcurl4)",
                 library.status().message());
  }
  CurlLibrary curl{};
  const bool complete = library->look_up("curl_global_init", nullptr, &curl.global_init) &&
                        library->look_up("curl_easy_init", nullptr, &curl.easy_init) &&
                        library->look_up("curl_easy_cleanup", nullptr, &curl.easy_cleanup) &&
                        library->look_up("curl_easy_reset", nullptr, &curl.easy_reset) &&
                        library->look_up("curl_easy_setopt", nullptr, &curl.easy_setopt) &&
                        library->look_up("curl_easy_perform", nullptr, &curl.easy_perform) &&
                        library->look_up("curl_easy_getinfo", nullptr, &curl.easy_getinfo) &&
                        library->look_up("curl_easy_strerror", nullptr, &curl.easy_strerror) &&
                        library->look_up("curl_slist_append", nullptr, &curl.slist_append) &&
                        library->look_up("curl_slist_free_all", nullptr, &curl.slist_free_all);
  if (!complete) {
    return error(Code::kUnsupported, "{} is not libcurl: it lacks some of its functions",
                 library->path());
  }
  library->keep();
  return curl;
}

const Result<CurlLibrary>& curl_library() {
  // Never destroyed: a thread may hang in a call while the process ends.
  static const auto* const library = [] {
    Result<CurlLibrary> opened = open_curl(kName);
    if (opened.ok() && opened->global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
      opened = Status(Code::kResource, "libcurl cannot be initialised");
    }
    return new Result<CurlLibrary>(std::move(opened));
  }();
  return *library;
}

}  // namespace te
