// The bytes with which every connection begins, and the frames of the control channel. docs/wire.md
// describes them. Pure: encoding and decoding only.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "transfer_engine/status.h"
#include "transfer_engine/types.h"

namespace te::wire {

inline constexpr uint32_t kMagic = 0x31455454;  // "TTE1" in memory order
inline constexpr uint16_t kVersion = 3;         // spoken here
inline constexpr uint16_t kOldestVersion = 3;   // understood here

enum class ChannelKind : uint16_t { kControl = 0, kTcpData = 1 };

// The first bytes of the side that connects.
struct Hello {
  static constexpr size_t kSize = 56;
  static constexpr size_t kPrefix = 8;  // enough to know the magic and the version

  uint16_t version = kVersion;
  uint16_t oldest_version = kOldestVersion;
  ChannelKind kind = ChannelKind::kControl;
  uint16_t lane = 0;  // of kTcpData
  uint64_t features = 0;
  uint64_t instance = 0;         // who connects
  uint64_t target_instance = 0;  // whom it wants; 0: whoever is there
  uint64_t session = 0;          // of kTcpData: lanes of one session share it; a secret
  uint64_t epoch = 0;  // of kTcpData: connections of the session's older epochs are ended first

  std::array<char, kSize> encode() const;
  // kProtocol when these are not our bytes, kUnsupported when the versions have nothing in common.
  static Result<Hello> decode(ByteView bytes);
};

// Its answer. After a code other than kOk the connection is closed.
struct HelloAnswer {
  static constexpr size_t kSize = 40;

  uint16_t version = kVersion;
  Code code = Code::kOk;
  uint64_t features = 0;
  uint64_t instance = 0;  // who answers
  uint32_t window = 0;    // of kTcpData: requests that may be outstanding
  uint32_t reserved = 0;

  std::array<char, kSize> encode() const;
  static Result<HelloAnswer> decode(ByteView bytes);
};

// What a refusal means, for people.
Status refusal(const HelloAnswer& answer, const std::string& peer);
// Why a peer that said nothing for as long as a peer may is given up, for people.
std::string silence(uint64_t connect_timeout_ms);

enum class ControlType : uint16_t {
  kPing = 1,  // answered with the same body
  kDescribe =
      2,  // body: u64 generation known already (0: none); answer: descriptor, or empty if unchanged
  kNotify = 3,    // body: u64 sender, u64 sequence number, text name, text message
  kExchange = 4,  // body: text transport, text hello; answer: that transport's, opaque as well
  kLinks = 5,     // body: nothing; answer: the engine's own links, as JSON for people's programs
  kAnswer = 0x8000,
};

// Before every body on the control channel, in both directions.
struct ControlHeader {
  static constexpr size_t kSize = 24;
  static constexpr uint64_t kMaxRequest = 1 << 20;  // bytes of a request's body

  ControlType type = ControlType::kPing;
  Code code = Code::kOk;  // of an answer; other than kOk: the body is the text
  uint64_t id = 0;
  uint64_t length = 0;  // of the body

  std::array<char, kSize> encode() const;
  static Result<ControlHeader> decode(ByteView bytes);
};

inline constexpr uint32_t kMaxNotificationText = 512 << 10;

struct NotifyBody {
  uint64_t sender = 0;
  uint64_t sequence = 0;
  Notification notification;

  Bytes encode() const;
  static Result<NotifyBody> decode(std::string_view bytes);
};

inline constexpr uint32_t kMaxTransportName = 64;
inline constexpr uint32_t kMaxExchange = 64 << 10;  // bytes of a hello, and of its answer

// What a transport says to the same transport of a peer.
struct ExchangeBody {
  std::string transport;
  Bytes hello;

  Bytes encode() const;
  static Result<ExchangeBody> decode(std::string_view bytes);
};

}  // namespace te::wire
