#include "tls/handshake.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>

#include "base/log.h"
#include "tls/openssl.h"

namespace te::tls {
namespace {

constexpr char kHandshakeType = 22;  // of the first record, whichever side it comes from
constexpr char kAlertType = 21;

std::shared_ptr<X509> shared(X509* certificate) {
  return std::shared_ptr<X509>(certificate, [](X509* each) { X509_free(each); });
}

// The traffic secrets of a line of NSS's key log, or nothing.
Secret secret_of(std::string_view line) {
  const size_t begin = line.rfind(' ');
  if (begin == std::string_view::npos) return {};
  const std::string_view hex = line.substr(begin + 1);
  Secret secret(hex.size() / 2);
  const auto digit = [](char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; };
  for (size_t i = 0; i < secret.size(); ++i) {
    secret.data()[i] = static_cast<std::byte>(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
  }
  return secret;
}

}  // namespace

std::string secret_id(const Secret& secret) {
  constexpr std::string_view kLabel = "transfer engine shared secret";
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
  unsigned int size = 0;
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  EVP_DigestUpdate(context.get(), kLabel.data(), kLabel.size());
  EVP_DigestUpdate(context.get(), secret.data(), secret.size());
  EVP_DigestFinal_ex(context.get(), hash.data(), &size);
  std::string id;
  for (size_t i = 0; i < 8; ++i) id += fmt::format("{:02x}", hash[i]);
  return id;
}

// What OpenSSL calls with the handshake that it works for.
struct Handshake::Callbacks {
  static Handshake& of(const SSL* ssl) {
    return *static_cast<Handshake*>(SSL_get_ex_data(ssl, index()));
  }

  static void log_secret(const SSL* ssl, const char* line) {
    Handshake& handshake = of(ssl);
    const std::string_view text = line;
    if (text.starts_with("CLIENT_TRAFFIC_SECRET_0 ")) handshake.connecting_ = secret_of(text);
    if (text.starts_with("SERVER_TRAFFIC_SECRET_0 ")) handshake.accepting_ = secret_of(text);
  }

  static int verify(int good, X509_STORE_CTX* check) {
    if (good != 1 || X509_STORE_CTX_get_error_depth(check) != 0) return good;
    const auto* ssl = static_cast<const SSL*>(
        X509_STORE_CTX_get_ex_data(check, SSL_get_ex_data_X509_STORE_CTX_idx()));
    if (of(ssl).credentials_->allows(names_of(X509_STORE_CTX_get_current_cert(check)))) return 1;
    X509_STORE_CTX_set_error(check, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
  }

  static SSL_SESSION* session(SSL* ssl, const Credentials::SharedSecret& secret) {
    constexpr std::array<unsigned char, 2> kSuite = {0x13, 0x01};
    SSL_SESSION* const session = SSL_SESSION_new();
    const SSL_CIPHER* const cipher = SSL_CIPHER_find(ssl, kSuite.data());
    const auto* key = reinterpret_cast<const unsigned char*>(secret.bytes.data());
    if (session != nullptr && cipher != nullptr &&
        SSL_SESSION_set1_master_key(session, key, secret.bytes.size()) == 1 &&
        SSL_SESSION_set1_id_context(session, kSecretUse, sizeof kSecretUse) == 1 &&
        SSL_SESSION_set_cipher(session, cipher) == 1 &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) == 1) {
      return session;
    }
    SSL_SESSION_free(session);
    return nullptr;
  }
  static int use_secret(SSL* ssl, const EVP_MD* digest, const unsigned char** id, size_t* id_size,
                        SSL_SESSION** session_out) {
    Handshake& handshake = of(ssl);
    *session_out = nullptr;
    if (handshake.credentials_->secrets().empty()) return 1;
    if (digest != nullptr && EVP_MD_get_type(digest) != NID_sha256) return 1;
    const Credentials::SharedSecret& own = handshake.credentials_->secrets().front();
    *id = reinterpret_cast<const unsigned char*>(own.id.data());
    *id_size = own.id.size();
    *session_out = session(ssl, own);
    handshake.secret_id_ = own.id;
    return *session_out != nullptr ? 1 : 0;
  }
  static int find_secret(SSL* ssl, const unsigned char* id, size_t id_size,
                         SSL_SESSION** session_out) {
    Handshake& handshake = of(ssl);
    *session_out = nullptr;
    const std::string_view wanted(reinterpret_cast<const char*>(id), id_size);
    for (const Credentials::SharedSecret& each : handshake.credentials_->secrets()) {
      if (each.id != wanted) continue;
      *session_out = session(ssl, each);
      handshake.secret_id_ = each.id;
      return *session_out != nullptr ? 1 : 0;
    }
    return 1;  // goes on without, and fails for want of a certificate
  }
};

void Handshake::Free::operator()(SSL* ssl) const { SSL_free(ssl); }
Handshake::~Handshake() = default;

int Handshake::index() {
  static const int number = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return number;
}

void Handshake::prepare(SSL_CTX* context) {
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, Callbacks::verify);
  SSL_CTX_set_keylog_callback(context, Callbacks::log_secret);
  SSL_CTX_set_psk_use_session_callback(context, Callbacks::use_secret);
  SSL_CTX_set_psk_find_session_callback(context, Callbacks::find_secret);
}

Result<std::unique_ptr<Handshake>> Handshake::make(std::shared_ptr<const Credentials> credentials,
                                                   Role role) {
  ERR_clear_error();
  std::unique_ptr<Handshake> made(new Handshake(std::move(credentials), role));
  made->ssl_.reset(SSL_new(made->credentials_->context()));
  SSL* const ssl = made->ssl_.get();
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  if (ssl == nullptr || in == nullptr || out == nullptr ||
      SSL_set_ex_data(ssl, index(), made.get()) != 1) {
    BIO_free(in);
    BIO_free(out);
    return Status(Code::kResource, "TLS: " + openssl_error());
  }
  SSL_set_bio(ssl, in, out);
  if (role == Role::kConnects) {
    SSL_set_connect_state(ssl);
  } else {
    SSL_set_accept_state(ssl);
  }
  return made;
}

void Handshake::receive(std::string_view bytes) {
  received_ += bytes.size();
  if (first_.empty()) first_ = bytes.substr(0, 1);
  if (received_ <= kMaxBytes) {
    (void)BIO_write(SSL_get_rbio(ssl_.get()), bytes.data(), static_cast<int>(bytes.size()));
  }
}

bool Handshake::peer_is_plain() const {
  return !first_.empty() && first_[0] != kHandshakeType && first_[0] != kAlertType;
}

Handshake::Step Handshake::advance() {
  ERR_clear_error();
  if (peer_is_plain()) {
    why_ = Status(Code::kPermission,
                  "the peer does not speak TLS: this engine's setting security is tls, and the "
                  "peer's has to be tls too");
    return Step::kFailed;
  }
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    if (!connecting_.empty() && !accepting_.empty()) return Step::kDone;
    why_ = Status(Code::kInternal, "TLS: OpenSSL gave no secrets");
    return Step::kFailed;
  }
  if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ) {
    if (received_ <= kMaxBytes) return Step::kNeedsBytes;
    why_ = error(Code::kProtocol, "TLS: the peer's handshake has more than {} bytes", kMaxBytes);
    return Step::kFailed;
  }
  why_ = failure();
  return Step::kFailed;
}

