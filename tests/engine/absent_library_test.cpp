// Transports whose library the machine does not have.
#include <gtest/gtest.h>

#include "engine/pair.h"

namespace te::test {
namespace {

struct Optional {
  const char* setting;  // of where the library is
  std::vector<std::string> transports;
  const char* unknown;  // no transport's name begins so without the library; null: does not apply
};

class AbsentLibrary : public testing::TestWithParam<Optional> {};

TEST_P(AbsentLibrary, TheRestWorksAndTheErrorSaysWhatToDo) {
  const std::string path = "/nonexistent/library.so.1";
  Pair pair({{GetParam().setting, path}});
  for (const std::string& name : GetParam().transports) {
    const Status installed = pair.initiator().install_transport(name);
    if (installed.message().find("headers") != std::string::npos) {
      GTEST_SKIP() << installed.message();
    }
    EXPECT_TRUE(fails_with(installed, Code::kUnsupported, path));
    EXPECT_TRUE(fails_with(installed, Code::kUnsupported, "install it"));
  }
  EXPECT_TRUE(pair.works());
  size_t rows = 0;
  for (const TransportInfo& info : pair.initiator().transports()) {
    const char* unknown = GetParam().unknown;
    EXPECT_FALSE(unknown != nullptr && info.name.starts_with(unknown)) << info.name;
    if (info.name != GetParam().transports.front()) continue;
    ++rows;
    EXPECT_FALSE(info.available);
    EXPECT_FALSE(info.installed);
    EXPECT_NE(info.detail.find(path), std::string::npos) << info.detail;
  }
  EXPECT_EQ(rows, 1u);
}

INSTANTIATE_TEST_SUITE_P(Of, AbsentLibrary,
                         testing::Values(Optional{"rdma_library", {"rdma"}, nullptr},
                                         Optional{
                                             "fabric_library", {"efa", "fabric:tcp"}, "fabric:"}),
                         [](const auto& which) { return which.param.transports.front(); });

}  // namespace
}  // namespace te::test
