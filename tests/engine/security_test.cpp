// Engines with security = tls: who is talked to, what the refused hear, and certificates that are
// exchanged while bytes are moved.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <optional>
#include <stop_token>
#include <thread>

#include "engine/security_support.h"
#include "support/tampering_proxy.h"

namespace te::test {
namespace {

using std::chrono::milliseconds;
Status create(const Settings& config) {
  EngineOptions options;
  options.host = "127.0.0.1";
  options.config = config;
  return Engine::create(options).status();
}

class Security : public testing::Test {
 protected:
  // Bytes go both ways between two engines with these settings.
  static testing::AssertionResult work(const Settings& initiator, const Settings& target) {
    std::unique_ptr<Engine> a = make_engine(initiator), b = make_engine(target);
    Registered local(*a, kSize), remote(*b, kSize);
    const Result<SegmentId> id = a->open_segment(b->local_endpoint());
    if (!id.ok()) return testing::AssertionFailure() << id.status().to_string();
    stamp(local.data(), kSize, 1);
    const TransferRequest write{Opcode::kWrite, local.data(), *id, 0, kSize};
    if (transfer(*a, {write}).state != TaskState::kCompleted) {
      return testing::AssertionFailure() << "a WRITE failed";
    }
    if (difference(remote.data(), kSize, 1) != kSame) {
      return testing::AssertionFailure() << "other bytes";
    }
    return testing::AssertionSuccess();
  }
  // What an initiator hears that is not let in, or does not let in.
  static Status refusal(const Settings& initiator, const Settings& target) {
    std::unique_ptr<Engine> a = make_engine(initiator), b = make_engine(target);
    Registered remote(*b, kSize);
    return a->open_segment(b->local_endpoint()).status();
  }

