// Fuzzes what decodes the same-host transport's messages, and its part of a descriptor.
//
// The first byte picks the decoder. What was accepted must survive its own encoder.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "require.h"
#include "transport/shm/message.h"

namespace {

using te::shm::Advertisement;
using te::shm::Message;
using te::shm::RangeKey;

void require_refusal(te::Code code) {
  require(code == te::Code::kProtocol || code == te::Code::kUnsupported);
}

void check_message(std::string_view bytes) {
  const te::Result<Message> message = Message::decode(te::as_bytes(bytes));
  if (!message.ok()) return require_refusal(message.code());
  require(bytes.size() == Message::kSize);
  const auto encoded = message->encode();
  require(std::string_view(encoded.data(), encoded.size()) == bytes);
}

void check_offer(std::string_view bytes) {
  const te::Result<Advertisement> advertisement = Advertisement::decode(te::as_bytes(bytes));
  if (!advertisement.ok()) return require_refusal(advertisement.code());
  require(advertisement->encode() == bytes);
}

void check_key(std::string_view bytes) {
  if (bytes.size() != RangeKey::kSize) return;  // the descriptor's decoder sees to that
  const RangeKey key = RangeKey::decode(te::as_bytes(bytes).data());
  const te::Bytes encoded = key.encode();
  const RangeKey again = RangeKey::decode(te::as_bytes(encoded).data());
  require(again.index == key.index && again.generation == key.generation && again.way == key.way);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0:  // '0'
      check_message(bytes);
      break;
    case 1:  // '1'
      check_offer(bytes);
      break;
    default:  // '2'
      check_key(bytes);
  }
  return 0;
}
