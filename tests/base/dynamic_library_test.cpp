#include "base/dynamic_library.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

namespace te {
namespace {

struct CLibrary {
  int (*absolute)(int) = nullptr;
  int (*other)(int) = nullptr;
};

bool names(const Status& status, std::string_view part) {
  return status.code() == Code::kUnsupported && status.message().find(part) != std::string::npos;
}

TEST(DynamicLibrary, GivesItsFunctions) {
  Result<DynamicLibrary> library = DynamicLibrary::open("libc.so.6");
  ASSERT_TRUE(library.ok()) << library.status().to_string();
  CLibrary functions;
  library->look_up("abs", &functions.absolute);
  library->look_up("labs", &functions.other, "GLIBC_2.2.5");
  EXPECT_NE(library->path().find("/libc.so.6"), std::string::npos) << library->path();
  EXPECT_TRUE(library->keep("the C library").ok());
  ASSERT_NE(functions.absolute, nullptr);
  EXPECT_EQ(functions.absolute(-3), 3);
}

TEST(DynamicLibrary, ThatIsMissingIsNamed) {
  EXPECT_TRUE(names(DynamicLibrary::open("/nonexistent/lib.so.1").status(), "/nonexistent/lib.so"));
}

TEST(DynamicLibrary, TheFirstFunctionThatItLacksIsNamed) {
  Result<DynamicLibrary> library = DynamicLibrary::open("libc.so.6");
  ASSERT_TRUE(library.ok()) << library.status().to_string();
  CLibrary functions;
  library->look_up("abs", &functions.absolute, "FABRIC_1.3");
  library->look_up("fi_getinfo", &functions.other);
  EXPECT_EQ(functions.absolute, nullptr);
  EXPECT_EQ(functions.other, nullptr);
  const Status status = library->keep("libfabric");
  EXPECT_TRUE(names(status, "libc.so.6 is not libfabric: it has no abs@FABRIC_1.3"))
      << status.to_string();
}

TEST(OpenLibraries, ThreadsThatNeedOneAtOnceOpenItOnce) {
  auto& libraries = *new OpenLibraries<CLibrary>;  // as its users make it
  std::atomic<int> loads{0};
  const auto load = [&](const std::string& path) -> Result<std::unique_ptr<CLibrary>> {
    if (path != "good" || ++loads == 1) return Status(Code::kUnsupported, path + " is missing");
    std::this_thread::yield();
    return std::make_unique<CLibrary>();
  };
  EXPECT_TRUE(names(libraries.get("bad", load).status(), "bad is missing"));
  EXPECT_TRUE(names(libraries.get("good", load).status(), "good is missing"));

  // That failure may be over.
  std::vector<const CLibrary*> found(8);
  std::vector<std::thread> threads;
  threads.reserve(found.size());
  for (const CLibrary*& each : found) {
    threads.emplace_back([&] { each = libraries.get("good", load).value(); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(loads, 2);
  EXPECT_EQ(found, std::vector<const CLibrary*>(8, found[0]));
  EXPECT_NE(found[0], nullptr);
}

}  // namespace
}  // namespace te
