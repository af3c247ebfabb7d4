#include "tls/credentials.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "tls/handshake.h"
#include "tls/openssl.h"

namespace te::tls {
namespace {

constexpr int64_t kLookAgainNs = 200 * kNsPerMs;
constexpr int64_t kLogAgainNs = 60'000 * kNsPerMs;
constexpr size_t kMostLogged = 1024;    // peers whose last line is remembered
constexpr size_t kSmallestSecret = 32;  // bytes
constexpr size_t kLargestFile = 1 << 20;
constexpr size_t kLargestSecret = 48;  // what OpenSSL takes as the key of a session

// The least time of a few, for what a lane sends at once.
int64_t time_of(const char* name) {
  constexpr int kBytes = 128 << 10;
  const std::unique_ptr<EVP_CIPHER, decltype(&EVP_CIPHER_free)> cipher(
      EVP_CIPHER_fetch(nullptr, name, nullptr), EVP_CIPHER_free);
  const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(
      EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  const std::vector<unsigned char> key(32), nonce(12);
  std::vector<unsigned char> bytes(kBytes);
  if (!cipher || !context ||
      EVP_EncryptInit_ex2(context.get(), cipher.get(), key.data(), nonce.data(), nullptr) != 1) {
    return kNever;
  }
  int64_t least = kNever;
  for (int i = 0; i < 4; ++i) {
    int done = 0;
    const int64_t begin = now_ns();
    EVP_EncryptUpdate(context.get(), bytes.data(), &done, bytes.data(), kBytes);
    least = std::min(least, now_ns() - begin);
  }
  return least;
}

// The fastest on this processor first. The first two have the hash that a shared secret takes.
const char* suites() {
  static const bool aes = time_of("AES-128-GCM") <= time_of("ChaCha20-Poly1305");
  return aes ? "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"
             : "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
}

// A question for a password would hang.
int no_password(char*, int, int, void*) { return 0; }

// Neither a folder, which reads as if it were empty, nor a pipe, which would keep a thread waiting.
Status check_readable(const char* setting, const std::string& file) {
  struct stat found {};
  if (::stat(file.c_str(), &found) != 0 || ::access(file.c_str(), R_OK) != 0) {
    return error(Code::kInvalidArgument, "{}: cannot read '{}': {}", setting, file,
                 errno_text(errno));
  }
  if (S_ISREG(found.st_mode)) return {};
  return error(Code::kInvalidArgument, "{}: '{}' is no regular file", setting, file);
}

Status check_readable(const Files& files) {
  for (const auto& [setting, file] :
       {std::pair<const char*, const std::string&>{"tls_cert", files.certificate},
        {"tls_key", files.key},
        {"tls_ca", files.authority},
        {"tls_crl", files.revoked},
        {"tls_psk_file", files.secret},
        {"tls_policy", files.policy}}) {
    if (!file.empty()) TE_RETURN_IF_ERROR(check_readable(setting, file));
  }
  return {};
}

Status wrong_file(const char* setting, const std::string& file) {
  return error(Code::kInvalidArgument, "{}: '{}': {}", setting, file, openssl_error());
}

void warn_if_shared(const char* setting, const std::string& file) {
  struct stat found {};
  if (::stat(file.c_str(), &found) == 0 && (found.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    log_warning("{}: '{}' can be read by other users of this machine: chmod 600", setting, file);
  }
}

void warn_if_not_valid(const std::string& file, const X509* certificate) {
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
    log_warning("tls_cert: '{}' has expired: peers refuse it", file);
  } else if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0) {
    log_warning("tls_cert: '{}' is not valid yet: peers refuse it until then", file);
  }
}

std::vector<std::string> split_at_commas(std::string_view text) {
  std::vector<std::string> result;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    std::string_view part = text.substr(0, comma);
    while (!part.empty() && part.front() == ' ') part.remove_prefix(1);
    while (!part.empty() && part.back() == ' ') part.remove_suffix(1);
    if (!part.empty()) result.emplace_back(part);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return result;
}

int hex_digit(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  const char lower = static_cast<char>(digit | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Of hexadecimal digits; empty where they are none.
Secret decoded(std::string_view line) {
  if (line.size() % 2 != 0) return {};
  Secret bytes(line.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int high = hex_digit(line[2 * i]), low = hex_digit(line[2 * i + 1]);
    if (high < 0 || low < 0) return {};
    bytes.data()[i] = static_cast<std::byte>(high << 4 | low);
  }
  return bytes;
}

std::string stamp_of(const std::string& file) {
  struct stat found {};
  if (file.empty()) return {};
  if (::stat(file.c_str(), &found) != 0) return "?;";
  return fmt::format("{}.{}.{}.{};", found.st_ino, found.st_size, found.st_mtim.tv_sec,
                     found.st_mtim.tv_nsec);
}

std::string text_of(const ASN1_STRING* text) {
  const auto* bytes = reinterpret_cast<const char*>(ASN1_STRING_get0_data(text));
  std::string result(bytes, static_cast<size_t>(ASN1_STRING_length(text)));
  // One with control characters is none: it would look like something else in a log.
  const bool plain = std::none_of(result.begin(), result.end(), [](char each) {
    return static_cast<unsigned char>(each) < ' ' || each == '\x7f';
  });
  return plain ? result : std::string();
}

std::string address_text(const ASN1_OCTET_STRING* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int length = ASN1_STRING_length(address);
  const int family = length == 4 ? AF_INET : AF_INET6;
  if (length != 4 && length != 16) return {};
  return ::inet_ntop(family, ASN1_STRING_get0_data(address), text.data(), text.size());
}

}  // namespace

std::string openssl_error() {
  std::string text;
  while (const unsigned long code = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(code);
    if (reason != nullptr && text.empty()) text = reason;  // the first one is the cause
  }
  return text.empty() ? "OpenSSL does not say why" : text;
}

std::vector<std::string> names_of(X509* certificate) {
  std::vector<std::string> result;
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    std::string text;
    if (name->type == GEN_DNS) text = text_of(name->d.dNSName);
    if (name->type == GEN_URI) text = text_of(name->d.uniformResourceIdentifier);
    if (name->type == GEN_IPADD) text = address_text(name->d.iPAddress);
    if (!text.empty()) result.push_back(std::move(text));
  }
  GENERAL_NAMES_free(names);
  return result;
}

bool matches(std::string_view pattern, std::string_view name) {
  const bool dots_part = name.find("://") == std::string_view::npos;
  size_t at = 0, in = 0, star = std::string_view::npos, resume = 0;
  while (in < name.size()) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      resume = in;
    } else if (at < pattern.size() && pattern[at] == name[in]) {
      ++at;
      ++in;
    } else if (star != std::string_view::npos && name[resume] != '/' &&
               !(dots_part && name[resume] == '.')) {
      at = star + 1;
      in = ++resume;
    } else {
      return false;
    }
  }
  while (at < pattern.size() && pattern[at] == '*') ++at;
  return at == pattern.size();
}

