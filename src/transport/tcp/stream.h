// Receives a byte stream that alternates between small heads, which are buffered, and payloads,
// which go straight to where they belong. One system call takes the rest of a payload and what
// follows it.
//
// A payload may belong into memory that cannot be written (any more). Then its piece is marked, the
// rest of it goes nowhere, and the stream goes on.
//
// One thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "tls/connection.h"

namespace te::tcp {

class Stream {
 public:
  // Where the next `left` payload bytes go; null: nowhere.
  struct Piece {
    std::byte* to = nullptr;
    uint64_t left = 0;
    bool faulted = false;  // some of it could not be written to `to`, which is null by now
  };
  enum class Outcome { kMore, kDrained, kClosed, kFailed };

  static constexpr size_t kBufferSize = 8192;

  Stream() { pieces_.reserve(16); }

  // One recvmsg. kMore: there may be more; kDrained: nothing is left for now. Either way bytes may
  // have come, see received(). After kFailed errno tells why.
  Outcome receive(tls::Connection& from);
  // Bytes that the last receive() took.
  size_t received() const { return received_; }

  // Head bytes at hand.
  std::span<const std::byte> buffered() const { return {buffer_.data() + begin_, end_ - begin_}; }
  void consume(size_t bytes) { begin_ += bytes; }
  // Forgets them: another connection begins.
  void drop_buffered() { begin_ = end_ = 0; }

  // A payload begins: what is buffered of it is copied out now. The pieces may be changed until all
  // of it arrived.
  std::vector<Piece>& start_payload() {
    pieces_.clear();
    current_ = 0;
    return pieces_;
  }
  void copy_buffered();
  bool in_payload() const { return current_ < pieces_.size(); }
  // The pieces that are not full yet.
  std::span<Piece> open_pieces() { return std::span(pieces_).subspan(current_); }
  size_t filled_pieces() const { return current_; }
  // Of a piece that is full.
  bool faulted(size_t piece) const { return pieces_[piece].faulted; }

 private:
  void advance(uint64_t bytes);
  Outcome receive_one_piece(tls::Connection& from);

  std::array<std::byte, kBufferSize> buffer_{};  // its pages are there from the start
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t received_ = 0;
  std::vector<Piece> pieces_;
  size_t current_ = 0;
};

}  // namespace te::tcp
