#include "transport/fabric/message.h"

#include "transport/rails/hello.h"

namespace te::fabric {

Bytes ProviderInfo::encode() const {
  ByteWriter out;
  out.text(name);
  out.number(protocol);
  out.number(address_format);
  out.number(static_cast<uint8_t>(virtual_addresses));
  return out.take();
}

Result<ProviderInfo> ProviderInfo::decode(ByteView bytes) {
  ByteReader in(bytes);
  ProviderInfo provider;
  provider.name = in.text(rails::Advertisement::kMaxName);
  provider.protocol = in.number<uint32_t>();
  provider.address_format = in.number<uint32_t>();
  const auto virtual_addresses = in.number<uint8_t>();
  provider.virtual_addresses = virtual_addresses == 1;
  if (in.complete() && virtual_addresses <= 1) return provider;
  return Status(Code::kProtocol, "the peer's libfabric provider cannot be understood");
}

Bytes NicAddress::encode() const {
  ByteWriter out;
  out.text(name);
  out.number(liveness_address);
  out.number(liveness_key);
  return out.take();
}

Result<NicAddress> NicAddress::decode(ByteView bytes) {
  ByteReader in(bytes);
  NicAddress address;
  address.name = in.text(kMaxName);
  address.liveness_address = in.number<uint64_t>();
  address.liveness_key = in.number<uint64_t>();
  if (in.complete()) return address;
  return Status(Code::kProtocol, "the address of the peer's libfabric endpoint is not one");
}

Result<Advertised> Advertised::decode(const rails::Advertisement& advertisement) {
  Result<ProviderInfo> provider = ProviderInfo::decode(as_bytes(advertisement.driver));
  if (!provider.ok()) return provider.status();
  Advertised advertised{provider.take(), {}};
  for (const rails::Advertisement::Nic& nic : advertisement.nics) {
    Result<NicAddress> address = NicAddress::decode(as_bytes(nic.address));
    if (!address.ok()) return address.status();
    advertised.nics.push_back(address.take());
  }
  return advertised;
}

Bytes Hello::encode() const {
  ByteWriter out;
  out.number(epoch);
  if (type == Type::kTouch) {
    out.number(static_cast<uint32_t>(ranges.size()));
    for (const Range& range : ranges) {
      out.number(range.address);
      out.number(range.length);
      out.number(range.key);
      out.number(static_cast<uint8_t>(range.write ? 1 : 0));
    }
  }
  return rails::Hello{static_cast<uint8_t>(type), nic, id, out.take()}.encode();
}

Result<Hello> Hello::decode(ByteView bytes) {
  const Result<rails::Hello> head = rails::Hello::decode(bytes);
  if (!head.ok()) return head.status();
  ByteReader in(as_bytes(head->driver));
  Hello hello{static_cast<Type>(head->type), head->nic, head->id, in.number<uint64_t>()};
  const Status bad(Code::kProtocol, "fabric: the peer's exchange cannot be understood");
  if (hello.type == Type::kTouch) {
    const auto count = in.number<uint32_t>();
    if (!in.ok() || count > kMaxRanges) return bad;
    for (uint32_t i = 0; i < count && in.ok(); ++i) {
      Range range;
      range.address = in.number<uint64_t>();
      range.length = in.number<uint64_t>();
      range.key = in.number<uint64_t>();
      const auto write = in.number<uint8_t>();
      if (write > 1) return bad;
      range.write = write == 1;
      hello.ranges.push_back(range);
    }
  }
  if (in.complete() && head->type >= 1 && head->type <= 4) return hello;
  return bad;
}

}  // namespace te::fabric
