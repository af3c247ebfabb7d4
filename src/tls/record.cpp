#include "tls/record.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include <array>
#include <cstring>

#include "base/guarded_copy.h"
#include "base/log.h"

namespace te::tls {
namespace {

constexpr size_t kTagSize = 16;
constexpr size_t kNonceSize = 12;
constexpr uint8_t kKeyUpdate = 24;  // a handshake message

struct Algorithms {
  const char* cipher;
  const char* digest;
  size_t key_size;
};

Algorithms algorithms(Suite suite) {
  switch (suite) {
    case Suite::kAes128Gcm:
      return {"AES-128-GCM", "SHA256", 16};
    case Suite::kAes256Gcm:
      return {"AES-256-GCM", "SHA384", 32};
    case Suite::kChaCha20:
      return {"ChaCha20-Poly1305", "SHA256", 32};
  }
  return {nullptr, nullptr, 0};
}

unsigned char* raw(std::byte* bytes) { return reinterpret_cast<unsigned char*>(bytes); }
const unsigned char* raw(const std::byte* bytes) {
  return reinterpret_cast<const unsigned char*>(bytes);
}

Status failed(const char* what) { return error(Code::kInternal, "OpenSSL cannot {}", what); }

// HKDF-Expand-Label with an empty context.
Status expand(const char* digest, const Secret& secret, const char* label, Secret& out) {
  const std::unique_ptr<EVP_KDF, decltype(&EVP_KDF_free)> kdf(
      EVP_KDF_fetch(nullptr, "TLS13-KDF", nullptr), EVP_KDF_free);
  if (!kdf) return failed("derive keys of TLS 1.3");
  const std::unique_ptr<EVP_KDF_CTX, decltype(&EVP_KDF_CTX_free)> context(
      EVP_KDF_CTX_new(kdf.get()), EVP_KDF_CTX_free);
  int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
  char prefix[] = "tls13 ";
  const auto text = [](const char* name, const char* value) {
    return OSSL_PARAM_construct_utf8_string(name, const_cast<char*>(value), 0);
  };
  const auto bytes = [](const char* name, const void* value, size_t size) {
    return OSSL_PARAM_construct_octet_string(name, const_cast<void*>(value), size);
  };
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
                               text(OSSL_KDF_PARAM_DIGEST, digest),
                               bytes(OSSL_KDF_PARAM_KEY, secret.data(), secret.size()),
                               bytes(OSSL_KDF_PARAM_PREFIX, prefix, std::strlen(prefix)),
                               bytes(OSSL_KDF_PARAM_LABEL, label, std::strlen(label)),
                               OSSL_PARAM_construct_end()};
  const bool derived =
      context && EVP_KDF_derive(context.get(), raw(out.data()), out.size(), params) > 0;
  return derived ? Status() : failed("derive keys of TLS 1.3");
}

}  // namespace

void RecordKeys::Free::operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }

RecordKeys::RecordKeys(Suite suite, Secret secret, bool encrypts)
    : suite_(suite), encrypts_(encrypts), secret_(std::move(secret)) {}
RecordKeys::RecordKeys(RecordKeys&&) noexcept = default;
RecordKeys::~RecordKeys() = default;

Result<RecordKeys> RecordKeys::make(Suite suite, Secret traffic_secret, bool encrypts) {
  RecordKeys keys(suite, std::move(traffic_secret), encrypts);
  TE_RETURN_IF_ERROR(keys.derive(0));
  return keys;
}