void Credentials::Free::operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
Credentials::~Credentials() = default;

Result<std::shared_ptr<const Credentials>> Credentials::load(const Files& files) {
  // Without its exit handlers: threads of the engine may still work when they run.
  OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, nullptr);
  ERR_clear_error();
  std::shared_ptr<Credentials> made(new Credentials());
  made->context_.reset(SSL_CTX_new(TLS_method()));
  SSL_CTX* const context = made->context_.get();
  if (context == nullptr) return Status(Code::kResource, "TLS: " + openssl_error());
  SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION);
  SSL_CTX_set_ciphersuites(context, suites());
  // Nothing is resumed: each connection shows both identities anew, and no data comes early.
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
  SSL_CTX_set_options(context,
                      SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_default_passwd_cb(context, no_password);
  SSL_CTX_set_session_id_context(context, kSecretUse, sizeof kSecretUse);
  Handshake::prepare(context);
  TE_RETURN_IF_ERROR(check_readable(files));
  made->allowed_ = split_at_commas(files.allowed);
  // Nobody means that: perhaps the variables in between were empty.
  if (!files.allowed.empty() && made->allowed_.empty()) {
    return error(Code::kInvalidArgument, "tls_allow: there is no name in '{}'", files.allowed);
  }
  if (!files.policy.empty()) {
    Result<Policy> policy = Policy::load(files.policy);
    if (!policy.ok()) return policy.status();
    made->policy_ = policy.take();
  }
  TE_RETURN_IF_ERROR(files.secret.empty() ? made->load_certificates(files)
                                          : made->load_secrets(files.secret));
  return std::shared_ptr<const Credentials>(std::move(made));
}

