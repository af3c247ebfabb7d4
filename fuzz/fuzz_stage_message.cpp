// Fuzzes what two engines say to stage memory that no transport reaches.
//
// The input's first byte chooses: 0, a hello; else an answer. What was accepted must survive its
// own encoder, and keep to the limits.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/stage_message.h"
#include "require.h"

namespace {

void check_limits(const te::stage::Hello& hello) {
  if (const auto* open = std::get_if<te::stage::Open>(&hello)) {
    require(open->parts >= 1 && open->parts <= te::stage::kMaxParts);
    require(open->part_bytes >= 1 && open->part_bytes <= te::stage::kMaxPartBytes);
  } else if (const auto* copy = std::get_if<te::stage::Copy>(&hello)) {
    require(copy->part < te::stage::kMaxParts && copy->sequence >= 1);
    require(!copy->ranges.empty() && copy->ranges.size() <= te::stage::kMaxRanges);
    uint64_t bytes = 0;
    for (const te::stage::Range& range : copy->ranges) {
      require(range.length >= 1 && range.length <= te::stage::kMaxPartBytes);
      bytes += range.length;
    }
    require(bytes <= te::stage::kMaxPartBytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 0) {
    const te::Result<te::stage::Hello> hello = te::stage::decode_hello(te::as_bytes(bytes));
    if (!hello.ok()) {
      require(hello.code() == te::Code::kProtocol);
      return 0;
    }
    check_limits(*hello);
    require(te::stage::encode(*hello) == bytes);
  } else {
    const te::Result<te::stage::Opened> opened = te::stage::decode_answer(te::as_bytes(bytes));
    require(opened.ok() ? te::stage::encode_answer(*opened) == bytes
                        : opened.code() == te::Code::kProtocol);
  }
  return 0;
}