Status RecordKeys::derive(uint64_t sequence) {
  context_.reset(EVP_CIPHER_CTX_new());
  if (!context_) return Status(Code::kResource, "out of memory");
  const Algorithms use = algorithms(suite_);
  if (use.cipher == nullptr) return failed("use an unknown cipher suite");
  Secret key(use.key_size);
  iv_ = Secret(kNonceSize);
  TE_RETURN_IF_ERROR(expand(use.digest, secret_, "key", key));
  TE_RETURN_IF_ERROR(expand(use.digest, secret_, "iv", iv_));
  const std::unique_ptr<EVP_CIPHER, decltype(&EVP_CIPHER_free)> cipher(
      EVP_CIPHER_fetch(nullptr, use.cipher, nullptr), EVP_CIPHER_free);
  if (!cipher || EVP_CipherInit_ex2(context_.get(), cipher.get(), raw(key.data()), nullptr,
                                    encrypts_ ? 1 : 0, nullptr) != 1) {
    return failed("start its cipher");
  }
  sequence_ = sequence;
  return {};
}

Status RecordKeys::update() {
  Secret next(secret_.size());
  TE_RETURN_IF_ERROR(expand(algorithms(suite_).digest, secret_, "traffic upd", next));
  secret_ = std::move(next);
  return derive(0);
}

bool RecordKeys::set_nonce() {
  std::array<std::byte, kNonceSize> nonce;
  std::memcpy(nonce.data(), iv_.data(), kNonceSize);
  for (size_t i = 0; i < sizeof sequence_; ++i) {
    nonce[kNonceSize - 1 - i] ^= static_cast<std::byte>(sequence_ >> (8 * i));
  }
  ++sequence_;
  return EVP_CipherInit_ex2(context_.get(), nullptr, nullptr, raw(nonce.data()), -1, nullptr) == 1;
}

bool RecordKeys::begin_record(const std::byte* header) {
  int done = 0;
  return set_nonce() &&
         EVP_EncryptUpdate(context_.get(), nullptr, &done, raw(header), kHeaderSize) == 1;
}

bool RecordKeys::encrypt_some(std::byte* to, const std::byte* from, size_t length) {
  int done = 0;
  return EVP_EncryptUpdate(context_.get(), raw(to), &done, raw(from), static_cast<int>(length)) ==
         1;
}

bool RecordKeys::end_record(std::byte* end, std::byte* tag) {
  int done = 0;
  return EVP_EncryptFinal_ex(context_.get(), raw(end), &done) == 1 &&
         EVP_CIPHER_CTX_ctrl(context_.get(), EVP_CTRL_AEAD_GET_TAG, kTagSize, tag) == 1;
}

bool RecordKeys::encrypt(const std::byte* header, std::byte* bytes, size_t length, std::byte* tag) {
  return begin_record(header) && encrypt_some(bytes, bytes, length) &&
         end_record(bytes + length, tag);
}

std::optional<bool> RecordKeys::encrypt_from(const std::byte* from, const std::byte* header,
                                             std::byte* bytes, size_t length, std::byte* tag) {
  struct Call {
    RecordKeys& keys;
    const std::byte* header;
    bool works = false;
  } call{*this, header};
  const auto encrypt = [](void* state, std::byte* to, const std::byte* source, size_t size) {
    auto& of = *static_cast<Call*>(state);
    of.works = of.keys.begin_record(of.header) && of.keys.encrypt_some(to, source, size);
  };
  const uint64_t sequence = sequence_;
  const std::optional<CopyResult> result = guarded_convert(bytes, from, length, encrypt, &call);
  if (!result) return std::nullopt;
  if (*result != CopyResult::kDone) {
    // The cipher was ended in the middle. Nobody has seen anything of it: the nonce is as good as
    // new.
    if (derive(sequence).ok()) return std::nullopt;
    return false;
  }
  return call.works && encrypt_some(bytes + length, bytes + length, 1) &&
         end_record(bytes + length + 1, tag);
}

bool RecordKeys::decrypt(const std::byte* header, std::byte* bytes, size_t length, std::byte* tag) {
  int done = 0;
  EVP_CIPHER_CTX* const context = context_.get();
  return set_nonce() && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, kTagSize, tag) == 1 &&
         EVP_DecryptUpdate(context, nullptr, &done, raw(header), kHeaderSize) == 1 &&
         EVP_DecryptUpdate(context, raw(bytes), &done, raw(bytes), static_cast<int>(length)) == 1 &&
         EVP_DecryptFinal_ex(context, raw(bytes) + done, &done) == 1;
}

