// What the files of TLS say, and whom they let in.
#include "tls/credentials.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "support/facts.h"
#include "support/fails_with.h"
#include "tls/cluster.h"

namespace te::test {
namespace {

using tls::Credentials;
using tls::Files;
using tls::matches;

TEST(TlsNames, APatternMatchesWithinItsPart) {
  EXPECT_TRUE(matches("node-1", "node-1"));
  EXPECT_TRUE(matches("node-*", "node-17"));
  EXPECT_TRUE(matches("*.gpu.example", "a.gpu.example"));
  EXPECT_FALSE(matches("*.gpu.example", "a.b.gpu.example"));
  EXPECT_FALSE(matches("*.gpu.example", "gpu.example"));
  EXPECT_TRUE(matches("spiffe://c/ns/*/engine", "spiffe://c/ns/prod/engine"));
  EXPECT_TRUE(matches("spiffe://c.example/*", "spiffe://c.example/a.b"));
  EXPECT_FALSE(matches("spiffe://c/ns/*/engine", "spiffe://c/ns/a/b/engine"));
  EXPECT_FALSE(matches("node-*", "other"));
  EXPECT_FALSE(matches("", "node"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_FALSE(matches("*", "spiffe://c/a"));
  EXPECT_TRUE(matches("**b*", "abab"));
  EXPECT_FALSE(matches("a*", "b"));
}

TEST(TlsFiles, EachWrongOneIsNamed) {
  const Cluster cluster;
  const Files good = cluster.member("a");
  const std::string empty = cluster.write("empty", ""), none = cluster.path("none");
  struct Case {
    std::string Files::*file;
    std::string value;
    const char* text;
  };
  for (const Case& each :
       {Case{&Files::certificate, none, "tls_cert: cannot read"},
        Case{&Files::certificate, empty, "tls_cert"},
        Case{&Files::key, none, "tls_key: cannot read"}, Case{&Files::key, empty, "tls_key"},
        Case{&Files::key, cluster.member("b").key, "tls_key"},
        Case{&Files::authority, none, "tls_ca: cannot read"},
        Case{&Files::authority, empty, "tls_ca"},
        Case{&Files::revoked, none, "tls_crl: cannot read"},
        Case{&Files::revoked, empty, "tls_crl"},
        Case{&Files::secret, none, "tls_psk_file: cannot read"},
        Case{&Files::secret, empty, "there is no secret"},
        Case{&Files::secret, cluster.write("short", "abcd\n"), "line 1"},
        Case{&Files::secret, cluster.write("text", "# ours\n" + std::string(64, 'x') + "\n"),
             "line 2"}}) {
    Files files = good;
    files.*each.file = each.value;
    EXPECT_TRUE(fails_with(Credentials::load(files), Code::kInvalidArgument, each.text))
        << each.text;
  }
  EXPECT_TRUE(Credentials::load(good).ok());
}

// A folder reads as if it were empty, and a pipe keeps whoever opens it waiting.
TEST(TlsFiles, WhatIsNoRegularFileIsAnError) {
  const Cluster cluster;
  const std::string pipe = cluster.path("pipe"), folder = cluster.path("folder");
  ASSERT_EQ(::mkfifo(pipe.c_str(), S_IRUSR | S_IWUSR), 0);
  ASSERT_EQ(::mkdir(folder.c_str(), S_IRWXU), 0);
  for (std::string Files::*file : {&Files::certificate, &Files::key, &Files::authority,
                                   &Files::revoked, &Files::secret, &Files::policy}) {
    for (const std::string& path : {pipe, folder}) {
      Files files = cluster.member("a");
      files.*file = path;
      EXPECT_TRUE(fails_with(Credentials::load(files).status(), Code::kInvalidArgument,
                             "'" + path + "' is no regular file"));
    }
  }
}

TEST(TlsFiles, AListWithoutANameLetsNobodyIn) {
  const Cluster cluster;
  for (const char* list : {",", " ", ", ,"}) {
    EXPECT_TRUE(fails_with(Credentials::load(cluster.member("a", {}, list)).status(),
                           Code::kInvalidArgument, "tls_allow: there is no name"));
  }
}

TEST(TlsFiles, AKeyWithAPasswordIsAnErrorAndNoQuestion) {
  const Cluster cluster;
  Files files = cluster.member("a");
  files.key = cluster.write("locked.key",
                            "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
                            "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAi5dPZ1YpRqXwICCAAw\n"
                            "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEPvQ0r1Jr0QWc2b3mUu0a1oEgZDr\n"
                            "-----END ENCRYPTED PRIVATE KEY-----\n");
  EXPECT_TRUE(fails_with(Credentials::load(files), Code::kInvalidArgument, "tls_key"));
}

TEST(TlsFiles, ASecretHasANameThatDoesNotShowIt) {
  const Cluster cluster;
  const std::string secret = *tool::make_secret(), other = *tool::make_secret();
  const auto loaded = load(cluster.secret("psk", secret + "\n\n# the one before\n" + other + "\n"));
  ASSERT_EQ(loaded->secrets().size(), 2u);
  EXPECT_NE(loaded->secrets()[0].id, loaded->secrets()[1].id);
  EXPECT_EQ(secret.find(loaded->secrets()[0].id), std::string::npos);
  EXPECT_EQ(load(cluster.secret("again", secret))->secrets()[0].id, loaded->secrets()[0].id);
}

TEST(TlsFiles, TheNameOfASecretIsTheOneThatTeKeysPrints) {
  const Cluster cluster;
  const std::string line = *tool::make_secret();
  const auto loaded = load(cluster.secret("secret", line + "\n"));
  EXPECT_EQ(loaded->secrets().front().id, *tool::name_of_secret(line));
}

TEST(TlsIdentity, ExchangedFilesAreUsedAndWrongOnesAreNot) {
  const Cluster cluster;
  const Files files = cluster.member("a");
  const Result<std::shared_ptr<tls::Identity>> identity = tls::Identity::load(files);
  ASSERT_TRUE(identity.ok()) << identity.status().to_string();
  const auto first = (*identity)->current();
  const auto changes = [&](const std::shared_ptr<const Credentials>& from) {
    for (int i = 0; i < 100; ++i) {
      if ((*identity)->current() != from) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  };
  EXPECT_EQ((*identity)->current(), first);
  (void)cluster.member("a");  // the same files anew
  EXPECT_TRUE(changes(first));
  const auto second = (*identity)->current();
  cluster.write("a.key", "nothing of use");
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  EXPECT_EQ((*identity)->current(), second);
  (void)cluster.member("a");
  EXPECT_TRUE(changes(second));
}

}  // namespace
}  // namespace te::test
