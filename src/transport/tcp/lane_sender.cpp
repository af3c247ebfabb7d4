#include "transport/tcp/lane_sender.h"

#include <thread>

namespace te::tcp {
namespace {

constexpr int kMostFaults = 4;  // of a frame whose memory can be read each time that one looks

}  // namespace

void LaneSender::start(tls::Connection& connection) {
  connection_ = &connection;
  blocked_.store(false);
}

// Senders never block, so this is soon over.
void LaneSender::await_sender() {
  while (sending_.exchange(true)) std::this_thread::yield();
}

void LaneSender::stop() { await_sender(); }

void LaneSender::flush() {
  // Whoever comes while another sends leaves the work to that one: it looks again after it let go.
  do {
    if (sending_.exchange(true)) return;
    send_all();
    sending_.store(false);
  } while (!blocked() && has_work());
}

void LaneSender::ask() {
  asking_.store(true);
  flush();
}

void LaneSender::room() {
  blocked_.store(false);
  flush();
}

bool LaneSender::left_completely(uint64_t sequence) {
  if (sequence <= requests_.sent_tail()) return true;
  await_sender();
  const bool left = sequence <= requests_.sent_tail();
  sending_.store(false);
  continue_sending();
  return left;
}

void LaneSender::send_all() {
  if (blocked()) return;
  for (;;) {
    if (!frame_open_.load() && !build_frame()) return;
    if (!send_frame()) {
      // Once more after the mark: the edge that tells of room may have come before it.
      blocked_.store(true);
      if (!send_frame()) return owner_.lane_blocked();
      blocked_.store(false);
    }
  }
}

bool LaneSender::build_frame() {
  requests_.take(frame_);
  if (frame_.count() == 0 && !asking_.exchange(false)) return false;
  frame_.close();
  frame_.choose(zero_copy_);
  faults_ = 0;
  frame_open_.store(true);
  if (frame_.has_memory() && owner_.careful() && !frame_.readable()) faulted();
  return true;
}

bool LaneSender::send_frame() {
  if (faulted_) return false;
  switch (frame_.send(*connection_, zero_copy_)) {
    case OutgoingFrame::Outcome::kSent:
      break;
    case OutgoingFrame::Outcome::kUnreadable:
      faulted();
      return false;
    case OutgoingFrame::Outcome::kBlocked:
      return false;
  }
  requests_.frame_left(frame_.by_zero_copy() ? zero_copy_.end() : 0);
  frame_open_.store(false);
  return true;
}

// What has to be done needs the receiver's lock, which no sender waits for.
void LaneSender::faulted() {
  faulted_ = true;
  unreadable_();
}

bool LaneSender::resolve_fault() {
  await_sender();
  bool usable = true;
  if (faulted_) {
    usable = frame_.whole() && !connection_->committed();
    if (usable) {
      const bool left_out = requests_.leave_out_unreadable(frame_);
      frame_.close();
      if (left_out && frame_.count() == 0) frame_.drop();
      usable = left_out || ++faults_ < kMostFaults;
    }
    // What left cannot be taken back, and the rest does not come.
    if (!usable) requests_.blame_unreadable();
    faulted_ = !usable;
  }
  sending_.store(false);
  return usable;
}

}  // namespace te::tcp
