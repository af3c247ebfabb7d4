// Fuzzes what decodes the first bytes of connections and the frames of the control channel.
//
// The first byte picks the decoder. What was accepted must survive its own encoder.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/wire.h"
#include "require.h"

namespace {

void require_refusal(te::Code code) {
  require(code == te::Code::kProtocol || code == te::Code::kUnsupported);
}

template <typename Fields>
void check_fixed(std::string_view bytes) {
  const te::Result<Fields> fields = Fields::decode(te::as_bytes(bytes));
  if (!fields.ok()) return require_refusal(fields.code());
  require(bytes.size() == Fields::kSize);
  const auto encoded = fields->encode();
  const te::Result<Fields> again = Fields::decode(te::as_bytes({encoded.data(), encoded.size()}));
  require(again.ok() && again->encode() == encoded);
}

void check_answer(std::string_view bytes) {
  check_fixed<te::wire::HelloAnswer>(bytes);
  const te::Result<te::wire::HelloAnswer> answer =
      te::wire::HelloAnswer::decode(te::as_bytes(bytes));
  if (answer.ok() && answer->code != te::Code::kOk) {
    require(te::wire::refusal(*answer, "peer").code() == answer->code);
  }
}

void check_notify(std::string_view bytes) {
  const te::Result<te::wire::NotifyBody> body = te::wire::NotifyBody::decode(bytes);
  if (!body.ok()) return require_refusal(body.code());
  require(body->notification.name.size() <= te::wire::kMaxNotificationText);
  require(body->notification.message.size() <= te::wire::kMaxNotificationText);
  require(body->encode() == bytes);
}

void check_exchange(std::string_view bytes) {
  const te::Result<te::wire::ExchangeBody> body = te::wire::ExchangeBody::decode(bytes);
  if (!body.ok()) return require_refusal(body.code());
  require(!body->transport.empty() && body->transport.size() <= te::wire::kMaxTransportName);
  require(body->hello.size() <= te::wire::kMaxExchange);
  require(body->encode() == bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (static_cast<uint8_t>(data[0] - '0') % 5) {
    case 0:  // '0'
      check_fixed<te::wire::Hello>(bytes);
      break;
    case 1:  // '1'
      check_answer(bytes);
      break;
    case 2:  // '2'
      check_fixed<te::wire::ControlHeader>(bytes);
      break;
    case 3:  // '3'
      check_notify(bytes);
      break;
    default:  // '4'
      check_exchange(bytes);
  }
  return 0;
}
