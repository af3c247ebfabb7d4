#include "certificates.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <functional>

#include <fmt/core.h>

namespace te::tool {
namespace {

Status failed(const char* what) {
  const char* reason = ERR_reason_error_string(ERR_get_error());
  return Status(Code::kInternal, fmt::format("cannot {}: {}", what, reason ? reason : "OpenSSL"));
}

std::string pem(const std::function<int(BIO*)>& write) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), BIO_free);
  if (!out || write(out.get()) != 1) return {};
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

std::string pem_of(X509* certificate) {
  return pem([certificate](BIO* out) { return PEM_write_bio_X509(out, certificate); });
}

std::string pem_of(EVP_PKEY* key) {
  return pem([key](BIO* out) {
    return PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
}

template <typename Made, typename Read>
std::shared_ptr<Made> read_pem(const std::string& text, Read read, void (*free)(Made*)) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> in(
      BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free);
  return std::shared_ptr<Made>(read(in.get(), nullptr, nullptr, nullptr), free);
}

std::shared_ptr<EVP_PKEY> make_key() { return {EVP_EC_gen("P-256"), EVP_PKEY_free}; }

bool add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  const bool added = extension != nullptr && X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return added;
}

std::string printable(std::string text) {
  for (char& each : text) {
    if (static_cast<unsigned char>(each) < ' ' || each == '\x7f') each = '?';
  }
  return text;
}

// Without extensions and signature.
std::shared_ptr<X509> blank(const std::string& name, EVP_PKEY* key, int64_t begins_s,
                            int64_t ends_s) {
  std::shared_ptr<X509> made(X509_new(), X509_free);
  const std::unique_ptr<BIGNUM, decltype(&BN_free)> number(BN_new(), BN_free);
  if (!made || !number || BN_rand(number.get(), 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) != 1) {
    return nullptr;
  }
  BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(made.get()));
  X509_set_version(made.get(), X509_VERSION_3);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), begins_s);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), ends_s);
  X509_set_pubkey(made.get(), key);
  if (name.empty()) return made;
  const auto* text = reinterpret_cast<const unsigned char*>(name.c_str());
  X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_UTF8, text, -1, -1,
                             0);
  return made;
}

}  // namespace

Result<Authority> Authority::make(const std::string& name, int64_t valid_s) {
  Authority made;
  made.key_ = make_key();
  if (!made.key_) return failed("make a key");
  made.certificate_ = blank(name, made.key_.get(), -60, valid_s);
  X509* const certificate = made.certificate_.get();
  if (certificate == nullptr) return failed("make a certificate");
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
  if (!add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE") ||
      !add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") ||
      !add_extension(certificate, certificate, NID_subject_key_identifier, "hash") ||
      X509_sign(certificate, made.key_.get(), EVP_sha256()) <= 0) {
    return failed("sign a certificate");
  }
  return made;
}

Result<Authority> Authority::load(const std::string& certificate, const std::string& key) {
  Authority loaded;
  loaded.certificate_ = read_pem<X509>(certificate, PEM_read_bio_X509, X509_free);
  loaded.key_ = read_pem<EVP_PKEY>(key, PEM_read_bio_PrivateKey, EVP_PKEY_free);
  if (!loaded.certificate_) return failed("read the authority's certificate");
  if (!loaded.key_ || X509_check_private_key(loaded.certificate_.get(), loaded.key_.get()) != 1) {
    return failed("read the authority's key");
  }
  return loaded;
}

std::string Authority::certificate() const { return pem_of(certificate_.get()); }
std::string Authority::key() const { return pem_of(key_.get()); }

