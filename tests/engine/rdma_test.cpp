// The RDMA transport on a machine that lacks something. What takes devices is in tests/rdma/.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/pair.h"
#include "rdma/devices.h"

namespace te::test {
namespace {

using Settings = std::map<std::string, std::string>;

const TransportInfo* info_of(const std::vector<TransportInfo>& all, std::string_view name) {
  const auto found = std::find_if(all.begin(), all.end(),
                                  [name](const TransportInfo& info) { return info.name == name; });
  return found == all.end() ? nullptr : &*found;
}

TEST(RdmaAbsent, ALibraryThatIsNoneIsNamed) {
  Pair pair(Settings{{"rdma_library", "libc.so.6"}});
  const Status installed = pair.initiator().install_transport("rdma");
  if (installed.message().find("headers") != std::string::npos) GTEST_SKIP() << installed.message();
  EXPECT_TRUE(fails_with(installed, Code::kUnsupported, "libc.so.6 is not libibverbs"));
  EXPECT_TRUE(fails_with(installed, Code::kUnsupported, "it has no ibv_get_device_list"));
}

TEST(RdmaAbsent, WithoutDevicesTheErrorSaysWhatWasLookedFor) {
  Pair pair;
  const std::vector<TransportInfo> all = pair.initiator().transports();
  const TransportInfo* info = info_of(all, "rdma");
  ASSERT_NE(info, nullptr);
  if (info->available) GTEST_SKIP() << "there are RDMA devices: " << info->detail;
  const Status installed = pair.initiator().install_transport("rdma");
  EXPECT_EQ(installed.code(), Code::kUnsupported);
  EXPECT_EQ(installed.message(), info->detail);
  if (info->detail.find("libibverbs (") == std::string::npos) GTEST_SKIP() << info->detail;
  EXPECT_TRUE(fails_with(installed, Code::kUnsupported, "finds no RDMA device"));
  EXPECT_TRUE(fails_with(installed, Code::kUnsupported, "driver"));
  EXPECT_TRUE(pair.works());
}

TEST(RdmaAbsent, AMatrixThatNamesUnknownNicsIsRefused) {
  Pair pair;
  EXPECT_TRUE(
      fails_with(pair.initiator().install_transport("rdma", R"({"cpu:0": [["no_such_nic"], []]})"),
                 Code::kNotFound, "no_such_nic"));
  EXPECT_EQ(pair.initiator().install_transport("rdma", "{").code(), Code::kInvalidArgument);
  EXPECT_TRUE(pair.works());
}

}  // namespace
}  // namespace te::test
