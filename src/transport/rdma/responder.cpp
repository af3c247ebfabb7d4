#include "transport/rdma/responder.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"

namespace te::rdma {
namespace {

// Waited for an end to be connected, before its peer is answered in any case.
constexpr std::chrono::milliseconds kPrompt{20};
constexpr std::chrono::milliseconds kDestroyed{20};  // for others to close a connection

}  // namespace

Result<Bytes> Responder::accept(ByteView hello) {
  Result<Hello> decoded = decode_hello(hello);
  if (!decoded.ok()) return decoded.status();
  if (const Connect* wanted = std::get_if<Connect>(&*decoded)) return connect(*wanted);
  TE_RETURN_IF_ERROR(disconnect(std::get<Disconnect>(*decoded)));
  return Bytes();
}

Result<Bytes> Responder::connect(const Connect& hello) {
  if (hello.nic >= nics_.size()) {
    return error(Code::kProtocol, "rdma: there is no NIC {}: there are {}", hello.nic,
                 nics_.size());
  }
  VerbsNic& nic = *nics_[hello.nic];
  if (!nic.active()) return error(Code::kBusy, "rdma: {}", nic.state_text());
  {
    MutexLock lock(mutex_);
    if (stopped_) return Status(Code::kCancelled, "the transport ends");
    if (const auto known = ends_.find(hello.id); known != ends_.end()) {
      return encode_answer(known->second->pair->local());
    }
    if (ends_.size() >= most_) {
      return error(Code::kBusy, "rdma: {} connections of peers are open (rdma_inbound_endpoints)",
                   most_);
    }
  }
  auto end = std::make_shared<End>();
  Result<std::unique_ptr<QueuePair>> pair = nic.make_queue_pair(true);
  if (!pair.ok()) return pair.status();
  end->pair = pair.take();
  const Bytes answer = encode_answer(end->pair->local());
  MutexLock lock(mutex_);
  if (stopped_) return Status(Code::kCancelled, "the transport ends");
  // The same hello may have come twice at once: the first one counts.
  if (const auto known = ends_.find(hello.id); known != ends_.end()) {
    return encode_answer(known->second->pair->local());
  }
  const auto task = [this, id = hello.id, end, from = hello.from] { connect_end(id, end, from); };
  if (connecting_ >= kMostConnecting || !pool_.run(task)) {
    return error(Code::kBusy, "rdma: {} connections are being made here: try again later",
                 connecting_);
  }
  ++connecting_;
  ends_.emplace(hello.id, end);
  const auto until = std::chrono::steady_clock::now() + kPrompt;
  while (end->state == End::State::kConnecting && changed_.wait_until(mutex_, until)) {
  }
  return end->state == End::State::kFailed ? Result<Bytes>(end->why) : answer;
}

void Responder::connect_end(uint64_t id, const std::shared_ptr<End>& end, const Address& to) {
  const Status status = end->pair->connect(to);
  Gone gone;
  {
    MutexLock lock(mutex_);
    --connecting_;
    end->state = status.ok() ? End::State::kReady : End::State::kFailed;
    end->why = status;
    changed_.notify_all();
    const auto known = ends_.find(id);
    const bool wanted = known != ends_.end() && known->second == end;
    if (wanted && !status.ok()) take_out(known, gone);
    if (!wanted && leaving_.contains(id)) gone.emplace_back(id, end);
  }
  if (!status.ok()) {
    static LogLimit limit;
    log_limited(limit, LogLevel::kInfo, "rdma: a peer cannot be answered: {}", status.message());
  }
  destroy(gone);
}

void Responder::take_out(Ends::iterator end, Gone& gone) {
  leaving_.insert(end->first);
  if (end->second->state != End::State::kConnecting) gone.emplace_back(end->first, end->second);
  ends_.erase(end);
}

Status Responder::disconnect(const Disconnect& hello) {
  const auto until = std::chrono::steady_clock::now() + kDestroyed;
  Gone gone;
  {
    MutexLock lock(mutex_);
    for (const uint64_t id : hello.ids) {
      if (const auto found = ends_.find(id); found != ends_.end()) take_out(found, gone);
    }
  }
  destroy(gone);
  MutexLock lock(mutex_);
  const auto any_left = [&]() TE_REQUIRES(mutex_) {
    return std::any_of(hello.ids.begin(), hello.ids.end(),
                       [this](uint64_t id) TE_REQUIRES(mutex_) { return leaving_.contains(id); });
  };
  // Another thread may be destroying one.
  while (any_left() && changed_.wait_until(mutex_, until)) {
  }
  if (!any_left()) return {};
  return Status(Code::kBusy, "rdma: a connection is not closed yet");
}

void Responder::destroy(const Gone& gone) {
  if (gone.empty()) return;
  for (const auto& [id, end] : gone) end->pair.reset();
  MutexLock lock(mutex_);
  for (const auto& [id, end] : gone) leaving_.erase(id);
  changed_.notify_all();
}

int64_t Responder::attend(int64_t now) {
  if (now < next_ns_) return next_ns_;
  Gone gone;
  {
    MutexLock lock(mutex_);
    take_answers(gone);
    for (const auto& [id, end] : ends_) {
      if (!end->asked && end->state == End::State::kReady) ask(id, *end);
    }
    next_ns_ = now + kAskNs;
  }
  if (!gone.empty()) log_debug("rdma: {} connections of peers are gone", gone.size());
  destroy(gone);
  return next_ns_;
}

void Responder::ask(uint64_t id, End& end) {
  ibv_send_wr nothing{};
  nothing.wr_id = id;
  nothing.opcode = IBV_WR_RDMA_WRITE;
  nothing.send_flags = IBV_SEND_SIGNALED;
  ibv_send_wr* refused = nullptr;
  // One that cannot be asked is in error, and tells so.
  end.asked = ::ibv_post_send(end.pair->get(), &nothing, &refused) == 0;
}

void Responder::take_answers(Gone& gone) {
  constexpr int kAnswersPolled = 32;
  ibv_wc answers[kAnswersPolled];
  for (VerbsNic* nic : nics_) {
    for (int count = kAnswersPolled; count == kAnswersPolled;) {
      count = ::ibv_poll_cq(nic->serving_completions(), kAnswersPolled, answers);
      for (int i = 0; i < count; ++i) {
        const auto found = ends_.find(answers[i].wr_id);
        if (found == ends_.end()) continue;
        if (answers[i].status == IBV_WC_SUCCESS) {
          found->second->asked = false;
        } else {
          take_out(found, gone);
        }
      }
    }
  }
}

void Responder::stop() {
  Ends ends;
  {
    MutexLock lock(mutex_);
    stopped_ = true;
    ends.swap(ends_);
  }
  pool_.stop();
}

}  // namespace te::rdma
