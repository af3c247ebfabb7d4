// Directories over TLS, with passwords and tokens: who is refused, how it is said, and that no
// secret is shown. That they work is in conformance_test.cpp.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "backends.h"
#include "base/log.h"
#include "metadata_server.h"
#include "transfer_engine/engine.h"

namespace te::test {
namespace {

constexpr const char* kWrongSecret = "not-the-secret-of-the-tests";

struct SecureCase {
  const char* name;
  std::unique_ptr<Backend> (*make)(const Identity&);
  std::unique_ptr<Backend> (*make_plain)();
};

std::ostream& operator<<(std::ostream& out, const SecureCase& secure) { return out << secure.name; }

class Secured : public testing::TestWithParam<SecureCase> {
 protected:
  // Starts the server, and fills options_ with what it accepts.
  void start(const Identity& identity = {}) {
    identity_ = identity;
    backend_ = GetParam().make(identity);
    if (!backend_->missing().empty()) GTEST_SKIP() << backend_->missing() << " is not installed";
    const Status status = backend_->start();
    ASSERT_TRUE(status.ok()) << status.to_string();
    backend_->secure(options_);
  }

  Status open(const std::string& url) {
    const Result<std::unique_ptr<Directory>> directory = open_directory(url, options_);
    const std::string text = directory.status().to_string();
    EXPECT_EQ(text.find(kBackendSecret), std::string::npos) << text;
    EXPECT_EQ(text.find(kWrongSecret), std::string::npos) << text;
    return directory.status();
  }
  Status open() { return open(backend_->url()); }

  void expect_refused(Code code, const std::string& says) {
    const Status status = open();
    EXPECT_EQ(status.code(), code) << status.to_string();
    expect_says(status, says);
  }

  // With TLS 1.3 the server's reason may be lost with the connection.
  void expect_certificate_refused() {
    const Status status = open();
    EXPECT_TRUE(status.code() == Code::kPermission || status.code() == Code::kUnavailable)
        << status.to_string();
    expect_says(status, "certificate");
    expect_says(status, "directory_tls_cert");
  }

  void expect_says(const Status& status, const std::string& says) {
    EXPECT_NE(status.message().find(says), std::string::npos)
        << "no '" << says << "' in: " << status.to_string();
    EXPECT_NE(status.message().find(backend_->endpoint()), std::string::npos) << status.to_string();
  }

