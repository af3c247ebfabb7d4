// The bytes of a fuzzer that are a program, taken from the front; zeros behind their end.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return at_ == size_; }
  uint8_t byte() { return at_ < size_ ? data_[at_++] : 0; }
  uint16_t word() {
    const uint16_t low = byte();
    return static_cast<uint16_t>(low | (byte() << 8));
  }
  std::string take(size_t length) {
    length = std::min(length, size_ - at_);
    std::string bytes(reinterpret_cast<const char*>(data_) + at_, length);
    at_ += length;
    return bytes;
  }

 private:
  const uint8_t* data_;
  const size_t size_;
  size_t at_ = 0;
};
