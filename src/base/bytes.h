// Bounded readers and writers of little-endian bytes: the only way foreign bytes become numbers.
//
// A reader that runs over its end, or over a limit, turns bad and stays so: it then yields zeros
// and empty views, and the caller checks ok() once at the end.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace te {

using ByteView = std::span<const std::byte>;
using Bytes = std::string;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire format is little-endian");

inline ByteView as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

template <typename T>
T load(const std::byte* from) {
  static_assert(std::is_trivially_copyable_v<T>);
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
void store(std::byte* to, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::memcpy(to, &value, sizeof value);
}

class ByteReader {
 public:
  explicit ByteReader(ByteView bytes) : rest_(bytes) {}

  template <typename T>
  T number() {
    static_assert(std::is_integral_v<T>);
    if (!ok_ || rest_.size() < sizeof(T)) {
      ok_ = false;
      return T{};
    }
    const T value = load<T>(rest_.data());
    rest_ = rest_.subspan(sizeof(T));
    return value;
  }

  // `length` bytes, as a view into the input.
  std::string_view view(uint64_t length);
  // A 32-bit length, then that many bytes; more than `limit` is bad.
  std::string_view text(uint32_t limit);

  uint64_t remaining() const { return ok_ ? rest_.size() : 0; }
  bool ok() const { return ok_; }
  // ok, and nothing left over.
  bool complete() const { return ok_ && rest_.empty(); }

 private:
  ByteView rest_;
  bool ok_ = true;
};

class ByteWriter {
 public:
  template <typename T>
  void number(T value) {
    static_assert(std::is_integral_v<T>);
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void raw(std::string_view bytes) { out_.append(bytes); }
  void text(std::string_view bytes) {
    number(static_cast<uint32_t>(bytes.size()));
    raw(bytes);
  }
  void reserve(size_t size) { out_.reserve(size); }
  Bytes take() { return std::move(out_); }

 private:
  Bytes out_;
};

}  // namespace te