  Identity identity_;
  std::unique_ptr<Backend> backend_;
  DirectoryOptions options_;
};

#define TE_START_SECURED(...)                  \
  ASSERT_NO_FATAL_FAILURE(start(__VA_ARGS__)); \
  if (IsSkipped()) return

std::string plain_url(const std::string& url) {
  const size_t end = url.find("://");
  return url.substr(0, end - 1) + url.substr(end);
}

TEST_P(Secured, AServerOfAnotherAuthority) {
  TE_START_SECURED();
  Authority other;
  options_.tls.directory_tls_ca = other.ca();
  expect_refused(Code::kPermission, "its certificate is not trusted");
  options_.tls.directory_tls_ca.clear();  // the system's
  expect_refused(Code::kPermission, "its certificate is not trusted");
}

TEST_P(Secured, AServerWhoseCertificateExpired) {
  TE_START_SECURED(Identity("IP:127.0.0.1", -60));
  expect_refused(Code::kPermission, "expired");
}

TEST_P(Secured, AServerOfAnotherName) {
  TE_START_SECURED(Identity("DNS:elsewhere.example,IP:127.0.0.2"));
  expect_refused(Code::kPermission, "its certificate is not trusted");
}

TEST_P(Secured, AnEngineWithoutACertificate) {
  TE_START_SECURED();
  options_.tls.directory_tls_cert.clear();
  options_.tls.directory_tls_key.clear();
  expect_certificate_refused();
}

TEST_P(Secured, AnEngineWithACertificateThatTheServerDoesNotTrust) {
  TE_START_SECURED();
  Authority other;
  const Authority::Issued foreign = other.issue();
  const Authority::Issued expired = identity_.authority->issue("IP:127.0.0.1", -60);
  for (const Authority::Issued& wrong : {foreign, expired}) {
    options_.tls.directory_tls_cert = wrong.cert;
    options_.tls.directory_tls_key = wrong.key;
    expect_certificate_refused();
  }
}

TEST_P(Secured, FilesThatCannotBeUsed) {
  TE_START_SECURED();
  const DirectoryTls good = options_.tls;
  const std::string text = identity_.authority->write("text", "no certificate\n");
  for (const std::string& bad : {std::string("/nonexistent.pem"), text}) {
    options_.tls = good;
    options_.tls.directory_tls_ca = bad;
    expect_refused(Code::kInvalidArgument, "directory_tls_ca");
    options_.tls = good;
    options_.tls.directory_tls_cert = bad;
    expect_refused(Code::kInvalidArgument, "directory_tls_cert");
    options_.tls = good;
    options_.tls.directory_tls_key = bad;
    expect_refused(Code::kInvalidArgument, "directory_tls_key");
  }
}

TEST_P(Secured, PlaintextToATlsPort) {
  TE_START_SECURED();
  options_.tls = {};
  const Status status = open(plain_url(backend_->url()));
  EXPECT_EQ(status.code(), Code::kProtocol) << status.to_string();
  EXPECT_NE(status.message().find("s://"), std::string::npos) << status.to_string();
}

TEST_P(Secured, TlsToAPlaintextPort) {
  const auto plain = GetParam().make_plain();
  if (!plain->missing().empty()) GTEST_SKIP() << plain->missing() << " is not installed";
  ASSERT_TRUE(plain->start().ok());
  std::string url = plain->url();
  url.insert(url.find("://"), "s");
  options_.timeout = std::chrono::milliseconds(1000);
  const Status status = open(url);
  // redis says nothing until the end of a line, so there it may be the timeout.
  EXPECT_TRUE(status.code() == Code::kProtocol || status.code() == Code::kUnavailable)
      << status.to_string();
  EXPECT_NE(status.message().find("speak TLS"), std::string::npos) << status.to_string();
}

INSTANTIATE_TEST_SUITE_P(
    Directory, Secured,
    testing::Values(SecureCase{"http", make_http_tls_backend, make_http_backend},
                    SecureCase{"redis", make_redis_tls_backend,
                               [] { return make_redis_backend(); }},
                    SecureCase{"etcd", make_etcd_tls_backend, make_etcd_backend}),
    [](const testing::TestParamInfo<SecureCase>& secure) { return secure.param.name; });

// Those that know who may use them.
class Guarded : public Secured {};

TEST_P(Guarded, AWrongSecretIsRefusedAndNotShown) {
  LogCapture log(LogLevel::kDebug);
  TE_START_SECURED();
  DirectoryLogin& login = options_.login;
  (login.directory_token_file.empty() ? login.directory_password_file : login.directory_token_file)
      .clear();
  (backend_->url().starts_with("https") ? login.directory_token : login.directory_password) =
      Secret(kWrongSecret);
  expect_refused(Code::kPermission, backend_->endpoint());
  EXPECT_EQ(log.all().find(kWrongSecret), std::string::npos) << log.all();
}

TEST_P(Guarded, NoSecretIsRefusedWithWhatToSet) {
  TE_START_SECURED();
  options_.login = {};
  expect_refused(Code::kPermission, "_file");
}

TEST_P(Guarded, ASecretFromTheEnvironmentIsShownNowhere) {
  LogCapture log(LogLevel::kDebug);
  TE_START_SECURED();
  const std::string secret_setting =
      backend_->url().starts_with("https") ? "directory_token" : "directory_password";
  EngineOptions options;
  options.metadata = backend_->url();
  options.name = "seg";
  options.config = {{"directory_tls_ca", options_.tls.directory_tls_ca},
                    {"directory_tls_cert", options_.tls.directory_tls_cert},
                    {"directory_tls_key", options_.tls.directory_tls_key},
                    {"directory_user", options_.login.directory_user},
                    {"directory_lease_s", "1"},
                    {secret_setting, kBackendSecret}};
  const Result<std::unique_ptr<Engine>> engine = Engine::create(options);
  ASSERT_TRUE(engine.ok()) << engine.status().to_string();
  const std::string shown = (*engine)->effective_config();
  EXPECT_EQ(shown.find(kBackendSecret), std::string::npos);
  EXPECT_NE(shown.find("\"***\""), std::string::npos);
  EXPECT_TRUE((*engine)->open_segment("seg").ok());
  backend_->stop();
  EXPECT_TRUE(eventually([&] { return log.count(LogLevel::kWarning, "keep segment") > 0; }));
  EXPECT_EQ(log.all().find(kBackendSecret), std::string::npos) << log.all();
}

TEST_P(Guarded, AServerThatForgotTheLoginGetsItAgain) {
  TE_START_SECURED();
  const auto directory = open_directory(backend_->url(), options_);
  ASSERT_TRUE(directory.ok()) << directory.status().to_string();
  EXPECT_EQ((*directory)->resolve("seg").code(), Code::kNotFound);
  const Status restarted = backend_->restart();
  ASSERT_TRUE(restarted.ok()) << restarted.to_string();
  EXPECT_TRUE(eventually([&] { return (*directory)->resolve("seg").code() == Code::kNotFound; }));
  EXPECT_TRUE((*directory)->publish("seg", {"h", 1, 1}, nullptr).ok());
}

INSTANTIATE_TEST_SUITE_P(Directory, Guarded,
                         testing::Values(SecureCase{"http", make_http_tls_backend, nullptr},
                                         SecureCase{"redis", make_redis_tls_backend, nullptr},
                                         SecureCase{"etcd", make_etcd_user_backend, nullptr}),
                         [](const testing::TestParamInfo<SecureCase>& secure) {
                           return secure.param.name;
                         });

TEST(DirectorySettings, WhatDoesNotFitTogetherIsRefused) {
  const Secret secret("x");
  const std::tuple<const char*, DirectoryTls, DirectoryLogin, const char*> cases[] = {
      {"redis://h:1", {"ca", "", ""}, {}, "'rediss://'"},
      {"h:1", {"", "cert", ""}, {}, "'etcds://'"},
      {"https://h:1", {"", "", "key"}, {}, "without directory_tls_cert"},
      {"rediss://h:1", {}, {"", secret, "file", {}, ""}, "both set"},
      {"https://h:1", {}, {"", {}, "", secret, "file"}, "both set"},
      {"https://h:1", {}, {"user", secret, "", secret, ""}, "both set"},
      {"etcds://h:1", {}, {"user", {}, "", {}, ""}, "directory_user is set without"},
      {"etcds://h:1", {}, {"", secret, "", {}, ""}, "without directory_user"},
      {"etcds://h:1", {}, {"", {}, "", secret, ""}, "directory_user and directory_password_file"},
      {"rediss://h:1", {}, {"", {}, "", {}, "file"}, "for HTTP"},
  };
  for (const auto& [url, tls, login, says] : cases) {
    DirectoryOptions options;
    options.tls = tls;
    options.login = login;
    const Status status = open_directory(url, options).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << url << ": " << status.to_string();
    EXPECT_NE(status.message().find(says), std::string::npos) << url << ": " << status.to_string();
  }
  DirectoryOptions options;
  options.tls.directory_tls_ca = "ca";
  EXPECT_TRUE(open_directory("P2PHANDSHAKE", options).ok()) << "there is no server";
}

TEST(DirectorySettings, ASecretIsReadAgainFromItsFile) {
  Authority authority;
  const std::string tokens = "the-first-of-the-tokens\n# and\nthe-second-of-the-tokens\n";
  tool::MetadataServerOptions server_options;
  server_options.host = "127.0.0.1";
  server_options.port = 0;
  server_options.token_file = authority.write("tokens", tokens);
  tool::MetadataServer server(server_options);
  const Result<uint16_t> port = server.start();
  ASSERT_TRUE(port.ok()) << port.status().to_string();
  DirectoryOptions options;
  options.login.directory_token_file = authority.write("own", "the-first-of-the-tokens\r\n");
  const auto directory =
      open_directory(fmt::format("http://127.0.0.1:{}/metadata", *port), options);
  ASSERT_TRUE(directory.ok()) << directory.status().to_string();
  EXPECT_TRUE((*directory)->publish("a", {"h", 1, 1}, nullptr).ok());
  authority.write("own", kWrongSecret);
  EXPECT_EQ((*directory)->publish("b", {"h", 1, 1}, nullptr).code(), Code::kPermission);
  authority.write("own", "the-second-of-the-tokens\n");
  EXPECT_TRUE((*directory)->publish("b", {"h", 1, 1}, nullptr).ok());
  authority.write("own", "");
  EXPECT_EQ((*directory)->publish("c", {"h", 1, 1}, nullptr).code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace te::test
