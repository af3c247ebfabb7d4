// Fuzzes what a peer says of its libfabric endpoints, and the keys of its buffers.
//
// The input is as offer_and_key.h has it. A place must lie within what was asked.
#include "offer_and_key.h"
#include "transport/fabric/message.h"

namespace {

using te::fabric::Key;
using te::fabric::Offer;

void check_range(const Offer& offer, size_t card, const std::byte* key, uint64_t address,
                 uint64_t length, uint64_t piece) {
  Key::Place place;
  if (!Key::place(offer, card, key, address, length, &place)) return;
  require(Key::reaches(key, card));
  require(place.length > 0 && place.length <= length && place.length <= piece);
  require(offer.virtual_addresses ? place.address == address : place.address < piece);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check_offer_and_key<Offer, Key>({reinterpret_cast<const char*>(data), size}, check_range);
  return 0;
}
