// Takes the requests of a peer, which may be hostile, checks them, and puts the bytes of WRITEs in
// place. What they are to be answered goes to an AnswerSender.
//
// Threads: the loop of the connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "core/access_table.h"
#include "tls/principal.h"
#include "transport/tcp/access_pins.h"
#include "transport/tcp/answer_sender.h"
#include "transport/tcp/frame.h"
#include "transport/tcp/stream.h"

namespace te::tcp {

class RequestReceiver {
 public:
  RequestReceiver(AccessTable& table, AnswerSender& answers, tls::Principal peer = {})
      : table_(table), answers_(answers), peer_(std::move(peer)), pins_(table) {}

  // As Stream::receive().
  Stream::Outcome receive(tls::Connection& from);
  size_t received() const { return stream_.received(); }
  // Carries out the requests that are here. Empty: the connection goes on. Else: why it has to end.
  std::string_view carry_out();

  // A frame has begun, and the rest of it has not come.
  bool in_the_middle() const { return writing_ || !stream_.buffered().empty(); }
  // Bytes of a WRITE are to come next.
  bool in_payload() const { return stream_.in_payload(); }

 private:
  std::string_view start_frame(const RequestHeader& header);
  Code check(const RequestEntry& entry, Rights wanted);
  void start_write();
  void finish_write();
  void start_reads();
  void copy_buffered();
  void pin_open_pieces();

  AccessTable& table_;
  AnswerSender& answers_;
  const tls::Principal peer_;
  AccessPins pins_;
  Stream stream_;
  uint64_t next_sequence_ = 0;
  bool writing_ = false;
  std::vector<PeerRequest> frame_;  // the requests of the frame under way
};

}  // namespace te::tcp
