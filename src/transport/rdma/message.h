// What verbs add to advertisements and hellos. Bytes from peers are decoded here, after
// rails::Advertisement and rails::Hello.
//
// Values; no state.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "transfer_engine/status.h"
#include "transport/rails/advertisement.h"
#include "transport/rdma/gid.h"

namespace te::rdma {

using rails::Key;

// How a NIC is reached; the driver's bytes in its advertisement.
struct NicAddress {
  bool infiniband = false;  // else Ethernet: the two kinds do not reach each other

  Bytes encode() const;
  // kProtocol when it cannot be understood.
  static Result<NicAddress> decode(ByteView bytes);
};

// Of every NIC that is advertised.
Result<std::vector<NicAddress>> decode_addresses(const rails::Advertisement& advertisement);

// One end of a connection.
struct Address {
  Gid gid{};
  uint16_t lid = 0;
  uint32_t queue_pair = 0;    // 24 bits
  uint32_t first_number = 0;  // of its packets, 24 bits
  uint8_t mtu = 0;            // as verbs count it, 1 (256 bytes) to 5 (4096)
  uint8_t reads = 0;          // that may be under way towards it
  bool infiniband = false;

  void encode(ByteWriter& out) const;
  // Not ok, or numbers out of range: `in` is bad afterwards, or false.
  static bool decode(ByteReader& in, Address* address);
};

// Asks for the other end of a connection, and is answered with its Address. The same `id` twice is
// the same connection.
struct Connect {
  uint64_t id = 0;  // unguessable: who knows it may close
  uint32_t nic = 0;
  Address from;
};

// The connections are not used any more. Answered with nothing.
struct Disconnect {
  static constexpr uint32_t kMaxIds = 256;
  std::vector<uint64_t> ids;
};

using Hello = std::variant<Connect, Disconnect>;
Bytes encode(const Hello& hello);
Result<Hello> decode_hello(ByteView bytes);

Bytes encode_answer(const Address& address);
Result<Address> decode_answer(ByteView bytes);

}  // namespace te::rdma
