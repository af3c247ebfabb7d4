// Bytes from a peer before and inside TLS: the first byte of the input says to which side they come
// and in which pieces; a record that opens must have been sealed by us.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "require.h"
#include "secret_file.h"
#include "tls/handshake.h"
#include "tls/record.h"

namespace {

using namespace te;
using namespace te::tls;

std::shared_ptr<const Credentials> credentials() {
  static const auto& loaded = *new std::shared_ptr<const Credentials>([] {
    Result<std::shared_ptr<const Credentials>> made = Credentials::load(secret_file());
    require(made.ok());
    return made.take();
  }());
  return loaded;
}

void handshake(std::string_view bytes, Role role, size_t step) {
  const std::unique_ptr<Handshake> handshake = Handshake::make(credentials(), role).take();
  for (int i = 0; i < 1'000; ++i) {
    const Handshake::Step at = handshake->advance();
    (void)handshake->take_unsent();
    // Without the secret, nobody gets in.
    require(at != Handshake::Step::kDone);
    if (at == Handshake::Step::kFailed) return require(!handshake->why().ok());
    if (bytes.empty()) return;
    const std::string_view next = bytes.substr(0, step);
    handshake->receive(next);
    bytes.remove_prefix(next.size());
  }
}

RecordKeys keys(bool encrypts) {
  Secret secret(32);
  return RecordKeys::make(Suite::kAes128Gcm, std::move(secret), encrypts).take();
}

void record(std::string_view bytes) {
  RecordOpener opener(keys(false));
  std::vector<std::byte> copy(bytes.size());
  std::memcpy(copy.data(), bytes.data(), bytes.size());
  require(!opener.open(copy).ok());
  // The same bytes as a message of the handshake of a peer that is known.
  bool answer = false;
  require(!opener.handle_handshake(copy, &answer).ok());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const size_t step = data[0] % 8 == 0 ? 1 : size_t{data[0]} * 16;
  handshake(bytes, data[0] % 2 == 0 ? Role::kAccepts : Role::kConnects, step);
  record(bytes);
  return 0;
}
