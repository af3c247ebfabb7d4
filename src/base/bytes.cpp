#include "base/bytes.h"

namespace te {

std::string_view ByteReader::view(uint64_t length) {
  if (!ok_ || rest_.size() < length) {
    ok_ = false;
    return {};
  }
  const std::string_view result(reinterpret_cast<const char*>(rest_.data()), length);
  rest_ = rest_.subspan(length);
  return result;
}

std::string_view ByteReader::text(uint32_t limit) {
  const uint32_t length = number<uint32_t>();
  if (length > limit) ok_ = false;
  return view(length);
}

}  // namespace te
