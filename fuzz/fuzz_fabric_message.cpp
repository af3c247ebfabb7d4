// Fuzzes what a peer says of its libfabric endpoints, and the keys of its buffers.
//
// The input is two bytes, the length of an offer, then the offer, then a key, filled up with zeros.
// An offer that was accepted must survive its own encoder; a place must lie within what was asked.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "transport/fabric/message.h"

namespace {

using te::fabric::Key;
using te::fabric::Offer;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_key(const Offer& offer, const std::vector<std::byte>& key) {
  const auto base = te::load<uint64_t>(key.data());
  const auto piece = te::load<uint64_t>(key.data() + 8);
  for (size_t card = 0; card < offer.cards.size(); ++card) {
    for (const uint64_t address : {base, base - 1, base + piece, base + 8 * piece, UINT64_MAX}) {
      for (const uint64_t length : {uint64_t{1}, uint64_t{1} << 20, UINT64_MAX}) {
        Key::Place place;
        if (!Key::place(offer, card, key.data(), address, length, &place)) continue;
        require(Key::reaches(key.data(), card));
        require(place.length > 0 && place.length <= length && place.length <= piece);
        require(offer.virtual_addresses ? place.address == address : place.address < piece);
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t wanted = data[0] | (data[1] << 8);
  const size_t length = wanted < size - 2 ? wanted : size - 2;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, length);
  const te::Result<Offer> offer = Offer::decode(te::as_bytes(bytes));
  if (!offer.ok()) {
    require(offer.code() == te::Code::kProtocol);
    return 0;
  }
  require(offer->encode() == bytes);
  // Of its exact size: the sanitizer sees what is read behind it.
  std::vector<std::byte> key(Key::size(*offer));
  for (size_t i = 0; i < key.size() && 2 + length + i < size; ++i) {
    key[i] = std::byte{data[2 + length + i]};
  }
  check_key(*offer, key);
  return 0;
}