Status Credentials::load_certificates(const Files& files) {
  SSL_CTX* const context = context_.get();
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1) {
    return wrong_file("tls_cert", files.certificate);
  }
  warn_if_not_valid(files.certificate, SSL_CTX_get0_certificate(context));
  // Not by OpenSSL's own reading of files, which leaves the key in the buffers of the C library.
  const Result<Secret> text = read_secret_file("tls_key", files.key, kLargestFile);
  if (!text.ok()) return text.status();
  const std::unique_ptr<BIO, decltype(&BIO_free)> memory(
      BIO_new_mem_buf(text->data(), static_cast<int>(text->size())), BIO_free);
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      PEM_read_bio_PrivateKey(memory.get(), nullptr, no_password, nullptr), EVP_PKEY_free);
  if (!key || SSL_CTX_use_PrivateKey(context, key.get()) != 1) {
    return wrong_file("tls_key", files.key);
  }
  if (SSL_CTX_check_private_key(context) != 1) {
    return error(Code::kInvalidArgument, "tls_key: '{}' is not the key of tls_cert '{}'", files.key,
                 files.certificate);
  }
  warn_if_shared("tls_key", files.key);
  if (SSL_CTX_load_verify_locations(context, files.authority.c_str(), nullptr) != 1) {
    return wrong_file("tls_ca", files.authority);
  }
  if (!files.revoked.empty()) {
    X509_STORE* const store = SSL_CTX_get_cert_store(context);
    X509_LOOKUP* const lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());
    if (lookup == nullptr ||
        X509_load_crl_file(lookup, files.revoked.c_str(), X509_FILETYPE_PEM) <= 0) {
      return wrong_file("tls_crl", files.revoked);
    }
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
  }
  ERR_clear_error();
  return {};
}

Status Credentials::load_secrets(const std::string& file) {
  const Result<Secret> read = read_secret_file("tls_psk_file", file, kLargestFile);
  if (!read.ok()) return read.status();
  warn_if_shared("tls_psk_file", file);
  std::string_view rest = read->view();
  for (size_t number = 1; !rest.empty(); ++number) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    while (line.ends_with(' ') || line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line[0] == '#') continue;
    Secret bytes = decoded(line);
    if (bytes.size() < kSmallestSecret || bytes.size() > kLargestSecret) {
      return error(
          Code::kInvalidArgument,
          "tls_psk_file: line {} of '{}' is not a secret of {} to {} hexadecimal digits, as "
          "`te keys secret` makes them",
          number, file, 2 * kSmallestSecret, 2 * kLargestSecret);
    }
    secrets_.push_back({secret_id(bytes), std::move(bytes)});
  }
  if (secrets_.empty()) {
    return error(Code::kInvalidArgument, "tls_psk_file: there is no secret in '{}'", file);
  }
  return {};
}

bool Credentials::allows(const std::vector<std::string>& names) const {
  if (allowed_.empty()) return true;
  return std::any_of(names.begin(), names.end(), [this](const std::string& name) {
    return std::any_of(allowed_.begin(), allowed_.end(),
                       [&name](const std::string& pattern) { return matches(pattern, name); });
  });
}

