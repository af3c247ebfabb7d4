// Fuzzes the description of a segment: what a peer sends, and what is then looked up in it.
//
// The input is the description. What was accepted must survive its own encoder, and no look-up may
// lead outside of the buffer that it names.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/descriptor.h"
#include "require.h"

namespace {

void check_resolve(const te::Descriptor& descriptor, uint64_t offset, uint64_t length) {
  uint64_t address = 0;
  const te::Result<size_t> found = descriptor.resolve({offset, length}, &address);
  if (!found.ok()) {
    require(found.code() == te::Code::kOutOfRange || found.code() == te::Code::kPermission ||
            found.code() == te::Code::kInvalidArgument);
    return;
  }
  const te::RemoteBuffer& buffer = descriptor.buffer(*found);
  require(contains(buffer.rights, te::Rights::kRead));
  require(address >= buffer.address && length <= buffer.length &&
          address - buffer.address <= buffer.length - length);
  require(offset == address || offset - buffer.offset == address - buffer.address);
}

void check_buffer(const te::Descriptor& descriptor, size_t index) {
  const te::RemoteBuffer& buffer = descriptor.buffer(index);
  require(buffer.length > 0 && buffer.location < descriptor.locations.size());
  for (const uint64_t begin : {buffer.offset, buffer.address}) {
    for (const uint64_t at : {begin - 1, begin, begin + buffer.length / 2,
                              begin + buffer.length - 1, begin + buffer.length}) {
      for (const uint64_t length :
           {uint64_t{0}, uint64_t{1}, buffer.length, buffer.length + 1, UINT64_MAX}) {
        check_resolve(descriptor, at, length);
      }
    }
  }
  for (size_t transport = 0; transport < descriptor.transports.size(); ++transport) {
    const std::byte* key = descriptor.key(index, transport);
    // Read to its end: the sanitizer sees where that leads.
    volatile std::byte last{};
    const uint32_t size = descriptor.transports[transport].key_size;
    for (uint32_t i = 0; key != nullptr && i < size; ++i) last = key[i];
    (void)last;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const te::Result<te::Descriptor> descriptor = te::Descriptor::decode(bytes);
  if (!descriptor.ok()) {
    require(descriptor.code() == te::Code::kProtocol);
    return 0;
  }
  const te::Bytes encoded = descriptor->encode();
  require(encoded.size() == size);
  const te::Result<te::Descriptor> again = te::Descriptor::decode(encoded);
  require(again.ok() && again->encode() == encoded);
  for (size_t i = 0; i < std::min<size_t>(descriptor->size(), 8); ++i) {
    check_buffer(*descriptor, i);
  }
  for (size_t i = 1; i < descriptor->size(); ++i) {
    const te::RemoteBuffer& before = descriptor->buffer(i - 1);
    require(descriptor->buffer(i).offset >= before.offset + before.length);
  }
  for (const auto& transport : descriptor->transports) {
    require(descriptor->transport_index(transport.name) >= 0);
  }
  return 0;
}
