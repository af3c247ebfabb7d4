// Takes the answers of a lane's peer, which may be hostile: what was not asked for ends the lane.
//
// Threads: one at a time, whoever holds the lane's receiver lock.
#pragma once

#include <cstdint>

#include "transport/tcp/lane_requests.h"
#include "transport/tcp/lane_sender.h"
#include "transport/tcp/stream.h"
#include "transport/tcp/write_grace.h"
#include "transport/tcp/zero_copy.h"

namespace te::tcp {

class LaneReceiver {
 public:
  enum class Outcome {
    kDrained,  // nothing is left for now
    kMore,     // there may be more; others have their turn first
    // The lane is of no use any more.
    kClosed,
    kFailed,         // errno tells why
    kMisunderstood,  // the peer answered what was not asked
  };

  LaneReceiver(LaneRequests& requests, LaneSender& sender, ZeroCopy& zero_copy)
      : requests_(requests), sender_(sender), zero_copy_(zero_copy) {}

  // Once: answers come from `connection`.
  void start(tls::Connection& connection) { connection_ = &connection; }
  // What comes on the connection; until start(), the answer to the hello.
  Stream& stream() { return stream_; }

  // `hangup`: the peer has closed its side, so the end of the stream is to be read.
  Outcome receive(bool hangup);

  // Gives back the READs under way that are cancelled: their bytes will go nowhere. A WRITE under
  // way reads local memory, and may still arrive: it may finish within WriteGrace. False: the
  // connection has to end.
  bool sweep();
  // The sender moved requests().tail() back.
  void tail_moved_back() { grace_.reuse_from(requests_.tail()); }

 private:
  bool parse();  // false: misunderstood
  bool on_ack(uint64_t sequence);
  bool on_data(const AnswerHeader& header);
  bool on_error(const AnswerHeader& header);
  void finish_payload();
  void finish_writes();
  void advance_head();
  void give_up_read(uint64_t sequence);

  LaneRequests& requests_;
  LaneSender& sender_;
  ZeroCopy& zero_copy_;
  tls::Connection* connection_ = nullptr;

  Stream stream_;
  uint64_t acked_ = 0;          // WRITEs below it are in place
  uint64_t ack_cursor_ = 0;     // and those below it given back
  uint64_t payload_first_ = 0;  // sequence of the first READ whose bytes arrive
  uint32_t payload_count_ = 0;
  WriteGrace grace_;
};

}  // namespace te::tcp
