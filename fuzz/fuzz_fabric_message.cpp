// Fuzzes what a peer says of its libfabric endpoints, and the keys of its buffers.
//
// The input is as advertisement_and_key.h has it.
#include "advertisement_and_key.h"
#include "transport/fabric/message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  check_advertisement_and_key<te::fabric::Advertisement>(
      {reinterpret_cast<const char*>(data), size});
  return 0;
}
