// libcurl, which is opened when a directory first needs it: programs start without it, and those
// without a directory over HTTP or TLS never need it.
//
// Threads: any. It stays open until the process ends.
#pragma once

#include <curl/curl.h>

#include <string>

#include "transfer_engine/status.h"

namespace te {

struct CurlLibrary {
  decltype(&::curl_global_init) global_init;
  decltype(&::curl_easy_init) easy_init;
  decltype(&::curl_easy_cleanup) easy_cleanup;
  decltype(&::curl_easy_reset) easy_reset;
  decltype(&::curl_easy_setopt) easy_setopt;
  decltype(&::curl_easy_perform) easy_perform;
  decltype(&::curl_easy_getinfo) easy_getinfo;
  decltype(&::curl_easy_recv) easy_recv;
  decltype(&::curl_easy_send) easy_send;
  decltype(&::curl_easy_strerror) easy_strerror;
  decltype(&::curl_slist_append) slist_append;
  decltype(&::curl_slist_free_all) slist_free_all;
};

// Opened and initialised once; later calls return the same. kUnsupported, with what to install,
// where the machine has none by that path or name.
Result<const CurlLibrary*> curl_library(const std::string& path = "libcurl.so.4");

}  // namespace te
