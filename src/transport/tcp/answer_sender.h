// What a responder owes its peer: acknowledgements, refusals and the bytes of READs. They are sent
// as the socket takes them. However slow the peer takes them, the memory that this needs is
// bounded, as long as the responder receives nothing while it is full().
//
// An answer consists of acknowledgements and refusals, and then perhaps the bytes of some READs.
//
// Threads: the loop of the connection.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "core/access_table.h"
#include "tls/connection.h"
#include "transport/tcp/access_pins.h"
#include "transport/tcp/frame.h"

namespace te::tcp {

// As the peer sent it.
struct PeerRequest {
  RequestEntry entry;
  uint64_t sequence = 0;
  Code code = Code::kOk;  // whether it is allowed
};

class AnswerSender {
 public:
  enum class Outcome {
    kSent,     // nothing is owed any more
    kBlocked,  // the socket is full
    // The connection is of no use any more.
    kFailed,        // errno tells why
    kUnregistered,  // a buffer was, in the middle of its bytes
    kUnreadable,    // the same, of memory that cannot be read any more
  };

  explicit AnswerSender(AccessTable& table) : table_(table), pins_(table) {}

  // The answer to the hello, before all others.
  void begin(std::string_view hello_answer) { small_.append(hello_answer); }
  // So many bytes of WRITEs will be acknowledged.
  void expect_write(uint64_t bytes) { unacked_bytes_ += bytes; }
  // All WRITEs below `sequence` that were not refused are in place.
  void acknowledge(uint64_t sequence);
  void refuse(uint64_t sequence, Code code);
  void answer_read(const PeerRequest& read) { reads_.push_back(read); }

  // READs that are not answered yet.
  size_t reads() const { return reads_.size(); }
  bool full() const;
  // So much is to be acknowledged that an answer should go out though more requests come.
  bool urgent() const;
  // Part of an answer may have left, and the rest has not.
  bool in_the_middle() const { return open_; }
  bool empty() const { return !open_ && reads_.empty() && small_.empty(); }

  // `careful`: looks whether memory can be read before it promises the bytes.
  Outcome send(tls::Connection& to, bool careful);
  // In all.
  uint64_t sent_bytes() const { return sent_bytes_; }

 private:
  bool build(bool careful);  // false: there is nothing to send
  Outcome send_open(tls::Connection& to);
  size_t pin_rest(iovec* vectors);  // 0: a buffer was unregistered
  bool refuse_unreadable(size_t count);
  bool leave_out_unreadable();

  AccessTable& table_;
  AccessPins pins_;
  uint64_t sent_bytes_ = 0;

  bool ack_due_ = false;
  uint64_t ack_sequence_ = 0;
  uint64_t unacked_bytes_ = 0;
  std::string small_;  // answers without payload, whole
  std::deque<PeerRequest> reads_;

  // The answer under way.
  bool open_ = false;
  std::string head_;  // answers without payload, then perhaps a kData header
  size_t head_sent_ = 0;
  size_t read_count_ = 0;  // how many of `reads_` it covers
  uint64_t payload_ = 0;   // bytes of these
  uint64_t payload_sent_ = 0;
};

}  // namespace te::tcp