Result<Issued> Authority::issue(const Request& request) const {
  for (const std::string& each : request.names) {
    const bool plain = std::all_of(each.begin(), each.end(), [](char letter) {
      return letter > ' ' && letter < '\x7f' && letter != ',' && letter != ';' && letter != '\\';
    });
    const std::string_view name = std::string_view(each).substr(each.find(':') + 1);
    const bool wildcard = name.find('*') != std::string_view::npos;
    const bool uri = !each.starts_with("URI:") || name.find("://") != std::string_view::npos;
    if (plain && uri && !wildcard && !name.empty()) continue;
    return Status(Code::kInvalidArgument,
                  fmt::format("'{}' is no name: one of printable characters without commas, "
                              "semicolons, backslashes and '*'; a URI has a scheme",
                              printable(each)));
  }
  const std::shared_ptr<EVP_PKEY> key = make_key();
  if (!key) return failed("make a key");
  const std::shared_ptr<X509> made =
      blank(request.name, key.get(), request.begins_s, request.ends_s);
  if (!made) return failed("make a certificate");
  std::string names;
  for (const std::string& each : request.names) names += (names.empty() ? "" : ",") + each;
  X509_set_issuer_name(made.get(), X509_get_subject_name(certificate_.get()));
  if (X509_NAME_cmp(X509_get_subject_name(made.get()), X509_get_issuer_name(made.get())) == 0) {
    return Status(Code::kInvalidArgument,
                  fmt::format("'{}' is the name of the authority: with it, the certificate would "
                              "look as if it had signed itself",
                              request.name));
  }
  if (!names.empty() &&
      !add_extension(made.get(), certificate_.get(), NID_subject_alt_name, names)) {
    return Status(Code::kInvalidArgument,
                  fmt::format("'{}' are not names of the kinds DNS:, URI: and IP:", names));
  }
  if (!add_extension(made.get(), certificate_.get(), NID_basic_constraints, "critical,CA:FALSE") ||
      !add_extension(made.get(), certificate_.get(), NID_key_usage, "critical,digitalSignature") ||
      !add_extension(made.get(), certificate_.get(), NID_ext_key_usage, "serverAuth,clientAuth") ||
      // Tells authorities of one name apart.
      !add_extension(made.get(), certificate_.get(), NID_authority_key_identifier, "keyid") ||
      X509_sign(made.get(), key_.get(), EVP_sha256()) <= 0) {
    return failed("sign a certificate");
  }
  return Issued{pem_of(made.get()), pem_of(key.get())};
}

Result<std::string> Authority::revoke(const std::vector<std::string>& certificates) const {
  const std::unique_ptr<X509_CRL, decltype(&X509_CRL_free)> list(X509_CRL_new(), X509_CRL_free);
  const std::unique_ptr<ASN1_TIME, decltype(&ASN1_TIME_free)> time(ASN1_TIME_new(), ASN1_TIME_free);
  if (!list || !time) return failed("make a list");
  X509_CRL_set_version(list.get(), X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(certificate_.get()));
  X509_gmtime_adj(time.get(), -60);
  X509_CRL_set1_lastUpdate(list.get(), time.get());
  for (const std::string& each : certificates) {
    const std::shared_ptr<X509> certificate = read_pem<X509>(each, PEM_read_bio_X509, X509_free);
    if (!certificate) return failed("read the certificate to revoke");
    X509_REVOKED* const entry = X509_REVOKED_new();
    X509_REVOKED_set_serialNumber(entry, X509_get_serialNumber(certificate.get()));
    X509_REVOKED_set_revocationDate(entry, time.get());
    X509_CRL_add0_revoked(list.get(), entry);
  }
  X509_gmtime_adj(time.get(), 365 * 86'400);
  X509_CRL_set1_nextUpdate(list.get(), time.get());
  X509_CRL_sort(list.get());
  if (X509_CRL_sign(list.get(), key_.get(), EVP_sha256()) <= 0) return failed("sign a list");
  return pem([&list](BIO* out) { return PEM_write_bio_X509_CRL(out, list.get()); });
}

Result<std::string> make_secret() {
  std::array<unsigned char, 32> bytes{};
  if (RAND_bytes(bytes.data(), bytes.size()) != 1) return failed("make random bytes");
  std::string text;
  for (const unsigned char each : bytes) text += fmt::format("{:02x}", each);
  return text;
}

Result<std::string> name_of_secret(const std::string& line) {
  constexpr std::string_view kLabel = "transfer engine shared secret";
  constexpr size_t kBytes = 8;
  long size = 0;
  const std::unique_ptr<unsigned char, void (*)(unsigned char*)> secret(
      OPENSSL_hexstr2buf(line.c_str(), &size), [](unsigned char* each) { OPENSSL_free(each); });
  if (!secret) return failed("read the secret");
  std::string labelled(kLabel);
  labelled.append(reinterpret_cast<const char*>(secret.get()), static_cast<size_t>(size));
  std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
  const int hashed =
      EVP_Digest(labelled.data(), labelled.size(), hash.data(), nullptr, EVP_sha256(), nullptr);
  OPENSSL_cleanse(secret.get(), static_cast<size_t>(size));
  OPENSSL_cleanse(labelled.data(), labelled.size());
  if (hashed != 1) return failed("name the secret");
  std::string name;
  for (size_t i = 0; i < kBytes; ++i) name += fmt::format("{:02x}", hash[i]);
  return name;
}

}  // namespace te::tool