  static constexpr uint64_t kSize = 3 << 20;
  const Cluster cluster_;
};

TEST_F(Security, PeersOfOneClusterWork) {
  EXPECT_TRUE(work(tls_settings(cluster_.member("a")), tls_settings(cluster_.member("b"))));
  const std::string secret = cluster_.write("psk", *tool::make_secret());
  EXPECT_TRUE(work(secret_settings(secret), secret_settings(secret)));
  EXPECT_TRUE(
      work(tls_settings(cluster_.member("a", {"URI:spiffe://c/ns/x/engine"}, "b.*")),
           tls_settings(cluster_.member("b", {"DNS:b.example"}, "spiffe://c/ns/*/engine"))));
}

// Both sides: with another authority, another secret, another name, an end, or no TLS at all.
TEST_F(Security, StrangersAreRefusedAndHearWhy) {
  const Settings good = tls_settings(cluster_.member("good", {"DNS:good.example"}));
  const auto stranger = tool::Authority::make("another");
  const Settings other = tls_settings(cluster_.files("stranger", *stranger, {"stranger", {}}));
  const Settings expired = tls_settings(
      cluster_.files("expired", cluster_.authority(), {"expired", {}, -7'200, -3'600}));
  EXPECT_TRUE(fails_with(refusal(good, other), Code::kPermission, "certificate is refused"));
  EXPECT_TRUE(fails_with(refusal(other, good), Code::kPermission, "refuses this engine"));
  EXPECT_TRUE(fails_with(refusal(good, expired), Code::kPermission, "expired"));
  EXPECT_TRUE(fails_with(refusal(expired, good), Code::kPermission, "refuses this engine"));
  EXPECT_TRUE(fails_with(refusal(tls_settings(cluster_.member("a", {}, "*.other.example")), good),
                         Code::kPermission, "tls_allow"));
  EXPECT_TRUE(fails_with(refusal(secret_settings(cluster_.write("psk1", *tool::make_secret())),
                                 secret_settings(cluster_.write("psk2", *tool::make_secret()))),
                         Code::kPermission, "handshake"));
  EXPECT_TRUE(fails_with(refusal(good, {}), Code::kPermission, "security"));
  EXPECT_TRUE(fails_with(refusal({}, good), Code::kPermission, "security"));
}

TEST_F(Security, HalfASettingIsAnError) {
  const tls::Files files = cluster_.member("a");
  const std::string secret = cluster_.write("psk", *tool::make_secret());
  EXPECT_TRUE(fails_with(create({{"tls_cert", files.certificate}}), Code::kInvalidArgument,
                         "security is off"));
  EXPECT_TRUE(
      fails_with(create({{"tls_psk_file", secret}}), Code::kInvalidArgument, "security is off"));
  EXPECT_TRUE(create({{"security", "off"}, {"tls_psk_file", secret}}).ok());
  EXPECT_TRUE(fails_with(create({{"security", "tls"}}), Code::kInvalidArgument, "tls_cert"));
  EXPECT_TRUE(fails_with(create({{"security", "tls"}, {"tls_cert", files.certificate}}),
                         Code::kInvalidArgument, "tls_key, tls_ca is not set"));
  Settings both = tls_settings(files);
  both["tls_psk_file"] = secret;
  EXPECT_TRUE(fails_with(create(both), Code::kInvalidArgument, "either"));
  EXPECT_TRUE(fails_with(create({{"security", "on"}}), Code::kInvalidArgument, "security"));
  Settings missing = tls_settings(files);
  missing["tls_key"] = cluster_.path("none");
  EXPECT_TRUE(fails_with(create(missing), Code::kInvalidArgument, "tls_key: cannot read"));
}

// What stands where the name of a file should be is not said again: it would be in logs.
TEST_F(Security, ASecretInPlaceOfItsFileIsNotShown) {
  const std::string secret = *tool::make_secret();
  const Status psk = create(secret_settings(secret));
  EXPECT_TRUE(fails_with(psk, Code::kInvalidArgument, "tls_psk_file is the secret itself"));
  EXPECT_EQ(psk.message().find(secret.substr(0, 16)), std::string::npos);
  Settings config = tls_settings(cluster_.member("a"));
  config["tls_key"] = cluster_.authority().key();
  const Status key = create(config);
  EXPECT_TRUE(fails_with(key, Code::kInvalidArgument, "tls_key is the secret itself"));
  EXPECT_EQ(key.message().find(config["tls_key"].substr(40, 16)), std::string::npos);
}

TEST_F(Security, NicsDoNotGoAroundIt) {
  std::unique_ptr<Engine> engine = make_engine(tls_settings(cluster_.member("a")));
  for (const char* transport : {"rdma", "efa", "fabric:tcp"}) {
    EXPECT_TRUE(fails_with(engine->install_transport(transport), Code::kPermission,
                           "tls_allow_plaintext_fabrics"));
  }
  Settings allowed = tls_settings(cluster_.member("a"));
  allowed["tls_allow_plaintext_fabrics"] = "true";
  EXPECT_NE(make_engine(allowed)->install_transport("rdma").code(), Code::kPermission);
}

// What passes between the two, as somebody in between sees it; without TLS, all of it.
TEST_F(Security, NobodyInBetweenCanReadIt) {
  const std::string text = "the cache of keys and values ";
  for (const bool secure : {false, true}) {
    const Settings plain;
    std::unique_ptr<Engine> a = make_engine(secure ? tls_settings(cluster_.member("a")) : plain),
                            b = make_engine(secure ? tls_settings(cluster_.member("b")) : plain);
    std::string seen;
    std::optional<TamperingProxy> between;
    between.emplace(b->local_endpoint(),
                    [&seen](const std::string& bytes, bool) { seen += bytes; });
    Registered local(*a, kSize), remote(*b, kSize);
    const Result<SegmentId> id = a->open_segment(between->endpoint());
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    std::memcpy(local.data() + 100, text.data(), text.size());
    ASSERT_TRUE(failure_of(*a, {Opcode::kWrite, local.data() + 100, *id, 0, text.size()}).ok());
    EXPECT_EQ(std::memcmp(remote.data(), text.data(), text.size()), 0);
    EXPECT_TRUE(a->notify(*id, {"a name", "a message"}).ok());
    ASSERT_TRUE(eventually([&] { return b->take_notifications().size() == 1; }));
    between.reset();
    for (const std::string& readable : {text, std::string("a message")}) {
      EXPECT_EQ(seen.find(readable) == std::string::npos, secure) << readable;
    }
    EXPECT_GT(seen.size(), 500u);
  }
}

// A bit of each piece is another one: nothing but what was there before or what was sent is ever in
// the target's memory, and the request fails or is made good over another connection.
TEST_F(Security, ChangedBitsDeliverNoWrongByte) {
  std::unique_ptr<Engine> b = make_engine(tls_settings(cluster_.member("b")));
  Registered remote(*b, kSize);
  for (const bool always : {false, true}) {
    std::atomic<size_t> left{0}, at{0};
    TamperingProxy between(b->local_endpoint(), [&](std::string& bytes, bool) {
      if (left == 0 || bytes.size() < 1'000) return;
      if (!always) --left;
      const size_t place = at += 977;
      bytes[place % bytes.size()] ^= static_cast<char>(1 << place % 8);
    });
    std::unique_ptr<Engine> a = make_engine(tls_settings(cluster_.member("a")));
    Registered local(*a, kSize);
    const Result<SegmentId> id = a->open_segment(between.endpoint());
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    for (uint64_t round = 0; round < (always ? 1 : 10); ++round) {
      std::memset(remote.data(), 0, kSize);
      std::memset(local.data(), 'x', kSize);
      left = 1;
      const Status why = failure_of(*a, {Opcode::kWrite, local.data(), *id, 0, kSize});
      EXPECT_EQ(why.ok(), !always) << why.to_string();
      const auto count = [&](int byte) {
        return static_cast<uint64_t>(
            std::count(remote.data(), remote.data() + kSize, static_cast<std::byte>(byte)));
      };
      EXPECT_EQ(count(0) + count('x'), kSize);
      if (why.ok()) {
        EXPECT_EQ(count('x'), kSize);
      }
      std::memset(remote.data(), 'y', kSize);
      left = 1;
      const Status read = failure_of(*a, {Opcode::kRead, local.data(), *id, 0, kSize});
      EXPECT_EQ(read.ok(), !always) << read.to_string();
      const auto wrong = std::count_if(local.data(), local.data() + kSize, [](std::byte each) {
        return each != std::byte{'x'} && each != std::byte{'y'};
      });
      EXPECT_EQ(wrong, 0);
    }
    EXPECT_GT(at.load(), 0u);
  }
}

// What was recorded is sent once more: it is refused, and the connection ends.
TEST_F(Security, ARecordingThatIsPlayedAgainChangesNothing) {
  std::unique_ptr<Engine> a = make_engine(tls_settings(cluster_.member("a"))),
                          b = make_engine(tls_settings(cluster_.member("b")));
  Registered local(*a, kSize), remote(*b, kSize);
  std::atomic<bool> again{false};
  std::atomic<size_t> played{0};
  TamperingProxy between(b->local_endpoint(), [&](std::string& bytes, bool forth) {
    if (!again || !forth || bytes.size() < 1'000) return;
    again = false;
    ++played;
    bytes += bytes;
  });
  const Result<SegmentId> id = a->open_segment(between.endpoint());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  for (uint64_t round = 0; round < 10; ++round) {
    stamp(local.data(), kSize, round);
    again = true;
    const Status why = failure_of(*a, {Opcode::kWrite, local.data(), *id, 0, kSize});
    ASSERT_TRUE(why.ok()) << why.to_string();
    ASSERT_EQ(difference(remote.data(), kSize, round), kSame);
  }
  EXPECT_EQ(played.load(), 10u);
  EXPECT_GT(between.connections(), 2u) << "the connection ended each time";
}

// Certificates of both are exchanged all the time, and no task fails. For as many seconds as
// TE_TEST_EXCHANGE_S says: then each second.
TEST_F(Security, CertificatesAreExchangedUnderLoad) {
  const tls::Files a_files = cluster_.member("a"), b_files = cluster_.member("b");
  std::unique_ptr<Engine> a = make_engine(tls_settings(a_files)),
                          b = make_engine(tls_settings(b_files));
  Registered local(*a, kSize), remote(*b, kSize);
  const std::string segment = b->local_endpoint();
  const char* const asked = std::getenv("TE_TEST_EXCHANGE_S");
  const milliseconds pause(asked == nullptr ? 50 : 1'000);
  const std::chrono::seconds duration(asked == nullptr ? 3 : std::atoi(asked));
  const std::jthread exchanging([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      (void)cluster_.member("a");
      (void)cluster_.member("b");
      std::this_thread::sleep_for(pause);
    }
  });
  const auto until = std::chrono::steady_clock::now() + duration;
  for (uint64_t round = 0; std::chrono::steady_clock::now() < until; ++round) {
    // Every connection is made anew now and then.
    const Result<SegmentId> id = a->open_segment(segment);
    ASSERT_TRUE(id.ok()) << id.status().to_string();
    for (uint64_t i = 0; i < 20; ++i) {
      stamp(local.data(), kSize, round * 20 + i);
      ASSERT_EQ(transfer(*a, {{Opcode::kWrite, local.data(), *id, 0, kSize}}).state,
                TaskState::kCompleted);
      ASSERT_EQ(difference(remote.data(), kSize, round * 20 + i), kSame);
    }
    ASSERT_TRUE(a->close_segment(*id).ok());
  }
}

TEST_F(Security, WhoIsRevokedIsDisconnected) {
  const tls::Files a_files = cluster_.member("a");
  tls::Files b_files = cluster_.member("b");
  b_files.revoked = cluster_.write("list.pem", *cluster_.authority().revoke({}));
  Settings b_settings = tls_settings(b_files);
  b_settings["tls_recheck_s"] = "1";
  std::unique_ptr<Engine> a = make_engine(tls_settings(a_files)), b = make_engine(b_settings);
  Registered local(*a, kSize), remote(*b, kSize);
  const Result<SegmentId> id = a->open_segment(b->local_endpoint());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  const std::vector<TransferRequest> requests = {
      {Opcode::kWrite, local.data(), *id, 0, kSize / 2},
      {Opcode::kRead, local.data() + kSize / 2, *id, kSize / 2, kSize / 2}};
  ASSERT_EQ(transfer(*a, requests).state, TaskState::kCompleted);
  std::ifstream file(a_files.certificate);
  const std::string certificate((std::istreambuf_iterator<char>(file)), {});
  cluster_.write("list.pem", *cluster_.authority().revoke({certificate}));
  // The first ones that fail say why, long before their deadline.
  Status why;
  Stopwatch watch;
  for (int i = 0; i < 100 && why.ok(); ++i) {
    std::this_thread::sleep_for(milliseconds(100));
    const Result<BatchId> batch = a->allocate_batch(requests.size());
    ASSERT_TRUE(batch.ok());
    watch = Stopwatch();
    ASSERT_TRUE(a->submit(*batch, requests, within(20'000)).ok());
    ASSERT_TRUE(a->wait(*batch, std::chrono::seconds(30)).ok());
    for (size_t task = 0; task < requests.size(); ++task) {
      why = a->task_error(*batch, task)->status;
      EXPECT_TRUE(why.ok() || fails_with(why, Code::kPermission, "revoked"));
    }
    EXPECT_TRUE(a->free_batch(*batch).ok());
  }
  EXPECT_FALSE(why.ok());
  EXPECT_LT(watch.ms(), 2'000);
}

}  // namespace
}  // namespace te::test
