#include "transport/rails/key.h"

#include <algorithm>

#include "core/descriptor.h"

namespace te::rails {

uint32_t Key::most_pieces(size_t nics) {
  const size_t keys = (Descriptor::kMaxKeySize - kKeysAt) / sizeof(uint64_t);
  return static_cast<uint32_t>(std::clamp<size_t>(keys / nics, 1, kMaxPieces));
}

Bytes Key::encode() const {
  ByteWriter out;
  out.number(base);
  out.number(piece_bytes);
  out.number(nics);
  out.number(near);
  for (const uint64_t key : keys) out.number(key);
  return out.take();
}

bool Key::find(const std::byte* key, size_t nic, uint32_t pieces, uint64_t address, uint64_t length,
               Place* place) {
  const auto base = load<uint64_t>(key);
  const auto piece_bytes = load<uint64_t>(key + 8);
  if (address < base || piece_bytes == 0 || (nics_of(key) >> nic & 1) == 0) return false;
  const uint64_t piece = (address - base) / piece_bytes;
  if (piece >= pieces) return false;
  place->offset = (address - base) % piece_bytes;
  place->length = std::min(length, piece_bytes - place->offset);
  place->key = load<uint64_t>(key + kKeysAt + sizeof(uint64_t) * (nic * pieces + piece));
  return true;
}

}  // namespace te::rails
