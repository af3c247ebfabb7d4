#include "buffers.h"

#include <fmt/core.h>

#include "pattern.h"

namespace te::bench {

Result<Buffers> Buffers::allocate(uint64_t bytes) {
  Buffers result;
  for (tool::MappedMemory* memory : {&result.main, &result.limit}) {
    Result<tool::MappedMemory> made = tool::MappedMemory::allocate(bytes);
    if (!made.ok()) return made.status();
    *memory = made.take();
  }
  return result;
}

std::span<std::byte> stripe(std::span<std::byte> bytes, size_t index, size_t count) {
  const size_t length = bytes.size() / count;
  return bytes.subspan(index * length, length);
}

Status expect_pattern(uint64_t seed, uint64_t position, std::span<const std::byte> bytes) {
  const auto wrong = tool::find_mismatch(seed, position, bytes);
  if (!wrong) return {};
  return Status(Code::kInternal,
                fmt::format("byte {} is 0x{:02x} but must be 0x{:02x}; {} of the {} bytes from {} "
                            "are wrong",
                            wrong->position, static_cast<unsigned>(wrong->found),
                            static_cast<unsigned>(wrong->expected), wrong->wrong_bytes,
                            bytes.size(), position));
}

}  // namespace te::bench
