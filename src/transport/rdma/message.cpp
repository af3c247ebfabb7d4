#include "transport/rdma/message.h"

#include <algorithm>

namespace te::rdma {
namespace {

constexpr uint32_t kVersion = 2;
constexpr uint8_t kConnect = 1;
constexpr uint8_t kDisconnect = 2;
constexpr uint32_t kMax24 = 0xFFFFFF;

Status bad(const char* what) {
  return Status(Code::kProtocol, std::string("rdma: ") + what + " cannot be understood");
}

}  // namespace

Bytes Advertisement::encode() const {
  ByteWriter out;
  out.number(kVersion);
  out.number(pieces);
  out.number(static_cast<uint32_t>(nics.size()));
  for (const Nic& nic : nics) {
    out.text(nic.device);
    out.number(static_cast<uint8_t>(nic.infiniband));
  }
  return out.take();
}

Result<Advertisement> Advertisement::decode(ByteView bytes) {
  ByteReader in(bytes);
  Advertisement advertisement;
  const auto version = in.number<uint32_t>();
  advertisement.pieces = in.number<uint32_t>();
  const auto count = in.number<uint32_t>();
  if (!in.ok() || version != kVersion || count == 0 || count > kMaxNics ||
      advertisement.pieces == 0 || advertisement.pieces > kMaxPieces) {
    return bad("what the peer offers");
  }
  for (uint32_t i = 0; i < count; ++i) {
    Nic nic;
    nic.device = in.text(kMaxName);
    const auto infiniband = in.number<uint8_t>();
    if (infiniband > 1) return bad("what the peer offers");
    nic.infiniband = infiniband == 1;
    advertisement.nics.push_back(std::move(nic));
  }
  if (!in.complete()) return bad("what the peer offers");
  return advertisement;
}

void Address::encode(ByteWriter& out) const {
  out.raw({reinterpret_cast<const char*>(gid.data()), gid.size()});
  out.number(lid);
  out.number(queue_pair);
  out.number(first_number);
  out.number(mtu);
  out.number(reads);
  out.number(static_cast<uint8_t>(infiniband));
}

bool Address::decode(ByteReader& in, Address* address) {
  const std::string_view gid = in.view(sizeof(Gid));
  if (!in.ok()) return false;
  std::copy(gid.begin(), gid.end(), address->gid.begin());
  address->lid = in.number<uint16_t>();
  address->queue_pair = in.number<uint32_t>();
  address->first_number = in.number<uint32_t>();
  address->mtu = in.number<uint8_t>();
  address->reads = in.number<uint8_t>();
  const auto infiniband = in.number<uint8_t>();
  address->infiniband = infiniband == 1;
  return in.ok() && address->queue_pair <= kMax24 && address->first_number <= kMax24 &&
         address->mtu >= 1 && address->mtu <= 5 && infiniband <= 1;
}

Bytes encode(const Hello& hello) {
  ByteWriter out;
  out.number(kVersion);
  if (const Connect* connect = std::get_if<Connect>(&hello)) {
    out.number(kConnect);
    out.number(connect->id);
    out.number(connect->nic);
    connect->from.encode(out);
  } else {
    const std::vector<uint64_t>& ids = std::get<Disconnect>(hello).ids;
    out.number(kDisconnect);
    out.number(static_cast<uint32_t>(ids.size()));
    for (const uint64_t id : ids) out.number(id);
  }
  return out.take();
}

Result<Hello> decode_hello(ByteView bytes) {
  ByteReader in(bytes);
  const auto version = in.number<uint32_t>();
  const auto kind = in.number<uint8_t>();
  if (!in.ok() || version != kVersion) return bad("the peer's hello");
  if (kind == kConnect) {
    Connect connect;
    connect.id = in.number<uint64_t>();
    connect.nic = in.number<uint32_t>();
    if (!Address::decode(in, &connect.from) || !in.complete()) return bad("the peer's hello");
    return Hello(connect);
  }
  if (kind != kDisconnect) return bad("the peer's hello");
  Disconnect disconnect;
  const auto count = in.number<uint32_t>();
  if (count > Disconnect::kMaxIds) return bad("the peer's hello");
  for (uint32_t i = 0; i < count && in.ok(); ++i) disconnect.ids.push_back(in.number<uint64_t>());
  if (!in.complete()) return bad("the peer's hello");
  return Hello(std::move(disconnect));
}

Bytes encode_answer(const Address& address) {
  ByteWriter out;
  out.number(kVersion);
  address.encode(out);
  return out.take();
}

Result<Address> decode_answer(ByteView bytes) {
  ByteReader in(bytes);
  Address address;
  if (in.number<uint32_t>() != kVersion || !Address::decode(in, &address) || !in.complete()) {
    return bad("the peer's answer");
  }
  return address;
}

}  // namespace te::rdma
