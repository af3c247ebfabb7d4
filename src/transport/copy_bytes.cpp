#include "transport/copy_bytes.h"

#include <cstring>

#include "base/guarded_copy.h"

#if __has_include(<emmintrin.h>)
#include <emmintrin.h>
#endif

namespace te {
namespace {

#if __has_include(<emmintrin.h>)
template <bool kAhead>
void stream_bytes(std::byte* to, const std::byte* from, size_t length) {
  constexpr size_t kLine = 64, kDistance = 512;
  if (length < 4 * kLine) {
    std::memcpy(to, from, length);
    return;
  }
  const size_t head = (kLine - reinterpret_cast<uintptr_t>(to) % kLine) % kLine;
  std::memcpy(to, from, head);
  size_t at = head;
  for (; at + kLine <= length; at += kLine) {
    const auto* source = reinterpret_cast<const __m128i*>(from + at);
    auto* target = reinterpret_cast<__m128i*>(to + at);
    if constexpr (kAhead) {
      _mm_prefetch(reinterpret_cast<const char*>(from + at + kDistance), _MM_HINT_NTA);
    }
    const __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1),
                  c = _mm_loadu_si128(source + 2), d = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, a);
    _mm_stream_si128(target + 1, b);
    _mm_stream_si128(target + 2, c);
    _mm_stream_si128(target + 3, d);
  }
  _mm_sfence();
  std::memcpy(to + at, from + at, length - at);
}
#else
template <bool kAhead>
void stream_bytes(std::byte* to, const std::byte* from, size_t length) {
  std::memcpy(to, from, length);
}
#endif

// Whether two ranges share a byte: then only memmove is right.
bool overlap(const std::byte* a, const std::byte* b, size_t length) {
  return a < b ? static_cast<size_t>(b - a) < length : static_cast<size_t>(a - b) < length;
}

CopyResult guarded(std::byte* to, const std::byte* from, size_t length, CopyWay way) {
  switch (way) {
    case CopyWay::kMemcpy:
      return guarded_copy(to, from, length);
    case CopyWay::kStreaming:
      return guarded_copy(to, from, length, stream_bytes<false>);
    case CopyWay::kStreamingAhead:
      return guarded_copy(to, from, length, stream_bytes<true>);
  }
  return guarded_copy(to, from, length);
}

}  // namespace

void copy_bytes(std::byte* to, const std::byte* from, size_t length, CopyWay way) {
  switch (way) {
    case CopyWay::kMemcpy:
      std::memcpy(to, from, length);
      return;
    case CopyWay::kStreaming:
      return stream_bytes<false>(to, from, length);
    case CopyWay::kStreamingAhead:
      return stream_bytes<true>(to, from, length);
  }
}

Code copy_slice(const Slice& slice, std::byte* remote, CopyWay way) {
  const bool write = slice.opcode == Opcode::kWrite;
  std::byte* to = write ? remote : slice.local;
  const std::byte* from = write ? slice.local : remote;
  const CopyResult result = overlap(to, from, slice.length) ? guarded_move(to, from, slice.length)
                                                            : guarded(to, from, slice.length, way);
  if (result == CopyResult::kDone) return Code::kOk;
  const bool local = write == (result == CopyResult::kBadSource);
  return local ? Code::kInvalidArgument : Code::kPermission;
}

}  // namespace te
