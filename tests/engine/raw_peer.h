// A peer made of plain sockets, which says whatever a test wants; and what a real engine would say.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "core/access_table.h"
#include "core/wire.h"
#include "transport/tcp/frame.h"

namespace te::test {

// One thread at a time.
class RawConnection {
 public:
  // `receive_buffer`: bytes that the kernel keeps of what is not read; 0: its own choice.
  explicit RawConnection(const std::string& endpoint, int receive_buffer = 0);
  explicit RawConnection(Fd fd) : fd_(std::move(fd)) {}

  bool connected() const { return fd_.valid(); }
  // As far as the other side takes it; false when it took nothing more for `limit_ms`, or ended.
  bool send(std::string_view bytes, int limit_ms = 1'000);
  // Exactly that many, or what came before the end or `limit_ms`.
  std::string receive(size_t length, int limit_ms = 10'000);
  // Whether the other side ends the connection in time; what it sends until then is dropped.
  bool ended_by_peer(int limit_ms = 10'000);
  void close() { fd_.reset(); }

 private:
  Fd fd_;
};

template <typename Encodable>
std::string encoded(const Encodable& message) {
  const auto bytes = message.encode();
  return std::string(bytes.data(), bytes.size());
}

inline std::string control_hello() { return encoded(wire::Hello{}); }
std::string data_hello(uint64_t session);
// A request on the control channel; `claimed` is the length in its header.
std::string control_request(wire::ControlType type, std::string_view body, uint64_t claimed);
// A request frame with `count` entries alike.
std::string request_frame(tcp::RequestType type, uint16_t count, uint64_t payload, uint64_t address,
                          uint32_t length, const AccessKey& key);
// An answer on a data connection, or type 0 when none comes.
tcp::AnswerHeader receive_answer(RawConnection& connection);

}  // namespace te::test
