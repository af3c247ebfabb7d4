// For fuzzers of what a peer says of its NICs (an advertisement) and of a buffer (a key).
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "require.h"
#include "transfer_engine/status.h"
#include "transport/rails/key.h"

// The input is two bytes, the length of an offer, then the offer, then a key, filled up with zeros.
// An offer that was accepted must survive its own encoder, and what is found of ranges at the
// borders of the pieces that the key tells of must lie within what was asked.
template <typename Advertisement>
void check_advertisement_and_key(std::string_view input) {
  if (input.size() < 2) return;
  const size_t wanted = static_cast<uint8_t>(input[0]) | static_cast<uint8_t>(input[1]) << 8;
  input.remove_prefix(2);
  const std::string_view bytes = input.substr(0, wanted);
  const te::Result<Advertisement> advertisement = Advertisement::decode(te::as_bytes(bytes));
  if (!advertisement.ok()) return require(advertisement.code() == te::Code::kProtocol);
  require(advertisement->encode() == bytes);
  // Of its exact size: the sanitizer sees what is read behind it.
  std::vector<std::byte> key(advertisement->key_size());
  for (size_t i = 0; i < key.size() && bytes.size() + i < input.size(); ++i) {
    key[i] = static_cast<std::byte>(input[bytes.size() + i]);
  }
  const auto base = te::load<uint64_t>(key.data());
  const auto piece = te::load<uint64_t>(key.data() + 8);
  for (size_t nic = 0; nic < advertisement->nics.size(); ++nic) {
    for (const uint64_t address : {base, base - 1, base + piece, base + 8 * piece, UINT64_MAX}) {
      for (const uint64_t length : {uint64_t{1}, uint64_t{1} << 20, UINT64_MAX}) {
        te::rails::Key::Place place;
        if (!te::rails::Key::find(key.data(), nic, advertisement->pieces, address, length, &place))
          continue;
        require((te::rails::Key::nics_of(key.data()) >> nic & 1) != 0);
        require(place.length > 0 && place.length <= length && place.length <= piece);
        require(place.offset < piece);
      }
    }
  }
}
