// Handshakes between two sides in memory: who is let in, and what the refused hear.
#include "tls/handshake.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include "support/facts.h"
#include "support/fails_with.h"
#include "tls/cluster.h"

namespace te::test {
namespace {

using tls::Credentials;
using tls::Files;
using tls::Handshake;
using tls::Role;

struct Ends {
  Handshake::Step connecting = Handshake::Step::kNeedsBytes;
  Handshake::Step accepting = Handshake::Step::kNeedsBytes;
};

class HandshakeTest : public testing::Test {
 protected:
  // Until neither side goes on. The side that connects is done before the other has looked at its
  // certificate, so what it is told comes as its first record.
  Ends shake(const Files& connecting, const Files& accepting) {
    connecting_ = Handshake::make(load(connecting), Role::kConnects).take();
    accepting_ = Handshake::make(load(accepting), Role::kAccepts).take();
    Ends ends;
    for (int i = 0; i < 10; ++i) {
      if (ends.connecting == Handshake::Step::kNeedsBytes) ends.connecting = connecting_->advance();
      pass(*connecting_, *accepting_);
      if (ends.accepting == Handshake::Step::kNeedsBytes) ends.accepting = accepting_->advance();
      pass(*accepting_, *connecting_);
    }
    return ends;
  }
  static void pass(Handshake& from, Handshake& to) {
    const Bytes bytes = from.take_unsent();
    if (!bytes.empty()) to.receive(bytes);
  }
  testing::AssertionResult both_done(const Ends& ends) const {
    if (ends.connecting != Handshake::Step::kDone) {
      return testing::AssertionFailure() << connecting_->why().to_string();
    }
    if (ends.accepting != Handshake::Step::kDone) {
      return testing::AssertionFailure() << accepting_->why().to_string();
    }
    return testing::AssertionSuccess();
  }
  // What is sealed on one side opens on the other.
  testing::AssertionResult works() {
    for (const auto& [from, to] : {std::pair(connecting_.get(), accepting_.get()),
                                   std::pair(accepting_.get(), connecting_.get())}) {
      Result<tls::RecordSealer> sealer = from->sealer();
      Result<tls::RecordOpener> opener = to->opener();
      if (!sealer.ok() || !opener.ok()) return testing::AssertionFailure() << "no keys";
      for (int i = 0; i < 3; ++i) {
        std::vector<std::byte> record(tls::kMaxRecord);
        record[tls::kHeaderSize] = static_cast<std::byte>(i);
        record.resize(sealer->seal(record.data(), 1));
        const auto opened = opener->open(record);
        if (!opened.ok()) return testing::AssertionFailure() << opened.status().to_string();
        if (opened->bytes.size() != 1 || opened->bytes[0] != static_cast<std::byte>(i)) {
          return testing::AssertionFailure() << "other bytes";
        }
      }
    }
    return testing::AssertionSuccess();
  }

