#include "transport/rdma/message.h"

#include <algorithm>

#include "transport/rails/hello.h"

namespace te::rdma {
namespace {

constexpr uint8_t kConnect = 1;
constexpr uint8_t kDisconnect = 2;
constexpr uint32_t kMax24 = 0xFFFFFF;

Status bad(const char* what) {
  return Status(Code::kProtocol, std::string("rdma: ") + what + " cannot be understood");
}

}  // namespace

Bytes NicAddress::encode() const {
  ByteWriter out;
  out.number(static_cast<uint8_t>(infiniband));
  return out.take();
}

Result<NicAddress> NicAddress::decode(ByteView bytes) {
  ByteReader in(bytes);
  const auto infiniband = in.number<uint8_t>();
  if (!in.complete() || infiniband > 1) return bad("the address of the peer's NIC");
  return NicAddress{infiniband == 1};
}

Result<std::vector<NicAddress>> decode_addresses(const rails::Advertisement& advertisement) {
  if (!advertisement.driver.empty()) return bad("what the peer says of its NICs");
  std::vector<NicAddress> addresses;
  for (const rails::Advertisement::Nic& nic : advertisement.nics) {
    const Result<NicAddress> address = NicAddress::decode(as_bytes(nic.address));
    if (!address.ok()) return address.status();
    addresses.push_back(*address);
  }
  return addresses;
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
  if (const Connect* connect = std::get_if<Connect>(&hello)) {
    connect->from.encode(out);
    return rails::Hello{kConnect, connect->nic, connect->id, out.take()}.encode();
  }
  const std::vector<uint64_t>& ids = std::get<Disconnect>(hello).ids;
  out.number(static_cast<uint32_t>(ids.size()));
  for (const uint64_t id : ids) out.number(id);
  return rails::Hello{kDisconnect, 0, 0, out.take()}.encode();
}

Result<Hello> decode_hello(ByteView bytes) {
  const Result<rails::Hello> hello = rails::Hello::decode(bytes);
  if (!hello.ok()) return hello.status();
  ByteReader in(as_bytes(hello->driver));
  if (hello->type == kConnect) {
    Connect connect;
    connect.id = hello->id;
    connect.nic = hello->nic;
    if (!Address::decode(in, &connect.from) || !in.complete()) return bad("the peer's hello");
    return Hello(connect);
  }
  if (hello->type != kDisconnect || hello->nic != 0 || hello->id != 0) {
    return bad("the peer's hello");
  }
  Disconnect disconnect;
  const auto count = in.number<uint32_t>();
  if (count > Disconnect::kMaxIds) return bad("the peer's hello");
  for (uint32_t i = 0; i < count && in.ok(); ++i) disconnect.ids.push_back(in.number<uint64_t>());
  if (!in.complete()) return bad("the peer's hello");
  return Hello(std::move(disconnect));
}

Bytes encode_answer(const Address& address) {
  ByteWriter out;
  out.number(rails::kWireVersion);
  address.encode(out);
  return out.take();
}

Result<Address> decode_answer(ByteView bytes) {
  ByteReader in(bytes);
  Address address;
  if (in.number<uint32_t>() != rails::kWireVersion || !Address::decode(in, &address) ||
      !in.complete()) {
    return bad("the peer's answer");
  }
  return address;
}

}  // namespace te::rdma
