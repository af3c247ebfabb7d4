#include "limits/ciphers.h"

#include <openssl/evp.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

namespace te::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRecord = 16 << 10;
constexpr int kRecordsAtOnce = 16;  // between two looks at the clock

// Bytes until then, or nothing where the cipher does not work.
uint64_t encrypt_until(Clock::time_point end) {
  const std::unique_ptr<EVP_CIPHER, decltype(&EVP_CIPHER_free)> cipher(
      EVP_CIPHER_fetch(nullptr, "AES-128-GCM", nullptr), EVP_CIPHER_free);
  const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(
      EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
  const std::vector<unsigned char> key(16), nonce(12);
  std::vector<unsigned char> record(kRecord);
  unsigned char tag[16];
  if (!cipher || !context ||
      EVP_EncryptInit_ex2(context.get(), cipher.get(), key.data(), nonce.data(), nullptr) != 1) {
    return 0;
  }
  uint64_t bytes = 0;
  do {
    for (int i = 0; i < kRecordsAtOnce; ++i) {
      int length = 0, rest = 0;
      if (EVP_EncryptInit_ex2(context.get(), nullptr, nullptr, nonce.data(), nullptr) != 1 ||
          EVP_EncryptUpdate(context.get(), record.data(), &length, record.data(), kRecord) != 1 ||
          EVP_EncryptFinal_ex(context.get(), record.data() + length, &rest) != 1 ||
          EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, sizeof tag, tag) != 1) {
        return 0;
      }
      bytes += static_cast<uint64_t>(length);
    }
  } while (Clock::now() < end);
  return bytes;
}

}  // namespace

Result<double> aes_gcm_gb_per_s(std::chrono::milliseconds window) {
  std::vector<uint64_t> bytes(std::max(1u, std::thread::hardware_concurrency()));
  const Clock::time_point begin = Clock::now();
  std::vector<std::thread> threads;
  for (uint64_t& own : bytes) {
    threads.emplace_back([&own, end = begin + window] { own = encrypt_until(end); });
  }
  for (std::thread& thread : threads) thread.join();
  const std::chrono::duration<double> wall = Clock::now() - begin;
  if (std::ranges::find(bytes, uint64_t{0}) != bytes.end()) {
    return Status(Code::kUnsupported, "OpenSSL does not encrypt with AES-128-GCM here");
  }
  const uint64_t all = std::accumulate(bytes.begin(), bytes.end(), uint64_t{0});
  return static_cast<double>(all) / wall.count() / 1e9;
}

}  // namespace te::bench
