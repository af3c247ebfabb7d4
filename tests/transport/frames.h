// The frames of a TCP data connection, built by hand for tests.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "transport/tcp/frame.h"

namespace te::tcp::test {

struct Entry {
  uint64_t address = 0;
  uint32_t length = 0;
  AccessKey key;
};

inline std::string request_bytes(uint8_t type, uint16_t count, uint64_t payload,
                                 const std::vector<Entry>& entries) {
  std::string out(RequestHeader::kSize + entries.size() * RequestEntry::kSize, '\0');
  auto* at = reinterpret_cast<std::byte*>(out.data());
  RequestHeader{static_cast<RequestType>(type), count, payload}.encode(at);
  at += RequestHeader::kSize;
  for (const Entry& entry : entries) {
    std::byte key[AccessKey::kSize];
    entry.key.encode(key);
    RequestEntry::encode(at, entry.address, entry.length, key);
    at += RequestEntry::kSize;
  }
  return out;
}
inline std::string read_frame(const std::vector<Entry>& entries) {
  return request_bytes(2, static_cast<uint16_t>(entries.size()), 0, entries);
}
inline std::string write_frame(const std::vector<Entry>& entries, std::string_view payload) {
  return request_bytes(1, static_cast<uint16_t>(entries.size()), payload.size(), entries)
      .append(payload);
}

inline std::string answer_bytes(AnswerType type, Code code, uint32_t count, uint64_t sequence) {
  std::string out(AnswerHeader::kSize, '\0');
  AnswerHeader{type, code, count, sequence}.encode(reinterpret_cast<std::byte*>(out.data()));
  return out;
}
inline std::string ack(uint64_t sequence) {
  return answer_bytes(AnswerType::kAck, Code::kOk, 0, sequence);
}
inline std::string data(uint64_t sequence, uint32_t count, std::string_view payload) {
  return answer_bytes(AnswerType::kData, Code::kOk, count, sequence).append(payload);
}
inline std::string refused(uint64_t sequence, Code code) {
  return answer_bytes(AnswerType::kError, code, 1, sequence);
}

}  // namespace te::tcp::test
