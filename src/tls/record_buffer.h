// Records on their way between a connection and its socket.
//
// A process has far more connections than threads, and most of them are idle. So the memory belongs
// to the threads: a connection has it only while there are records in it.
//
// Threads: one at a time. The memory may be given back by another thread than took it.
#pragma once

#include <cstddef>
#include <memory>

#include "tls/record.h"

namespace te::tls {

class RecordBuffer {
 public:
  // So many that either side works for long before it waits for the other.
  static constexpr size_t kSize = 32 * kMaxReceived;

  bool empty() const { return begin_ == end_; }
  size_t size() const { return end_ - begin_; }
  // What is here, and the room behind it. A pointer is good until the next call of a method that is
  // not const.
  std::byte* data() const { return bytes_.get() + begin_; }
  std::byte* end() const { return bytes_.get() + end_; }
  size_t room() const { return capacity_ - end_; }

  // Room for records. False: there is no memory.
  bool make_room();
  void added(size_t bytes) { end_ += bytes; }
  void taken(size_t bytes) { begin_ += bytes; }
  // Nothing more comes for now: keeps what is here in as little memory as it needs, if that is less
  // than one record.
  void settle();
  // Forgets what is here.
  void clear();

 private:
  using Bytes = std::unique_ptr<std::byte[]>;
  struct Spare {
    Bytes bytes;  // of kSize
  };

  Bytes bytes_;
  size_t capacity_ = 0;
  size_t begin_ = 0;
  size_t end_ = 0;
};

}  // namespace te::tls