Status Handshake::failure() const {
  const long verified = SSL_get_verify_result(ssl_.get());
  if (verified == X509_V_ERR_APPLICATION_VERIFICATION) {
    ERR_clear_error();
    return Status(Code::kPermission, "TLS: the peer's name is not allowed by tls_allow");
  }
  if (verified != X509_V_OK) {
    ERR_clear_error();
    return error(Code::kPermission, "TLS: the peer's certificate is refused: {} (tls_ca, tls_crl)",
                 X509_verify_cert_error_string(verified));
  }
  return error(Code::kPermission,
               "TLS: no handshake with the peer: {}: do both have certificates of an authority in "
               "the other's tls_ca, or a secret of the other's tls_psk_file, and names that its "
               "tls_allow lets in?",
               openssl_error());
}

Bytes Handshake::take_unsent() {
  BIO* const out = SSL_get_wbio(ssl_.get());
  Bytes bytes(BIO_ctrl_pending(out), '\0');
  if (!bytes.empty()) (void)BIO_read(out, bytes.data(), static_cast<int>(bytes.size()));
  return bytes;
}

Bytes Handshake::rest() {
  BIO* const in = SSL_get_rbio(ssl_.get());
  Bytes bytes(BIO_ctrl_pending(in), '\0');
  if (!bytes.empty()) (void)BIO_read(in, bytes.data(), static_cast<int>(bytes.size()));
  return bytes;
}

namespace {

Result<RecordKeys> keys(const SSL* ssl, Secret secret, bool encrypts) {
  const SSL_CIPHER* const cipher = SSL_get_current_cipher(ssl);
  const auto suite = static_cast<Suite>(SSL_CIPHER_get_protocol_id(cipher));
  return RecordKeys::make(suite, std::move(secret), encrypts);
}

}  // namespace

Result<RecordSealer> Handshake::sealer() {
  Secret& own = role_ == Role::kConnects ? connecting_ : accepting_;
  Result<RecordKeys> made = keys(ssl_.get(), std::move(own), true);
  if (!made.ok()) return made.status();
  return RecordSealer(made.take());
}

Result<RecordOpener> Handshake::opener() {
  Secret& other = role_ == Role::kConnects ? accepting_ : connecting_;
  Result<RecordKeys> made = keys(ssl_.get(), std::move(other), false);
  if (!made.ok()) return made.status();
  return RecordOpener(made.take());
}

PeerIdentity Handshake::peer() const {
  PeerIdentity peer;
  X509* const certificate = SSL_get1_peer_certificate(ssl_.get());
  if (certificate == nullptr) {
    peer.name = secret_id_;
    return peer;
  }
  peer.certificate = shared(certificate);
  peer.names = names_of(certificate);
  const STACK_OF(X509)* const chain = SSL_get_peer_cert_chain(ssl_.get());
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    X509* const each = sk_X509_value(chain, i);
    X509_up_ref(each);
    peer.chain.push_back(shared(each));
  }
  if (!peer.names.empty()) {
    peer.name = peer.names.front();
  } else {
    const std::unique_ptr<char, void (*)(char*)> text(
        X509_NAME_oneline(X509_get_subject_name(certificate), nullptr, 0),
        [](char* each) { OPENSSL_free(each); });
    peer.name = text ? text.get() : "";
  }
  return peer;
}

}  // namespace te::tls
