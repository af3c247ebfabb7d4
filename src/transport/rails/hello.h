// What a transport over NICs asks of the same transport of a peer, over the control channel. The
// driver adds bytes of its own.
//
// Values; no state.
#pragma once

#include <cstdint>

#include "base/bytes.h"
#include "transfer_engine/status.h"

namespace te::rails {

struct Hello {
  uint8_t type = 0;  // the driver's
  uint32_t nic = 0;  // of the answering side
  uint64_t id = 0;   // of the connection; unguessable: who knows it may close
  Bytes driver;      // the rest

  Bytes encode() const;
  // kProtocol when it cannot be understood.
  static Result<Hello> decode(ByteView bytes);
};

}  // namespace te::rails
