// A machine without libcurl.
#include "directory/curl_library.h"

#include <gtest/gtest.h>

namespace te {
namespace {

TEST(CurlLibrary, ThatIsMissingIsNamedWithWhatToInstall) {
  const Status status = curl_library("/nonexistent/libcurl.so.4").status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  for (const char* part : {"/nonexistent/libcurl.so.4", "etcd, HTTP and TLS", "libcurl4"}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status.to_string();
  }
}

TEST(CurlLibrary, AnotherLibraryIsNoLibcurl) {
  const Status status = curl_library("libc.so.6").status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_NE(status.message().find("is not libcurl"), std::string::npos) << status.to_string();
}

}  // namespace
}  // namespace te
