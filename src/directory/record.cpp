#include "directory/record.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "directory/connection.h"

namespace te {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kRecordVersion = 1;
constexpr size_t kInstanceDigits = 16;

Status bad_record(std::string_view why) {
  return error(Code::kProtocol, "the stored record is not a locator: {}", why);
}

// Exactly 16 hexadecimal digits, as encode_record() writes them.
bool parse_instance(std::string_view text, uint64_t* value) {
  if (text.size() != kInstanceDigits) return false;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), *value, 16);
  return ec == std::errc() && end == text.data() + text.size();
}

}  // namespace

Result<std::string> record_key(std::string_view name) {
  if (name.empty()) return Status(Code::kInvalidArgument, "the segment's name is empty");
  if (name.size() > kMaxNameBytes) {
    return error(Code::kInvalidArgument, "the segment's name has {} bytes; at most {} are allowed",
                 name.size(), kMaxNameBytes);
  }
  return std::string(kKeyPrefix).append(name);
}

Result<std::string> encode_record(const Locator& locator) {
  if (!is_host(locator.host)) {
    return error(Code::kInvalidArgument,
                 "cannot publish the host '{}': it is neither an address nor a host name",
                 printable(locator.host));
  }
  if (locator.port == 0) return Status(Code::kInvalidArgument, "cannot publish port 0");
  const Json record = {{"host", locator.host},
                       {"port", locator.port},
                       {"instance", fmt::format("{:016x}", locator.instance)},
                       {"version", kRecordVersion}};
  return record.dump();
}

Result<Locator> decode_record(std::string_view text) {
  if (text.size() > kMaxRecordBytes) {
    return bad_record(fmt::format("{} bytes, more than {}", text.size(), kMaxRecordBytes));
  }
  const Json record = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (record.is_discarded()) return bad_record("it is not JSON");
  if (!record.is_object()) return bad_record("it is not a JSON object");

  const auto version = record.find("version");
  if (version == record.end() || !version->is_number_unsigned()) {
    return bad_record("'version' is missing or not a number");
  }
  if (version->get<uint64_t>() != kRecordVersion) {
    return bad_record(fmt::format("its version is {}, this engine reads version {}",
                                  version->get<uint64_t>(), kRecordVersion));
  }
  Locator locator;
  const auto host = record.find("host");
  if (host == record.end() || !host->is_string()) {
    return bad_record("'host' is missing or not a text");
  }
  locator.host = host->get<std::string>();
  if (!is_host(locator.host)) return bad_record("'host' is neither an address nor a host name");

  const auto port = record.find("port");
  if (port == record.end() || !port->is_number_unsigned() || port->get<uint64_t>() == 0 ||
      port->get<uint64_t>() > UINT16_MAX) {
    return bad_record("'port' is missing or not a number from 1 to 65535");
  }
  locator.port = static_cast<uint16_t>(port->get<uint64_t>());

  const auto instance = record.find("instance");
  if (instance == record.end() || !instance->is_string() ||
      !parse_instance(instance->get_ref<const std::string&>(), &locator.instance)) {
    return bad_record("'instance' is missing or not 16 hexadecimal digits");
  }
  return locator;
}

}  // namespace te
