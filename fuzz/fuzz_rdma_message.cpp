// Fuzzes what a peer says of its RDMA NICs and the keys of its buffers, and what two sides say to
// connect.
//
// The input's first byte chooses: 0, a hello; 1, an answer, which when accepted must survive their
// own encoders; else the rest is as advertisement_and_key.h has it.
#include "advertisement_and_key.h"
#include "transport/rdma/message.h"

namespace {

using te::rdma::Address;
using te::rdma::Advertisement;
using te::rdma::Hello;

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
    check_advertisement_and_key<Advertisement>(bytes);
  }
  return 0;
}
