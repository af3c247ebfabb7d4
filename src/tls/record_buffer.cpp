#include "tls/record_buffer.h"

#include <cstring>
#include <new>
#include <utility>

#include "base/per_thread.h"

namespace te::tls {

bool RecordBuffer::make_room() {
  if (capacity_ == kSize) {
    if (empty()) {
      begin_ = end_ = 0;
    } else if (room() < kMaxReceived) {
      std::memmove(bytes_.get(), data(), size());
      end_ -= std::exchange(begin_, 0);
    }
    return true;
  }
  Bytes bytes = std::move(per_thread<Spare>().bytes);
  if (!bytes) bytes.reset(new (std::nothrow) std::byte[kSize]);
  if (!bytes) return false;
  if (!empty()) std::memcpy(bytes.get(), data(), size());
  end_ -= std::exchange(begin_, 0);
  bytes_ = std::move(bytes);
  capacity_ = kSize;
  return true;
}

void RecordBuffer::settle() {
  if (empty()) return clear();
  if (capacity_ != kSize || size() > kMaxReceived) return;
  Bytes small(new (std::nothrow) std::byte[size()]);
  if (!small) return;
  const size_t capacity = size();
  std::swap(small, bytes_);
  std::memcpy(bytes_.get(), small.get() + begin_, capacity);
  end_ -= std::exchange(begin_, 0);
  capacity_ = capacity;
  per_thread<Spare>().bytes = std::move(small);
}

void RecordBuffer::clear() {
  begin_ = end_ = 0;
  if (capacity_ == kSize) per_thread<Spare>().bytes = std::move(bytes_);
  bytes_.reset();
  capacity_ = 0;
}

}  // namespace te::tls
