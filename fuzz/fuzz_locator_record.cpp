// Fuzzes what decodes the directory's foreign texts: records, connection strings, base64.
//
// The first byte picks the decoder. Whatever was accepted must survive its own encoder.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "directory/base64.h"
#include "directory/connection.h"
#include "directory/record.h"
#include "require.h"

namespace {

void check_record(std::string_view text) {
  const te::Result<te::Locator> locator = te::decode_record(text);
  if (!locator.ok()) {
    require(locator.code() == te::Code::kProtocol);
    return;
  }
  const te::Result<std::string> encoded = te::encode_record(*locator);
  require(encoded.ok());
  const te::Result<te::Locator> again = te::decode_record(*encoded);
  require(again.ok() && *again == *locator);
}

void check_connection(std::string_view text) {
  const te::Result<te::Connection> connection = te::parse_connection(text);
  if (!connection.ok()) {
    require(connection.code() == te::Code::kInvalidArgument);
    return;
  }
  for (const te::HostPort& endpoint : connection->endpoints) {
    require(endpoint.port != 0 && te::is_host(endpoint.host));
  }
  require(connection->kind == te::DirectoryKind::kP2p || !connection->endpoints.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0:  // '0'
      check_record(text);
      break;
    case 1:  // '1'
      check_connection(text);
      break;
    default:  // '2'
      require(te::base64_decode(te::base64_encode(text)) == text);
      if (const auto bytes = te::base64_decode(text)) {
        require(te::base64_decode(te::base64_encode(*bytes)) == *bytes);
      }
  }
  return 0;
}
