// One connection of the control channel: its requests, one after the other, and their answers.
// Without socket and clock. Of one thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "core/wire.h"
#include "engine/control_service.h"
#include "tls/principal.h"

namespace te {

class ControlSession {
 public:
  // What is to be sent next. `more`: something follows it at once.
  struct Unsent {
    std::string_view bytes;
    bool more = false;
  };

  // `run` runs a task on the session's thread, and is called on any. `resume`: the answer to a
  // request that another thread worked on is there.
  ControlSession(ControlService& service, tls::Principal peer,
                 std::function<void(std::function<void()>)> run, std::function<void()> resume)
      : service_(service),
        peer_(std::move(peer)),
        run_(std::move(run)),
        resume_(std::move(resume)) {}

  // `head` goes out before any answer.
  void answer(std::string head, std::shared_ptr<const Bytes> body = nullptr);
  Unsent unsent() const;
  void sent(size_t count);

  // What was not answered yet holds up what was not asked yet: a peer cannot pile up answers, or
  // work.
  bool may_receive() const { return !broken_ && !waiting_ && head_.empty(); }
  // `read` puts at most so many bytes to where it is told, and returns how many, or what is not
  // positive.
  template <typename Read>
  auto receive(Read&& read) {
    const size_t at = in_.size();
    in_.resize(at + kReadStep);
    const auto got = read(in_.data() + at, kReadStep);
    in_.resize(at + static_cast<size_t>(std::max<decltype(got)>(got, 0)));
    if (in_.empty()) in_.shrink_to_fit();
    return got;
  }
  // Handles the next request that has arrived whole. False: there is none, something is under way,
  // or the session is broken. `has_ended`: whether the peer closed the connection.
  bool handle_next(const std::function<bool()>& has_ended);
  // The connection is of no use any more.
  bool broken() const { return broken_; }

  // Another thread works on the answer.
  bool waiting() const { return waiting_; }
  // Nothing is under way, and no part of a request is here.
  bool idle() const { return !waiting_ && in_.empty() && head_.empty(); }

 private:
  static constexpr size_t kReadStep = 16 << 10;

  void handle(const wire::ControlHeader& request, std::string_view body);
  Result<std::shared_ptr<const Bytes>> answer_at_once(const wire::ControlHeader& request,
                                                      std::string_view body);
  Status start_exchange(uint64_t id, std::string_view body);
  void answer_request(uint64_t id, const Status& status, std::shared_ptr<const Bytes> body);

  ControlService& service_;
  const tls::Principal peer_;
  const std::function<void(std::function<void()>)> run_;
  const std::function<void()> resume_;
  Bytes in_;
  std::string head_;
  std::shared_ptr<const Bytes> body_;
  size_t sent_ = 0;
  bool described_ = false;  // with the rights of this connection
  bool waiting_ = false;
  bool broken_ = false;
  // For tasks that come when the session is gone.
  const std::shared_ptr<const bool> alive_{std::make_shared<const bool>(true)};
};

}  // namespace te
