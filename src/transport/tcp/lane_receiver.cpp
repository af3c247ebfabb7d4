#include "transport/tcp/lane_receiver.h"

#include <algorithm>
#include <span>
#include <vector>

#include "base/clock.h"
#include "transport/tcp/liveness.h"

namespace te::tcp {
namespace {

// How often the kernel may send the same again, with twice the pause each time, without being
// heard, where a task timed out meanwhile: some 0.6 s.
constexpr unsigned kUnheardAtDeadline = 2;

}  // namespace

LaneReceiver::Outcome LaneReceiver::receive(bool hangup) {
  size_t taken = 0;
  if (zero_copy_.outstanding()) {
    zero_copy_.take_notifications(connection_->fd());
    finish_writes();
  }
  if (!parse()) return Outcome::kMisunderstood;
  for (;;) {
    const Stream::Outcome outcome = stream_.receive(*connection_);
    taken += stream_.received();
    if (outcome == Stream::Outcome::kFailed) return Outcome::kFailed;
    if (outcome == Stream::Outcome::kClosed) return Outcome::kClosed;
    if (stream_.received() > 0 && !parse()) return Outcome::kMisunderstood;
    if (outcome == Stream::Outcome::kDrained && !(hangup && stream_.received() > 0)) {
      return Outcome::kDrained;
    }
    if (taken >= kTurnBytes) return Outcome::kMore;
  }
}

bool LaneReceiver::parse() {
  for (;;) {
    if (payload_count_ > 0) {
      stream_.copy_buffered();
      finish_payload();
      if (payload_count_ > 0) return true;
    }
    if (stream_.buffered().size() < AnswerHeader::kSize) return true;
    const AnswerHeader header = AnswerHeader::decode(stream_.buffered().data());
    stream_.consume(AnswerHeader::kSize);
    bool understood = false;
    switch (header.type) {
      case AnswerType::kAck:
        understood = on_ack(header.sequence);
        break;
      case AnswerType::kData:
        understood = on_data(header);
        break;
      case AnswerType::kError:
        understood = on_error(header);
        break;
    }
    if (!understood) return false;
  }
}

bool LaneReceiver::on_ack(uint64_t sequence) {
  if (!sender_.left_completely(sequence)) return false;
  requests_.acknowledged();
  acked_ = std::max(acked_, sequence);
  finish_writes();
  return true;
}

// Gives back the WRITEs that are in place, as far as the kernel reads their memory no more. That is
// usually told before the answer comes, but a copy of a packet may still be in some queue.
void LaneReceiver::finish_writes() {
  for (; ack_cursor_ < acked_; ++ack_cursor_) {
    LaneRequests::Sent& request = requests_.at(ack_cursor_);
    if (request.opcode != Opcode::kWrite || request.answered) continue;
    if (!zero_copy_.completed(connection_->fd(), request.completed_below)) break;
    requests_.answer(request, request.refusal);
  }
  advance_head();
}

void LaneReceiver::advance_head() {
  requests_.advance_head();
  ack_cursor_ = std::max(ack_cursor_, requests_.head());
}

bool LaneReceiver::on_data(const AnswerHeader& header) {
  const uint64_t tail = requests_.tail();
  if (header.count == 0 || header.count > kWindow || header.sequence < requests_.head() ||
      header.sequence > tail || tail - header.sequence < header.count) {
    return false;
  }
  std::vector<Stream::Piece>& pieces = stream_.start_payload();
  for (uint32_t i = 0; i < header.count; ++i) {
    const LaneRequests::Sent& request = requests_.at(header.sequence + i);
    if (request.opcode != Opcode::kRead || request.answered) return false;
    pieces.push_back({request.slice != nullptr ? request.slice->local : nullptr, request.length});
  }
  payload_first_ = header.sequence;
  payload_count_ = header.count;
  return true;
}

// Answers the READs whose bytes are all there.
void LaneReceiver::finish_payload() {
  const size_t filled = stream_.filled_pieces();
  const uint64_t total = filled + stream_.open_pieces().size();
  while (payload_count_ > 0 && total - payload_count_ < filled) {
    const bool faulted = stream_.faulted(total - payload_count_);
    requests_.answer(requests_.at(payload_first_), faulted ? Code::kInvalidArgument : Code::kOk);
    ++payload_first_;
    --payload_count_;
  }
  advance_head();
}

bool LaneReceiver::on_error(const AnswerHeader& header) {
  if (header.sequence < requests_.head() || header.sequence >= requests_.tail() ||
      header.code == Code::kOk || header.code == Code::kUnavailable) {
    return false;
  }
  LaneRequests::Sent& request = requests_.at(header.sequence);
  if (request.answered || request.refusal != Code::kOk) return false;
  if (!sender_.left_completely(header.sequence + 1)) return false;
  // That one would blame this side.
  const Code code = header.code == Code::kInvalidArgument ? Code::kInternal : header.code;
  if (zero_copy_.completed(connection_->fd(), request.completed_below)) {
    requests_.answer(request, code);
    advance_head();
  } else {
    request.refusal = code;  // it ends with the frame's acknowledgement
  }
  return true;
}

bool LaneReceiver::sweep() {
  const uint64_t tail = requests_.tail();
  constexpr uint64_t kNone = UINT64_MAX;
  uint64_t first_write = kNone;
  bool given_up = false;
  for (uint64_t i = requests_.head(); i < tail; ++i) {
    const LaneRequests::Sent& request = requests_.at(i);
    if (request.slice == nullptr || !request.slice->cancelled()) continue;
    if (request.opcode == Opcode::kWrite) {
      first_write = std::min(first_write, i);
    } else {
      give_up_read(i);
      given_up = true;
    }
  }
  if (first_write != kNone) return grace_.may_finish(first_write, tail, now_ns());
  return !given_up || !unheard(connection_->fd(), kUnheardAtDeadline);
}

void LaneReceiver::give_up_read(uint64_t sequence) {
  if (payload_count_ > 0 && sequence >= payload_first_ &&
      sequence < payload_first_ + payload_count_) {
    // The pieces that are open are those of the last requests of the frame.
    const std::span<Stream::Piece> open = stream_.open_pieces();
    const uint64_t from_end = payload_first_ + payload_count_ - sequence;
    if (from_end <= open.size()) open[open.size() - from_end].to = nullptr;
  }
  requests_.give_back(requests_.at(sequence), Code::kCancelled);
}

}  // namespace te::tcp
