#include "transport/rails/advertisement.h"

namespace te::rails {

Bytes Advertisement::encode() const {
  ByteWriter out;
  out.number(kWireVersion);
  out.number(pieces);
  out.text(driver);
  out.number(static_cast<uint32_t>(nics.size()));
  for (const Nic& nic : nics) {
    out.text(nic.device);
    out.number(nic.bytes_per_s);
    out.text(nic.address);
  }
  return out.take();
}

Result<Advertisement> Advertisement::decode(ByteView bytes) {
  const Status bad(Code::kProtocol, "what the peer says of its NICs cannot be understood");
  ByteReader in(bytes);
  if (in.number<uint32_t>() != kWireVersion) return bad;
  Advertisement advertisement;
  advertisement.pieces = in.number<uint32_t>();
  advertisement.driver = in.text(kMaxDriverBytes);
  const auto count = in.number<uint32_t>();
  if (!in.ok() || count == 0 || count > kMaxNics || advertisement.pieces == 0 ||
      advertisement.pieces > Key::kMaxPieces) {
    return bad;
  }
  for (uint32_t i = 0; i < count && in.ok(); ++i) {
    Nic nic;
    nic.device = in.text(kMaxName);
    nic.bytes_per_s = in.number<uint64_t>();
    nic.address = in.text(kMaxDriverBytes);
    advertisement.nics.push_back(std::move(nic));
  }
  if (!in.complete()) return bad;
  return advertisement;
}

}  // namespace te::rails
