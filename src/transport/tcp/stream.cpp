#include "transport/tcp/stream.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/guarded_copy.h"
#include "base/per_thread.h"

namespace te::tcp {
namespace {

constexpr size_t kMaxVectors = 130;
constexpr size_t kDiscardSize = 64 << 10;

// Payload that belongs nowhere; written by everyone, read by nobody.
struct DiscardArea {
  const std::unique_ptr<std::byte[]> bytes{new std::byte[kDiscardSize]};
};

std::byte* discard_area() { return per_thread<DiscardArea>().bytes.get(); }

void give_up(Stream::Piece& piece) {
  piece.to = nullptr;
  piece.faulted = true;
}

}  // namespace

void Stream::advance(uint64_t bytes) {
  while (bytes > 0) {
    Piece& piece = pieces_[current_];
    const uint64_t step = std::min(bytes, piece.left);
    if (piece.to != nullptr) piece.to += step;
    piece.left -= step;
    bytes -= step;
    if (piece.left == 0) ++current_;
  }
  while (current_ < pieces_.size() && pieces_[current_].left == 0) ++current_;
}

void Stream::copy_buffered() {
  advance(0);
  while (in_payload() && begin_ < end_) {
    Piece& piece = pieces_[current_];
    const size_t step = std::min<uint64_t>(end_ - begin_, piece.left);
    if (piece.to != nullptr &&
        guarded_copy(piece.to, buffer_.data() + begin_, step) != CopyResult::kDone) {
      give_up(piece);
    }
    begin_ += step;
    advance(step);
  }
}

// After a call for several pieces failed, since one of them cannot be written: it took nothing.
Stream::Outcome Stream::receive_one_piece(tls::Connection& from) {
  Piece& piece = pieces_[current_];
  const bool wanted = piece.to != nullptr;
  iovec vector{wanted ? piece.to : discard_area(),
               wanted ? piece.left : std::min<uint64_t>(piece.left, kDiscardSize)};
  ssize_t got;
  do {
    got = from.receive(&vector, 1);
  } while (got < 0 && errno == EINTR);
  if (got == 0) return Outcome::kClosed;
  if (got > 0) {
    received_ = static_cast<size_t>(got);
    advance(received_);
    return Outcome::kMore;
  }
  if (errno == EFAULT && wanted) {
    give_up(piece);
    return Outcome::kMore;
  }
  return errno == EAGAIN || errno == EWOULDBLOCK ? Outcome::kDrained : Outcome::kFailed;
}

Stream::Outcome Stream::receive(tls::Connection& from) {
  iovec vectors[kMaxVectors];
  size_t count = 0;
  uint64_t wanted = 0;
  uint64_t payload = 0;
  bool whole = true;  // all of the payload is asked for, so what follows it is a head
  for (size_t i = current_; i < pieces_.size(); ++i) {
    if (count == kMaxVectors - 1) {
      whole = false;
      break;
    }
    const Piece& piece = pieces_[i];
    const uint64_t length =
        piece.to != nullptr ? piece.left : std::min<uint64_t>(piece.left, kDiscardSize);
    vectors[count++] = {piece.to != nullptr ? piece.to : discard_area(), length};
    payload += length;
    if (length < piece.left) {
      whole = false;
      break;
    }
  }
  wanted = payload;
  if (whole) {
    if (begin_ == end_) begin_ = end_ = 0;
    if (begin_ > 0) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    vectors[count++] = {buffer_.data() + end_, kBufferSize - end_};
    wanted += kBufferSize - end_;
  }
  ssize_t got;
  do {
    got = from.receive(vectors, count);
  } while (got < 0 && errno == EINTR);
  received_ = got > 0 ? static_cast<size_t>(got) : 0;
  if (got < 0 && errno == EFAULT && payload > 0) return receive_one_piece(from);
  if (got < 0)
    return errno == EAGAIN || errno == EWOULDBLOCK ? Outcome::kDrained : Outcome::kFailed;
  if (got == 0) return Outcome::kClosed;
  const uint64_t into_payload = std::min<uint64_t>(received_, payload);
  advance(into_payload);
  end_ += received_ - into_payload;
  // Less than the payload came: it may be that no more is there, or that a piece cannot be written.
  if (received_ < payload) return Outcome::kMore;
  return received_ < wanted ? Outcome::kDrained : Outcome::kMore;
}

}  // namespace te::tcp
