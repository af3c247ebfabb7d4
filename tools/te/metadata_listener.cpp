#include "metadata_listener.h"

#include <fmt/core.h>
#include <httplib.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <sys/stat.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

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

// Differs when a file was exchanged.
std::string stamp_of(const ServerTlsFiles& files) {
  std::string stamp;
  for (const std::string* file : {&files.tls_cert, &files.tls_key, &files.tls_ca}) {
    struct stat found {};
    if (file->empty() || ::stat(file->c_str(), &found) != 0) continue;
    stamp += fmt::format("{}.{}.{}.{};", found.st_ino, found.st_size, found.st_mtim.tv_sec,
                         found.st_mtim.tv_nsec);
  }
  return stamp;
}

// What the files say now. Those of a server may be exchanged while it runs; wrong ones leave the
// old ones in use. Threads: any.
class CurrentFiles {
 public:
  explicit CurrentFiles(ServerTlsFiles files)
      : files_(std::move(files)), stamp_(stamp_of(files_)) {}

  // For each new connection, before anything is answered.
  static int at_hello(SSL* ssl, int*, void* self) {
    if (const auto context = static_cast<CurrentFiles*>(self)->exchanged()) {
      SSL_set_SSL_CTX(ssl, context.get());
    }
    return SSL_CLIENT_HELLO_SUCCESS;
  }

 private:
  // Null as long as they are those that the server began with.
  std::shared_ptr<SSL_CTX> exchanged() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto now = std::chrono::steady_clock::now();
    if (now - looked_ < kLookAgain) return context_;
    looked_ = now;
    std::string stamp = stamp_of(files_);
    if (stamp == stamp_) return context_;
    const std::shared_ptr<SSL_CTX> fresh(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
    const Status status = set_up(*fresh, files_);
    if (status.ok()) {
      context_ = fresh;
      stamp_ = std::move(stamp);
    } else {
      std::fprintf(stderr, "te metadata-server: the old files stay in use: %s\n",
                   std::string(status.message()).c_str());
    }
    return context_;
  }

  static constexpr std::chrono::milliseconds kLookAgain{200};

  const ServerTlsFiles files_;
  std::mutex mutex_;
  std::string stamp_;
  std::chrono::steady_clock::time_point looked_;
  std::shared_ptr<SSL_CTX> context_;
};

class TlsServer final : public httplib::SSLServer {
 public:
  TlsServer(std::shared_ptr<CurrentFiles> files,
            const std::function<bool(SSL_CTX& context)>& set_up_context)
      : SSLServer(set_up_context), files_(std::move(files)) {}

 private:
  const std::shared_ptr<CurrentFiles> files_;  // of the context's callback
};

}  // namespace

Result<std::unique_ptr<httplib::Server>> make_listener(const ServerTlsFiles& files) {
  if (files.tls_cert.empty()) {
    if (files.tls_key.empty() && files.tls_ca.empty()) return std::make_unique<httplib::Server>();
    return Status(Code::kInvalidArgument, "--tls-key and --tls-ca need --tls-cert");
  }
  Status status;
  const auto current = std::make_shared<CurrentFiles>(files);
  auto server = std::make_unique<TlsServer>(current, [&](SSL_CTX& context) {
    status = set_up(context, files);
    SSL_CTX_set_client_hello_cb(&context, CurrentFiles::at_hello, current.get());
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
