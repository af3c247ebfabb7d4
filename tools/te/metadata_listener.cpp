#include "metadata_listener.h"

#include <fmt/core.h>
#include <httplib.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <array>

namespace te::tool {
namespace {

Status unusable(const char* option, const std::string& path) {
  std::array<char, 256> reason{};
  ERR_error_string_n(ERR_peek_last_error(), reason.data(), reason.size());
  ERR_clear_error();
  return Status(Code::kInvalidArgument,
                fmt::format("{} '{}' cannot be used: {}", option, path, reason.data()));
}

// Instead of asking for the phrase on the terminal.
int no_pass_phrase(char*, int, int, void*) { return 0; }

// The result stays with the session: see certificate_problem().
int remember_and_go_on(int, X509_STORE_CTX*) { return 1; }

Status set_up(SSL_CTX& context, const ServerTlsFiles& files) {
  ERR_clear_error();
  SSL_CTX_set_min_proto_version(&context, TLS1_2_VERSION);
  SSL_CTX_set_options(&context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_default_passwd_cb(&context, no_pass_phrase);
  if (SSL_CTX_use_certificate_chain_file(&context, files.tls_cert.c_str()) != 1) {
    return unusable("--tls-cert", files.tls_cert);
  }
  const std::string& key = files.tls_key.empty() ? files.tls_cert : files.tls_key;
  if (SSL_CTX_use_PrivateKey_file(&context, key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_check_private_key(&context) != 1) {
    return unusable("--tls-key", key);
  }
  if (files.tls_ca.empty()) return {};
  STACK_OF(X509_NAME)* const names = SSL_load_client_CA_file(files.tls_ca.c_str());
  if (names == nullptr || SSL_CTX_load_verify_file(&context, files.tls_ca.c_str()) != 1) {
    return unusable("--tls-ca", files.tls_ca);
  }
  SSL_CTX_set_client_CA_list(&context, names);
  SSL_CTX_set_verify(&context, SSL_VERIFY_PEER, remember_and_go_on);
  // Without one no session of a client with a certificate could be resumed.
  constexpr unsigned char kSessions[] = "te metadata-server";
  SSL_CTX_set_session_id_context(&context, kSessions, sizeof kSessions);
  return {};
}

}  // namespace

Result<std::unique_ptr<httplib::Server>> make_listener(const ServerTlsFiles& files) {
  if (files.tls_cert.empty()) {
    if (files.tls_key.empty() && files.tls_ca.empty()) return std::make_unique<httplib::Server>();
    return Status(Code::kInvalidArgument, "--tls-key and --tls-ca need --tls-cert");
  }
  Status status;
  auto server = std::make_unique<httplib::SSLServer>([&status, &files](SSL_CTX& context) {
    status = set_up(context, files);
    return status.ok();
  });
  if (!status.ok()) return status;
  if (!server->is_valid()) return Status(Code::kResource, "TLS cannot be initialised");
  return std::unique_ptr<httplib::Server>(std::move(server));
}

std::string certificate_problem(const ServerTlsFiles& files, const httplib::Request& request) {
  if (files.tls_ca.empty()) return {};
  if (request.ssl == nullptr || SSL_get0_peer_certificate(request.ssl) == nullptr) {
    return "none was shown";
  }
  const long result = SSL_get_verify_result(request.ssl);
  return result == X509_V_OK ? "" : X509_verify_cert_error_string(result);
}

}  // namespace te::tool
