// Fuzzes what a peer says of its NICs and of the keys of its buffers, and what two sides say to
// connect, for every driver.
//
// The input's first byte chooses: 0, a hello over verbs; 1, its answer; 2, a hello over libfabric.
// Else the rest is two bytes, the length of an advertisement, then the advertisement, then a key,
// filled up with zeros. What was accepted must survive its own encoder.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "require.h"
#include "transport/fabric/message.h"
#include "transport/rails/advertisement.h"
#include "transport/rdma/message.h"

namespace {

using te::rails::Advertisement;
using te::rails::Key;

template <typename T, typename Encode>
void require_same(const te::Result<T>& decoded, std::string_view bytes, Encode&& encode) {
  require(decoded.ok() ? encode(*decoded) == bytes : decoded.code() == te::Code::kProtocol);
}

template <typename T>
void require_same(std::string_view bytes) {
  require_same(T::decode(te::as_bytes(bytes)), bytes,
               [](const T& value) { return value.encode(); });
}

// What is found of ranges at the borders of the pieces that the key tells of must lie within what
// was asked.
void check_key(const Advertisement& advertisement, std::string_view bytes) {
  // Of its exact size: the sanitizer sees what is read behind it.
  std::vector<std::byte> key(advertisement.key_size());
  for (size_t i = 0; i < key.size() && i < bytes.size(); ++i) {
    key[i] = static_cast<std::byte>(bytes[i]);
  }
  const auto base = te::load<uint64_t>(key.data());
  const auto piece = te::load<uint64_t>(key.data() + 8);
  for (size_t nic = 0; nic < advertisement.nics.size(); ++nic) {
    for (const uint64_t address : {base, base - 1, base + piece, base + 8 * piece, UINT64_MAX}) {
      for (const uint64_t length : {uint64_t{1}, uint64_t{1} << 20, UINT64_MAX}) {
        Key::Place place;
        if (!Key::find(key.data(), nic, advertisement.pieces, address, length, &place)) continue;
        require((Key::nics_of(key.data()) >> nic & 1) != 0);
        require(place.length > 0 && place.length <= length && place.length <= piece);
        require(place.offset < piece);
      }
    }
  }
}

void check_advertisement(std::string_view input) {
  if (input.size() < 2) return;
  const size_t wanted = static_cast<uint8_t>(input[0]) | static_cast<uint8_t>(input[1]) << 8;
  input.remove_prefix(2);
  const std::string_view bytes = input.substr(0, wanted);
  require_same<Advertisement>(bytes);
  const te::Result<Advertisement> advertisement = Advertisement::decode(te::as_bytes(bytes));
  if (!advertisement.ok()) return;
  check_key(*advertisement, input.substr(bytes.size()));
  require_same<te::fabric::ProviderInfo>(advertisement->driver);
  for (const Advertisement::Nic& nic : advertisement->nics) {
    require_same<te::fabric::NicAddress>(nic.address);
    require_same<te::rdma::NicAddress>(nic.address);
  }
  const auto fabric = te::fabric::Advertised::decode(*advertisement);
  require(!fabric.ok() || fabric->nics.size() == advertisement->nics.size());
  const auto rdma = te::rdma::decode_addresses(*advertisement);
  require(!rdma.ok() || rdma->size() == advertisement->nics.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 0) {
    require_same(te::rdma::decode_hello(te::as_bytes(bytes)), bytes,
                 [](const te::rdma::Hello& hello) { return te::rdma::encode(hello); });
  } else if (data[0] == 1) {
    require_same(te::rdma::decode_answer(te::as_bytes(bytes)), bytes,
                 [](const te::rdma::Address& address) { return te::rdma::encode_answer(address); });
  } else if (data[0] == 2) {
    require_same<te::fabric::Hello>(bytes);
  } else {
    check_advertisement(bytes);
  }
  return 0;
}
