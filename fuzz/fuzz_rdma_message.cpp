// Fuzzes what a peer says of its RDMA cards and the keys of its buffers, and what two sides say to
// connect.
//
// The input's first byte chooses: 0, a hello; 1, an answer; else two bytes, the length of an offer,
// then the offer, then a key, filled up with zeros. What was accepted must survive its own encoder;
// a range must lie within what was asked.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <string_view>
#include <vector>

#include "transport/rdma/message.h"

namespace {

using te::rdma::Address;
using te::rdma::Hello;
using te::rdma::Key;
using te::rdma::Offer;

void require(bool holds) {
  if (!holds) std::abort();
}

void check_key(const Offer& offer, const std::vector<std::byte>& key) {
  const auto base = te::load<uint64_t>(key.data());
  const auto piece = te::load<uint64_t>(key.data() + 8);
  for (size_t card = 0; card < offer.cards.size(); ++card) {
    for (const uint64_t address : {base, base - 1, base + piece, base + 8 * piece, UINT64_MAX}) {
      for (const uint64_t asked : {uint64_t{1}, uint64_t{1} << 20, UINT64_MAX}) {
        uint64_t length = asked;
        uint32_t found = 0;
        if (!Key::find(offer, card, key.data(), address, &length, &found)) continue;
        require((Key::cards_of(key.data()) >> card & 1) != 0);
        require(length > 0 && length <= asked && length <= piece);
      }
    }
  }
}

void check_offer(std::string_view input) {
  if (input.size() < 2) return;
  const size_t wanted = static_cast<uint8_t>(input[0]) | static_cast<uint8_t>(input[1]) << 8;
  input.remove_prefix(2);
  const std::string_view bytes = input.substr(0, wanted);
  const te::Result<Offer> offer = Offer::decode(te::as_bytes(bytes));
  if (!offer.ok()) return require(offer.code() == te::Code::kProtocol);
  require(offer->encode() == bytes);
  // Of its exact size: the sanitizer sees what is read behind it.
  std::vector<std::byte> key(Key::size(*offer));
  for (size_t i = 0; i < key.size() && bytes.size() + i < input.size(); ++i) {
    key[i] = static_cast<std::byte>(input[bytes.size() + i]);
  }
  check_key(*offer, key);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 0) {
    const te::Result<Hello> hello = te::rdma::decode_hello(te::as_bytes(bytes));
    require(hello.ok() ? te::rdma::encode(*hello) == bytes : hello.code() == te::Code::kProtocol);
  } else if (data[0] == 1) {
    const te::Result<Address> answer = te::rdma::decode_answer(te::as_bytes(bytes));
    require(answer.ok() ? te::rdma::encode_answer(*answer) == bytes
                        : answer.code() == te::Code::kProtocol);
  } else {
    check_offer(bytes);
  }
  return 0;
}
