#include "certificates.h"

#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

namespace te::test {
namespace {

constexpr long kDayS = 24 * 3600;

template <auto free>
struct Free {
  template <typename T>
  void operator()(T* object) const {
    free(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;
using File = std::unique_ptr<std::FILE, Free<std::fclose>>;

void add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  ASSERT_NE(extension, nullptr) << value;
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

Certificate make_certificate(EVP_PKEY* key, long serial, long valid_s) {
  Certificate certificate(X509_new());
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -kDayS);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), valid_s);
  X509_set_pubkey(certificate.get(), key);
  return certificate;
}

Authority::Issued save(const std::string& base, X509* certificate, EVP_PKEY* key) {
  Authority::Issued paths{base + ".crt", base + ".key"};
  const File cert(std::fopen(paths.cert.c_str(), "we"));
  PEM_write_X509(cert.get(), certificate);
  const File secret(std::fopen(paths.key.c_str(), "we"));
  PEM_write_PrivateKey(secret.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  return paths;
}

template <typename Read>
auto load(const std::string& path, Read read) {
  const File file(std::fopen(path.c_str(), "re"));
  return read(file.get(), nullptr, nullptr, nullptr);
}

}  // namespace

Authority::Authority() {
  std::string pattern = (std::filesystem::temp_directory_path() / "te_tls_XXXXXX").string();
  if (::mkdtemp(pattern.data()) != nullptr) folder_ = pattern;
  const Key key(EVP_EC_gen("P-256"));
  const Certificate certificate = make_certificate(key.get(), 1, kDayS);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>("test authority"), -1, -1, 0);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate.get()));
  add_extension(certificate.get(), certificate.get(), NID_basic_constraints, "critical,CA:TRUE");
  add_extension(certificate.get(), certificate.get(), NID_subject_key_identifier, "hash");
  X509_sign(certificate.get(), key.get(), EVP_sha256());
  ca_ = save(folder_ + "/ca", certificate.get(), key.get());
}

Authority::~Authority() {
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

// Without a common name: etcd refuses users over JSON whose certificates have one.
Authority::Issued Authority::issue(const std::string& names, long valid_s) {
  const Certificate issuer(load(ca_.cert, PEM_read_X509));
  const Key issuer_key(load(ca_.key, PEM_read_PrivateKey));
  const Key key(EVP_EC_gen("P-256"));
  ++issued_;
  const Certificate certificate = make_certificate(key.get(), 1 + issued_, valid_s);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(issuer.get()));
  add_extension(certificate.get(), issuer.get(), NID_subject_alt_name, names);
  add_extension(certificate.get(), issuer.get(), NID_authority_key_identifier, "keyid");
  X509_sign(certificate.get(), issuer_key.get(), EVP_sha256());
  return save(folder_ + "/issued-" + std::to_string(issued_), certificate.get(), key.get());
}

std::string Authority::write(const std::string& name, const std::string& text) const {
  const std::string path = folder_ + "/" + name;
  std::ofstream(path) << text;
  return path;
}

DirectoryTls tls_of(Authority& authority) {
  const Authority::Issued own = authority.issue();
  return {authority.ca(), own.cert, own.key};
}

}  // namespace te::test