Permissions Credentials::permissions(const PeerIdentity& peer) const {
  return policy_.of(peer.certificate ? peer.names : std::vector<std::string>{peer.name});
}

Status Credentials::check(const PeerIdentity& peer) const {
  if (!peer.certificate) {
    const bool known =
        std::any_of(secrets_.begin(), secrets_.end(),
                    [&peer](const SharedSecret& each) { return each.id == peer.name; });
    return known ? Status()
                 : Status(Code::kPermission, "its secret is not in tls_psk_file any more");
  }
  const std::unique_ptr<X509_STORE_CTX, decltype(&X509_STORE_CTX_free)> check(X509_STORE_CTX_new(),
                                                                              X509_STORE_CTX_free);
  const std::unique_ptr<STACK_OF(X509), void (*)(STACK_OF(X509)*)> chain(
      sk_X509_new_null(), [](STACK_OF(X509) * stack) { sk_X509_free(stack); });
  for (const std::shared_ptr<X509>& each : peer.chain) sk_X509_push(chain.get(), each.get());
  if (!check || X509_STORE_CTX_init(check.get(), SSL_CTX_get_cert_store(context_.get()),
                                    peer.certificate.get(), chain.get()) != 1) {
    return Status(Code::kResource, "TLS: " + openssl_error());
  }
  if (X509_verify_cert(check.get()) != 1) {
    return error(Code::kPermission, "the certificate of '{}': {}", peer.name,
                 X509_verify_cert_error_string(X509_STORE_CTX_get_error(check.get())));
  }
  if (!allows(peer.names)) {
    return error(Code::kPermission, "the name '{}' is not allowed by tls_allow", peer.name);
  }
  return {};
}

Result<std::shared_ptr<Identity>> Identity::load(const Files& files) {
  std::shared_ptr<Identity> identity(new Identity(files));
  MutexLock lock(identity->mutex_);
  identity->stamp_ = identity->stamp();
  Result<std::shared_ptr<const Credentials>> loaded = Credentials::load(files);
  // Perhaps they are being exchanged, one after the other, at this moment.
  for (int i = 0; i < 5 && !loaded.ok(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::string found = identity->stamp();
    if (found == identity->stamp_) continue;
    identity->stamp_ = std::move(found);
    loaded = Credentials::load(files);
  }
  if (!loaded.ok()) return loaded.status();
  identity->current_ = loaded.take();
  return identity;
}

std::string Identity::stamp() const {
  return stamp_of(files_.certificate) + stamp_of(files_.key) + stamp_of(files_.authority) +
         stamp_of(files_.revoked) + stamp_of(files_.secret) + stamp_of(files_.policy);
}

void Identity::count_refusal(const std::string& peer, Permission wanted) {
  refusals_.fetch_add(1, std::memory_order_relaxed);
  {
    MutexLock lock(mutex_);
    const int64_t now = now_at_tick_ns();
    std::erase_if(logged_ns_, [now](const auto& each) { return now - each.second >= kLogAgainNs; });
    if (logged_ns_.size() >= kMostLogged || !logged_ns_.try_emplace(peer, now).second) return;
  }
  log_warning("tls_policy: '{}' may not {} here", peer, permission_name(wanted));
}

std::shared_ptr<const Credentials> Identity::current() {
  MutexLock lock(mutex_);
  const int64_t now = now_at_tick_ns();
  if (now - looked_ns_ < kLookAgainNs) return current_;
  looked_ns_ = now;
  std::string found = stamp();
  if (found == stamp_) return current_;
  Result<std::shared_ptr<const Credentials>> loaded = Credentials::load(files_);
  if (loaded.ok()) {
    current_ = loaded.take();
    stamp_ = std::move(found);
    log_info("TLS: the files were exchanged, and new connections use them");
  } else {
    // A pair of files is exchanged one after the other: looked at again next time.
    static LogLimit limit;
    log_limited(limit, LogLevel::kWarning, "TLS: the old files stay in use: {}",
                loaded.status().message());
  }
  return current_;
}

}  // namespace te::tls
