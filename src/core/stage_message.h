// What an initiator asks of a target whose memory no transport reaches: to copy it to or from parts
// of host memory, which are leased to the initiator. Exchanges carry it (docs/wire.md).
//
// Values; no state.
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "core/access_table.h"
#include "transfer_engine/status.h"

namespace te::stage {

// Of exchanges, and of the transport in the descriptor whose keys they show.
inline constexpr std::string_view kName = "staging";
inline constexpr uint32_t kMaxParts = 16;  // of one lease
inline constexpr uint64_t kMaxPartBytes = 64 << 20;
inline constexpr uint32_t kMaxRanges = 1024;  // of one copy: it fits into an exchange

// Leases parts, end to end. The same id twice is the same lease.
struct Open {
  uint64_t lease = 0;  // unguessable: who knows it may copy and close
  uint32_t parts = 0;
  uint64_t part_bytes = 0;  // at most
};

// The answer.
struct Opened {
  uint64_t address = 0;
  uint64_t part_bytes = 0;
};

// Of a registered buffer.
struct Range {
  uint64_t address = 0;
  uint64_t length = 0;
  AccessKey key;  // of the buffer
};

// Copies ranges into a part, where they lie end to end, or the part to the ranges. Answered with
// nothing, once it is done. The sequence numbers of each part ascend from 1; one that was seen is
// not done again.
struct Copy {
  uint64_t lease = 0;
  uint64_t sequence = 0;
  uint32_t part = 0;
  bool into_part = false;
  std::vector<Range> ranges;
};

// Answered with nothing, when the lease copies nothing any more.
struct Close {
  uint64_t lease = 0;
};

using Hello = std::variant<Open, Copy, Close>;
Bytes encode(const Hello& hello);
// kProtocol when it cannot be understood, or exceeds a limit.
Result<Hello> decode_hello(ByteView bytes);

Bytes encode_answer(const Opened& opened);
Result<Opened> decode_answer(ByteView bytes);

}  // namespace te::stage
