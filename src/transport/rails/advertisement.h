// What an engine tells its peers of its NICs, in the descriptor: the same for every driver, which
// adds bytes of its own. Bytes from peers are decoded here, and the driver's in its message.cpp.
//
// Values; no state.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "transfer_engine/status.h"
#include "transport/rails/key.h"

namespace te::rails {

// Of all that transports over NICs tell each other.
inline constexpr uint32_t kWireVersion = 4;

struct Advertisement {
  struct Nic {
    std::string device;
    uint64_t bytes_per_s = 0;  // as the device says; 0: it does not
    Bytes address;             // the driver's: how the NIC is reached
  };

  static constexpr uint32_t kMaxNics = Key::kMaxNics;
  static constexpr uint32_t kMaxName = 256;
  static constexpr uint32_t kMaxDriverBytes = 1024;

  uint32_t pieces = 1;  // keys per buffer and NIC, at most Key::kMaxPieces
  Bytes driver;         // what the driver says of all its NICs
  std::vector<Nic> nics;

  uint32_t key_size() const { return Key::size(nics.size(), pieces); }
  Bytes encode() const;
  // kProtocol when it cannot be understood.
  static Result<Advertisement> decode(ByteView bytes);
};

}  // namespace te::rails
