// The record layer of TLS 1.3 (RFC 8446, section 5), one direction of one connection each.
//
// OpenSSL makes the handshake; from then on the engine protects the records itself, with OpenSSL's
// ciphers. An SSL object is for one thread at a time, but a connection has a sender and a receiver
// that work at once. And records are made from the application's memory, where the socket takes
// them from, and opened where they arrived, without a copy of their own.
//
// Threads: one at a time for each object; the two directions know nothing of each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/secret.h"
#include "transfer_engine/status.h"

struct evp_cipher_ctx_st;

namespace te::tls {

enum class Suite : uint16_t {
  kAes128Gcm = 0x1301,
  kAes256Gcm = 0x1302,
  kChaCha20 = 0x1303,
};

enum class Content : uint8_t {
  kChangeCipherSpec = 20,
  kAlert = 21,
  kHandshake = 22,
  kApplication = 23,
};

inline constexpr size_t kMaxPlaintext = 16 << 10;
inline constexpr size_t kHeaderSize = 5;
inline constexpr size_t kTrailerSize = 1 + 16;  // the content type and the tag
inline constexpr size_t kMaxRecord = kHeaderSize + kMaxPlaintext + kTrailerSize;
inline constexpr size_t kMaxReceived = kHeaderSize + kMaxPlaintext + 256;  // with a peer's padding

// The whole size of the record that begins with this header.
inline size_t record_size(const std::byte* header) {
  return kHeaderSize + (static_cast<size_t>(header[3]) << 8 | static_cast<size_t>(header[4]));
}

// Keys of one direction, from its traffic secret. The nonce counts the records.
class RecordKeys {
 public:
  RecordKeys(RecordKeys&&) noexcept;
  ~RecordKeys();
  static Result<RecordKeys> make(Suite suite, Secret traffic_secret, bool encrypts);

  // The next traffic secret (RFC 8446, 7.2).
  Status update();
  uint64_t records() const { return sequence_; }  // with these keys

  bool encrypt(const std::byte* header, std::byte* bytes, size_t length, std::byte* tag);
  // The same for bytes that lie in an application's memory, which may have become inaccessible;
  // bytes[length] is protected behind them. nullopt: they cannot be read in this way, and it is as
  // if it had not been called.
  std::optional<bool> encrypt_from(const std::byte* from, const std::byte* header, std::byte* bytes,
                                   size_t length, std::byte* tag);
  bool decrypt(const std::byte* header, std::byte* bytes, size_t length, std::byte* tag);

 private:
  RecordKeys(Suite suite, Secret secret, bool encrypts);
  // For the records from the `sequence`th on.
  Status derive(uint64_t sequence);
  bool begin_record(const std::byte* header);
  bool encrypt_some(std::byte* to, const std::byte* from, size_t length);
  bool end_record(std::byte* end, std::byte* tag);
  bool set_nonce();

  Suite suite_;
  bool encrypts_;
  Secret secret_;
  Secret iv_;
  uint64_t sequence_ = 0;
  struct Free {
    void operator()(evp_cipher_ctx_st* context) const;
  };
  std::unique_ptr<evp_cipher_ctx_st, Free> context_;
};

class RecordSealer {
 public:
  explicit RecordSealer(RecordKeys keys) : keys_(std::move(keys)) {}

  // Protects `length` bytes, at most kMaxPlaintext, that lie at record + kHeaderSize; there is room
  // for kTrailerSize bytes behind them. Returns the size of the record, or 0 if the cipher failed.
  size_t seal(std::byte* record, size_t length, Content content = Content::kApplication);
  // The same for bytes in an application's memory, which are not copied. nullopt: they cannot be
  // read in this way, and it is as if it had not been called.
  std::optional<size_t> seal_from(const std::byte* from, std::byte* record, size_t length);
  // Before this many records, new keys are due: AES-GCM protects 2^24.5 of full size.
  static constexpr uint64_t kRecordsPerKey = uint64_t{1} << 24;
  bool update_due() const { return keys_.records() >= kRecordsPerKey; }
  // A record that tells the peer of the next keys, which are used from then on. Room:
  // kHeaderSize + 5 + kTrailerSize. 0: it failed.
  size_t seal_key_update(std::byte* record);

 private:
  RecordKeys keys_;
};

class RecordOpener {
 public:
  struct Opened {
    Content content = Content::kApplication;
    std::span<std::byte> bytes;
  };

  explicit RecordOpener(RecordKeys keys) : keys_(std::move(keys)) {}

  // Of a whole record; its bytes are decrypted where they lie. kProtocol: it was not made by the
  // peer, was changed on the way, or is none.
  Result<Opened> open(std::span<std::byte> record);
  // Reads handshake messages behind the handshake: a key update is the only one that is expected.
  // kProtocol: another one, or key updates that come too soon. `*answer`: the peer asks for one
  // too.
  Status handle_handshake(std::span<const std::byte> bytes, bool* answer);

 private:
  // A peer that updates its keys more often than this means harm.
  static constexpr uint64_t kFewestRecordsPerKey = 1 << 10;

  RecordKeys keys_;
};

}  // namespace te::tls
