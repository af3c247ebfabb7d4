// Peers that know keys of NICs: when other keys are due, and when not.
#include "engine/key_holders.h"

#include <gtest/gtest.h>
#include <openssl/pem.h>

#include <atomic>
#include <limits>
#include <vector>

#include "tls/cluster.h"

namespace te::test {
namespace {

constexpr int64_t kNow = 1;
constexpr int64_t kMuchLater = std::numeric_limits<int64_t>::max();  // everything is rechecked

class KeyHoldersTest : public testing::Test {
 protected:
  KeyHoldersTest() {
    tls::Files files = cluster_.member("own");
    files.revoked = cluster_.write("list.pem", *cluster_.authority().revoke({revoked_}));
    own_ = identity(files);
  }
  std::string certificate(const std::string& name, int64_t ends_s = 1000) {
    const auto issued = cluster_.authority().issue({name, {"DNS:" + name}, -60, ends_s});
    EXPECT_TRUE(issued.ok()) << issued.status().to_string();
    return issued.ok() ? issued->certificate : "";
  }
  // As if it had been let in while it was good.
  tls::Principal peer(const std::string& name, const std::string& text) {
    BIO* const memory = BIO_new_mem_buf(text.data(), static_cast<int>(text.size()));
    tls::PeerIdentity identity{name, {name}};
    identity.certificate = {PEM_read_bio_X509(memory, nullptr, nullptr, nullptr), X509_free};
    BIO_free(memory);
    return {own_, own_->current(), identity, true};
  }
  // How often other keys were given, after all was rechecked.
  int renewals(const std::vector<tls::Principal>& peers) {
    std::atomic<int> count{0};
    KeyHolders holders([&count] {
      ++count;
      return Status();
    });
    for (const tls::Principal& each : peers) holders.add(each);
    holders.check(kNow);
    holders.check(kMuchLater);
    holders.stop();
    return count.load();
  }

  Cluster cluster_;
  const std::string revoked_ = certificate("peer");
  std::shared_ptr<tls::Identity> own_;
};

TEST_F(KeyHoldersTest, WhoIsStillLetInKeepsItsKeys) {
  EXPECT_EQ(renewals({peer("peer", certificate("peer")), peer("other", certificate("other"))}), 0);
}

TEST_F(KeyHoldersTest, ARevokedOneLosesThemAlsoIfALaterOneHasItsName) {
  EXPECT_EQ(renewals({peer("peer", revoked_)}), 1);
  EXPECT_EQ(renewals({peer("peer", revoked_), peer("peer", certificate("peer"))}), 1);
  EXPECT_EQ(renewals({peer("peer", certificate("peer")), peer("peer", revoked_)}), 1);
}

TEST_F(KeyHoldersTest, AnExpiredOneLosesThemUnlessItWasExchanged) {
  const std::string expired = certificate("peer", -1);
  EXPECT_EQ(renewals({peer("peer", expired)}), 1);
  EXPECT_EQ(renewals({peer("peer", expired), peer("peer", certificate("peer"))}), 0);
  EXPECT_EQ(renewals({peer("peer", certificate("peer")), peer("peer", expired)}), 1);
  EXPECT_EQ(renewals({peer("peer", expired), peer("other", certificate("other"))}), 1);
}

}  // namespace
}  // namespace te::test
