#include "transport/rails/hello.h"

#include "transport/rails/advertisement.h"

namespace te::rails {

Bytes Hello::encode() const {
  ByteWriter out;
  out.number(kWireVersion);
  out.number(type);
  out.number(nic);
  out.number(id);
  out.raw(driver);
  return out.take();
}

Result<Hello> Hello::decode(ByteView bytes) {
  ByteReader in(bytes);
  Hello hello;
  const auto version = in.number<uint32_t>();
  hello.type = in.number<uint8_t>();
  hello.nic = in.number<uint32_t>();
  hello.id = in.number<uint64_t>();
  hello.driver = in.view(in.remaining());
  if (!in.complete() || version != kWireVersion) {
    return Status(Code::kProtocol, "what the peer's NIC asks cannot be understood");
  }
  return hello;
}

}  // namespace te::rails
