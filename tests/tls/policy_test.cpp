// Which rights the lines of a policy give to whom.
#include "tls/policy.h"

#include <gtest/gtest.h>

#include <fstream>

#include "support/fails_with.h"
#include "tls/cluster.h"

namespace te::test {
namespace {

using tls::Permission;
using tls::Permissions;
using tls::Policy;

Permissions rights(std::string_view text, const std::vector<std::string>& names) {
  const Result<Policy> policy = Policy::parse(text);
  EXPECT_TRUE(policy.ok()) << policy.status().to_string();
  return policy.ok() ? policy->of(names) : Permissions::all();
}

TEST(TlsPolicy, WithoutAFileEveryoneMayDoEverything) {
  EXPECT_EQ(Policy().of({}), Permissions::all());
  EXPECT_EQ(Policy().of({"a"}), Permissions::all());
}

TEST(TlsPolicy, TheFirstLineThatMatchesDecides) {
  constexpr std::string_view kText =
      "# prefill only reads\n"
      "spiffe://c/prefill/*   open, read   # and nothing else\r\n"
      "\n"
      "node-1.gpu.example none\n"
      "*.gpu.example\topen read,write\n"
      "secret:12 all\n"
      "* watch";
  EXPECT_EQ(rights(kText, {"spiffe://c/prefill/7"}),
            Permissions({Permission::kOpen, Permission::kRead}));
  EXPECT_EQ(rights(kText, {"node-1.gpu.example"}), Permissions());
  EXPECT_EQ(rights(kText, {"node-2.gpu.example"}),
            Permissions({Permission::kOpen, Permission::kRead, Permission::kWrite}));
  EXPECT_EQ(rights(kText, {"other", "node-2.gpu.example"}),
            Permissions({Permission::kOpen, Permission::kRead, Permission::kWrite}));
  EXPECT_EQ(rights(kText, {"secret:12"}), Permissions::all());
  EXPECT_EQ(rights(kText, {"spiffe://c/decode/7"}), Permissions({Permission::kWatch}));
  EXPECT_EQ(rights(kText, {}), Permissions({Permission::kWatch}));
}

TEST(TlsPolicy, WhoIsInNoLineMayDoNothing) {
  EXPECT_EQ(rights("", {"a"}), Permissions());
  EXPECT_EQ(rights("# nobody\n", {"a"}), Permissions());
  EXPECT_EQ(rights("b all\n", {"a"}), Permissions());
}

TEST(TlsPolicy, AWrongLineIsNamed) {
  EXPECT_TRUE(fails_with(Policy::parse("a all\nb raed\n").status(), Code::kInvalidArgument,
                         "line 2: there is no right 'raed'"));
  EXPECT_TRUE(fails_with(Policy::parse("a\n").status(), Code::kInvalidArgument,
                         "line 1: 'a' has no rights"));
  EXPECT_TRUE(fails_with(Policy::load("/nowhere/policy").status(), Code::kInvalidArgument,
                         "tls_policy: cannot read '/nowhere/policy'"));
  for (const char* text :
       {"a none, all", "a none read", "a all, read", "a read all", "a none none"}) {
    EXPECT_TRUE(fails_with(Policy::parse(text).status(), Code::kInvalidArgument,
                           "line 1: all and none stand alone"))
        << text;
  }
  EXPECT_TRUE(fails_with(Policy::parse(std::string_view("a all\nb \0all", 12)).status(),
                         Code::kInvalidArgument, "line 2 has a control character"));
  EXPECT_TRUE(fails_with(Policy::parse("\x1b[31m all").status(), Code::kInvalidArgument, "line 1"));
  const Cluster cluster;
  const std::string file = cluster.write("policy", "a open\nb all wrong\n");
  EXPECT_TRUE(fails_with(Policy::load(file).status(), Code::kInvalidArgument, "line 2"));
  cluster.write("policy", std::string((1 << 20) + 1, '\n'));
  EXPECT_TRUE(fails_with(Policy::load(file).status(), Code::kInvalidArgument, "larger than"));
}

TEST(TlsPolicy, AByteOrderMarkIsNoPartOfAName) {
  EXPECT_EQ(rights("\xef\xbb\xbf* all\n", {"a"}), Permissions::all());
}

TEST(TlsPolicy, RightsHaveNames) {
  EXPECT_EQ(Permissions().to_string(), "none");
  EXPECT_EQ(Permissions::all().to_string(), "open, read, write, notify, watch");
}

}  // namespace
}  // namespace te::test