namespace {

// Also the content type behind the bytes. Returns the size of the record.
size_t begin_record(std::byte* record, size_t length, Content content) {
  const size_t protected_size = length + kTrailerSize;
  // Of TLS 1.3, all records look like data of TLS 1.2.
  record[0] = static_cast<std::byte>(Content::kApplication);
  record[1] = std::byte{3};
  record[2] = std::byte{3};
  record[3] = static_cast<std::byte>(protected_size >> 8);
  record[4] = static_cast<std::byte>(protected_size);
  record[kHeaderSize + length] = static_cast<std::byte>(content);
  return kHeaderSize + protected_size;
}

}  // namespace

size_t RecordSealer::seal(std::byte* record, size_t length, Content content) {
  const size_t size = begin_record(record, length, content);
  std::byte* const bytes = record + kHeaderSize;
  return keys_.encrypt(record, bytes, length + 1, bytes + length + 1) ? size : 0;
}

std::optional<size_t> RecordSealer::seal_from(const std::byte* from, std::byte* record,
                                              size_t length) {
  const size_t size = begin_record(record, length, Content::kApplication);
  std::byte* const bytes = record + kHeaderSize;
  const std::optional<bool> works =
      keys_.encrypt_from(from, record, bytes, length, bytes + length + 1);
  if (!works) return std::nullopt;
  return *works ? size : 0;
}

size_t RecordSealer::seal_key_update(std::byte* record) {
  constexpr std::array<uint8_t, 5> kMessage = {kKeyUpdate, 0, 0, 1, 0};  // update_not_requested
  std::memcpy(record + kHeaderSize, kMessage.data(), kMessage.size());
  const size_t size = seal(record, kMessage.size(), Content::kHandshake);
  return size != 0 && keys_.update().ok() ? size : 0;
}

Result<RecordOpener::Opened> RecordOpener::open(std::span<std::byte> record) {
  const size_t smallest = kHeaderSize + kTrailerSize;
  if (record.size() < smallest || record.size() > kMaxReceived ||
      record.size() != record_size(record.data()) ||
      record[0] != static_cast<std::byte>(Content::kApplication)) {
    return Status(Code::kProtocol, "TLS: what came is not a protected record");
  }
  std::byte* const bytes = record.data() + kHeaderSize;
  size_t length = record.size() - kHeaderSize - kTagSize;
  if (!keys_.decrypt(record.data(), bytes, length, bytes + length)) {
    return Status(Code::kProtocol,
                  "TLS: a record does not verify: it was changed on the way, or is not the peer's");
  }
  // Zeros behind the content type are padding.
  while (length > 0 && bytes[length - 1] == std::byte{0}) --length;
  if (length == 0) return Status(Code::kProtocol, "TLS: a record without a content type");
  const auto content = static_cast<Content>(bytes[length - 1]);
  --length;
  if (length > kMaxPlaintext) return Status(Code::kProtocol, "TLS: a record is too long");
  return Opened{content, {bytes, length}};
}

Status RecordOpener::handle_handshake(std::span<const std::byte> bytes, bool* answer) {
  *answer = false;
  // One message alone in its record, since the keys change behind it.
  const bool update = bytes.size() == 5 && static_cast<uint8_t>(bytes[0]) == kKeyUpdate &&
                      bytes[1] == std::byte{0} && bytes[2] == std::byte{0} &&
                      bytes[3] == std::byte{1} && static_cast<uint8_t>(bytes[4]) <= 1;
  if (!update) return Status(Code::kProtocol, "TLS: an unexpected message of the handshake");
  if (keys_.records() < kFewestRecordsPerKey) {
    return error(Code::kProtocol, "TLS: the peer changes its keys after {} records",
                 keys_.records());
  }
  *answer = bytes[4] == std::byte{1};
  return keys_.update();
}

}  // namespace te::tls