  const Cluster cluster_;
  std::unique_ptr<Handshake> connecting_, accepting_;
};

TEST_F(HandshakeTest, PeersOfOneAuthorityHaveTheSameKeys) {
  EXPECT_TRUE(both_done(shake(cluster_.member("a", {"DNS:a.example", "URI:spiffe://c/a"}),
                              cluster_.member("b", {"IP:10.0.0.7"}))));
  EXPECT_TRUE(works());
  EXPECT_EQ(accepting_->peer().names, (std::vector<std::string>{"a.example", "spiffe://c/a"}));
  EXPECT_EQ(connecting_->peer().name, "10.0.0.7");
}

TEST_F(HandshakeTest, ASharedSecretIsEnough) {
  const std::string ours = *tool::make_secret(), before = *tool::make_secret();
  EXPECT_TRUE(both_done(shake(cluster_.secret("a", ours), cluster_.secret("b", ours))));
  EXPECT_TRUE(works());
  EXPECT_EQ(connecting_->peer().name, accepting_->peer().name);
  // While it is exchanged, the one before is still taken.
  EXPECT_TRUE(
      both_done(shake(cluster_.secret("a", before), cluster_.secret("b", ours + "\n" + before))));
  EXPECT_TRUE(works());
}

TEST_F(HandshakeTest, WhoHasNoPartInTheClusterIsRefused) {
  const Files good = cluster_.member("good", {"DNS:good.example"});
  const auto stranger = tool::Authority::make("another");
  const auto now = [this](const char* name, int64_t begins_s, int64_t ends_s) {
    return cluster_.files(name, cluster_.authority(), {name, {}, begins_s, ends_s});
  };
  Files revoking = good;
  const auto revoked = cluster_.authority().issue({"revoked", {}});
  const std::string list = *cluster_.authority().revoke({revoked->certificate});
  revoking.revoked = cluster_.write("list.crl", list);
  Files withdrawn = cluster_.member("withdrawn");
  withdrawn.certificate = cluster_.write("withdrawn.pem", revoked->certificate);
  withdrawn.key = cluster_.write("withdrawn.key", revoked->key);
  struct Case {
    const char* what;
    Files accepting;
    Files connecting;
    const char* text;
  };
  Files choosy = good;
  choosy.allowed = "*.other.example, spiffe://c/*";
  for (const Case& each :
       {Case{"another authority", good, cluster_.files("stranger", *stranger, {"stranger", {}}),
             "certificate is refused"},
        Case{"expired", good, now("expired", -7'200, -3'600), "expired"},
        Case{"not valid yet", good, now("early", 3'600, 7'200), "not yet valid"},
        Case{"revoked", revoking, withdrawn, "revoked"}, Case{"name", choosy, good, "tls_allow"},
        Case{"no certificate", good, cluster_.secret("psk", *tool::make_secret()),
             "no handshake"}}) {
    const Ends ends = shake(each.connecting, each.accepting);
    EXPECT_EQ(ends.accepting, Handshake::Step::kFailed) << each.what;
    EXPECT_TRUE(fails_with(accepting_->why(), Code::kPermission, each.text)) << each.what;
  }
  // The other way round: the side that connects looks too.
  const Ends ends = shake(good, now("expired", -7'200, -3'600));
  EXPECT_EQ(ends.connecting, Handshake::Step::kFailed);
  EXPECT_TRUE(fails_with(connecting_->why(), Code::kPermission, "expired"));
  EXPECT_EQ(ends.accepting, Handshake::Step::kFailed);
  EXPECT_TRUE(fails_with(accepting_->why(), Code::kPermission, "alert certificate expired"));
}

TEST_F(HandshakeTest, AnotherSecretIsRefused) {
  const Ends ends =
      shake(cluster_.secret("a", *tool::make_secret()), cluster_.secret("b", *tool::make_secret()));
  EXPECT_EQ(ends.accepting, Handshake::Step::kFailed);
  EXPECT_EQ(ends.connecting, Handshake::Step::kFailed);
  EXPECT_EQ(connecting_->why().code(), Code::kPermission);
}

TEST_F(HandshakeTest, AnIdentityThatEndsIsFoundAgain) {
  Files accepting = cluster_.member("b");
  ASSERT_TRUE(both_done(shake(cluster_.member("a", {"DNS:a.example"}), accepting)));
  const tls::PeerIdentity peer = accepting_->peer();
  EXPECT_TRUE(load(accepting)->check(peer).ok());
  accepting.allowed = "b.example";
  EXPECT_TRUE(fails_with(load(accepting)->check(peer), Code::kPermission, "tls_allow"));
  accepting.allowed = "";
  std::ifstream file(cluster_.path("a.pem"));
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  accepting.revoked = cluster_.write("list.crl", *cluster_.authority().revoke({text}));
  EXPECT_TRUE(fails_with(load(accepting)->check(peer), Code::kPermission, "revoked"));
}

TEST_F(HandshakeTest, BytesThatAreNoTlsAreToldApart) {
  const auto credentials = load(cluster_.member("a"));
  for (const Role role : {Role::kConnects, Role::kAccepts}) {
    const auto handshake = Handshake::make(credentials, role).take();
    (void)handshake->advance();
    handshake->receive("TTE1 and so on");
    EXPECT_EQ(handshake->advance(), Handshake::Step::kFailed);
    EXPECT_TRUE(fails_with(handshake->why(), Code::kPermission, "does not speak TLS"));
  }
}

TEST_F(HandshakeTest, NobodyMakesItHoldMuch) {
  const auto accepting = Handshake::make(load(cluster_.member("a")), Role::kAccepts).take();
  // A handshake message that says that it is long.
  accepting->receive(std::string("\x16\x03\x01\x40\x00\x01\x00\xff\xff", 9));
  const std::string more(16 << 10, 'x');
  Handshake::Step step = accepting->advance();
  for (int i = 0; i < 100 && step == Handshake::Step::kNeedsBytes; ++i) {
    accepting->receive(more);
    step = accepting->advance();
  }
  EXPECT_EQ(step, Handshake::Step::kFailed);
}

TEST_F(HandshakeTest, AnOldVersionIsRefused) {
  const auto accepting = Handshake::make(load(cluster_.member("a")), Role::kAccepts).take();
  SSL_CTX* const context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
  SSL* const old = SSL_new(context);
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  SSL_set_bio(old, in, out);
  SSL_set_connect_state(old);
  (void)SSL_do_handshake(old);
  char hello[4'096];
  const int size = BIO_read(out, hello, sizeof hello);
  ASSERT_GT(size, 0);
  accepting->receive({hello, static_cast<size_t>(size)});
  EXPECT_EQ(accepting->advance(), Handshake::Step::kFailed);
  EXPECT_TRUE(fails_with(accepting->why(), Code::kPermission, "unsupported protocol"));
  SSL_free(old);
  SSL_CTX_free(context);
}

}  // namespace
}  // namespace te::test
