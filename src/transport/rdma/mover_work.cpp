// What is done in a turn: slices are given to paths, posted, and end.
#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "transport/rdma/mover.h"

namespace te::rdma {
namespace {

constexpr int kPolled = 32;           // completions at once
constexpr size_t kMostReaped = 1024;  // in one turn
// What a path costs that is not the first choice.
constexpr double kFarLocal = 1.5;
constexpr double kFarRemote = 1.25;

struct Verdict {
  Code code;
  bool path_is_sound;
};

Verdict verdict_on(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_SUCCESS:
      return {Code::kOk, true};
    // The peer's card does not know the key any more, or the range is not what it was.
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_REM_INV_REQ_ERR:
      return {Code::kStale, true};
    // Cards keep the pages that they registered; those that do not find memory gone.
    case IBV_WC_LOC_PROT_ERR:
      return {Code::kInvalidArgument, true};
    case IBV_WC_LOC_LEN_ERR:
      return {Code::kInternal, true};
    default:
      return {Code::kUnavailable, false};
  }
}

}  // namespace

void Mover::take_mail() {
  {
    MutexLock lock(mail_mutex_);
    if (mailbox_.empty()) return;
    mailbox_.swap(taken_);
    for (const std::shared_ptr<PeerGroup>& group : taken_) {
      group->mail.queued = false;
      group->queue.push(group->mail.slices);
      group->mail.slices = {};
      for (const size_t link : group->mail.connect) group->links[link].wanted = true;
      group->mail.connect.clear();
    }
  }
  for (const std::shared_ptr<PeerGroup>& group : taken_) {
    know(*group);
    activate(*group);
  }
  taken_.clear();
}

void Mover::know(PeerGroup& group) {
  if (group.known) return;
  group.known = true;
  groups_.try_emplace(&group, group.shared_from_this());
}

void Mover::take_control_mail(int64_t now) {
  std::vector<std::shared_ptr<PeerGroup>> mail;
  std::vector<PeerGroup::Mail> wants;
  {
    MutexLock lock(mail_mutex_);
    if (control_mail_.empty()) return;
    mail.swap(control_mail_);
    for (const std::shared_ptr<PeerGroup>& group : mail) {
      PeerGroup::Mail& want = wants.emplace_back();
      want.sweep = group->mail.sweep;
      want.reset = group->mail.reset;
      want.retire = group->mail.retire;
      group->mail.sweep = group->mail.reset = group->mail.retire = false;
      group->mail.control_queued = false;
    }
  }
  for (size_t i = 0; i < mail.size(); ++i) {
    if (wants[i].sweep) sweep_now(*mail[i], now);
    if (wants[i].reset) reset_now(*mail[i], now);
    if (wants[i].retire) forget(*mail[i]);
  }
}

void Mover::activate(PeerGroup& group) {
  if (group.active || group.retired) return;
  group.active = true;
  active_.push_back(&group);
}

void Mover::advance_all(int64_t now) {
  grant_slots(now);
  for (size_t i = 0; i < active_.size();) {
    PeerGroup& group = *active_[i];
    if (advance(group, now)) {
      ++i;
      continue;
    }
    group.active = false;
    active_[i] = active_.back();
    active_.pop_back();
  }
  // Another one goes first next time.
  if (active_.size() > 1) std::rotate(active_.begin(), active_.begin() + 1, active_.end());
}

bool Mover::advance(PeerGroup& group, int64_t now) {
  if (group.over != Code::kOk) {
    return_slices(group.queue.take_all(), group.over);
    return false;
  }
  want_links(group, now);
  while (!group.queue.empty() && bind_next(group, now)) {
  }
  for (PeerGroup::Link& link : group.links) {
    if (link.endpoint && link.endpoint->has_unposted()) flush(*link.endpoint, now);
  }
  return !group.queue.empty();
}

// Which paths reach both ends of the slice, and what they cost. False: none does, connected or not.
bool Mover::find_penalties(const PeerGroup& group, const Slice& slice) {
  const CardSet there = Key::nics_of(slice.key), near = Key::near_of(slice.key);
  penalties_.clear();
  // One path: cut() finds out whether it reaches.
  if (group.links.size() == 1) return true;
  penalties_.resize(group.links.size());
  const Nearness::Cards here = memories_.nics_of(slice.local);
  bool any = false;
  for (size_t i = 0; i < group.links.size(); ++i) {
    const PeerGroup::Link& link = group.links[i];
    const bool reaches = (here.all >> link.local & 1) != 0 && (there >> link.remote & 1) != 0;
    const bool far_here = here.near != 0 && (here.near >> link.local & 1) == 0;
    const bool far_there = near != 0 && (near >> link.remote & 1) == 0;
    penalties_[i] = !reaches ? 0 : (far_here ? kFarLocal : 1) * (far_there ? kFarRemote : 1);
    any = any || reaches;
  }
  return any;
}

// False: nothing can be done for the slice at the front now.
bool Mover::bind_next(PeerGroup& group, int64_t now) {
  Slice& slice = *group.queue.front();
  if (slice.cancelled()) {
    finished_.emplace_back(group.queue.pop(), Code::kCancelled);
    return true;
  }
  if (!find_penalties(group, slice)) {
    slice.path->set_error(error(Code::kUnavailable,
                                "rdma: no card here and card of {} reach both "
                                "memories",
                                slice.path->remote_address));
    finished_.emplace_back(group.queue.pop(), Code::kUnavailable);
    return true;
  }
  const size_t chosen = group.queue.choose(now, penalties_);
  if (chosen == rails::PathQueue::kNone) return false;
  const PeerGroup::Link& link = group.links[chosen];
  if (Status status = cut(group, slice, link); !status.ok()) {
    slice.path->set_error(status);
    finished_.emplace_back(group.queue.pop(), status.code());
    return true;
  }
  Endpoint& endpoint = *link.endpoint;
  if (!endpoint.has_room(static_cast<uint32_t>(operations_.size()))) return false;
  Flight& flight = take_flight(group.queue.bind(chosen, now), now);
  flight.left = static_cast<uint32_t>(operations_.size());
  if (endpoint.empty()) endpoint.progress_ns = now;
  endpoint.used_ns = now;
  for (const Endpoint::Operation& operation : operations_) endpoint.add(operation, &flight);
  return true;
}

// Into operations_: one for what neither a registration nor the largest message divides.
Status Mover::cut(const PeerGroup& group, const Slice& slice, const PeerGroup::Link& link) {
  operations_.clear();
  for (uint64_t at = 0; at < slice.length;) {
    Endpoint::Operation& operation = operations_.emplace_back();
    uint64_t length = std::min<uint64_t>(slice.length - at, cards_[link.local]->max_message());
    operation.write = slice.opcode == Opcode::kWrite;
    operation.local = slice.local + at;
    operation.remote = slice.remote_address + at;
    Key::Place place;
    if (!Key::find(slice.key, link.remote, group.offer.pieces, operation.remote, length, &place)) {
      return error(Code::kStale, "rdma: the buffer is not registered with {} of {}",
                   link.path->remote_device, link.path->remote_address);
    }
    length = place.length;
    uint64_t local_key = 0;
    if (!memories_.find(link.local, operation.local, &length, &local_key, &found_[link.local])) {
      return error(Code::kInternal, "rdma: the local memory is not registered with {}",
                   link.path->local_device);
    }
    operation.remote_key = static_cast<uint32_t>(place.key);
    operation.local_key = static_cast<uint32_t>(local_key);
    operation.length = static_cast<uint32_t>(length);
    at += length;
  }
  if (operations_.size() > link.endpoint->pair->depth().sends) {
    return error(Code::kUnsupported,
                 "rdma: a slice of {} bytes takes {} operations: set a smaller slice_bytes or a "
                 "larger rdma_max_registration",
                 slice.length, operations_.size());
  }
  return {};
}

void Mover::flush(Endpoint& endpoint, int64_t now) {
  uint32_t posted = 0;
  const int result = endpoint.flush(&posted);
  sieve_.used(&endpoint);
  counters_.posted += posted;
  under_way_.fetch_add(posted);
  if (result == 0) return;
  std::vector<Flight*> flights;
  while (endpoint.has_unposted()) flights.push_back(endpoint.take_unposted());
  fail(endpoint,
       endpoint.card.failed(
           "posting to " + endpoint.group->links[endpoint.path].path->remote_address, result,
           Code::kUnavailable),
       false, now);
  for (Flight* flight : flights) {
    if (flight == nullptr) continue;
    flight->code = Code::kUnavailable;
    if (--flight->left == 0) end_flight(endpoint, *flight, now);
  }
}

bool Mover::reap() {
  if (under_way_.load(std::memory_order_relaxed) == 0) return false;
  size_t reaped = 0;
  int64_t now = 0;  // known when it is needed
  for (Card* card : cards_) {
    if (card->outstanding.load(std::memory_order_relaxed) == 0) continue;
    ibv_wc completions[kPolled];
    for (size_t from_card = 0; from_card < kMostReaped;) {
      const int count = ::ibv_poll_cq(card->completions(), kPolled, completions);
      if (count > 0 && now == 0) now = now_ns();
      for (int i = 0; i < count; ++i) completed(completions[i], now);
      if (count > 0) from_card += static_cast<size_t>(count);
      reaped += static_cast<size_t>(std::max(count, 0));
      if (count < kPolled) break;
    }
  }
  return reaped > 0;
}

void Mover::completed(const ibv_wc& completion, int64_t now) {
  const auto found = endpoints_.find(static_cast<uint32_t>(completion.wr_id >> 32));
  const auto position = static_cast<uint32_t>(completion.wr_id);
  if (found == endpoints_.end() || !found->second->holds(position)) return;
  Endpoint& endpoint = *found->second;  // stays: closed() is called for news only
  endpoint.progress_ns = now;
  while (endpoint.oldest() != position) {
    end_work(endpoint, endpoint.take_oldest(), Code::kOk, now);
  }
  const Endpoint::Work work = endpoint.take_oldest();
  const Verdict verdict = verdict_on(completion.status);
  if (verdict.code != Code::kOk && endpoint.state != Endpoint::State::kFailing &&
      endpoint.state != Endpoint::State::kClosing) {
    const Path& path = *endpoint.group->links[endpoint.path].path;
    const Status why =
        error(verdict.code == Code::kStale ? Code::kStale : Code::kUnavailable,
              "rdma: {} to {} of {}: {}", path.local_device, path.remote_device,
              path.remote_address, endpoint.card.library().status_text(completion.status));
    if (!try_again(endpoint, now)) fail(endpoint, why, verdict.path_is_sound, now);
  }
  end_work(endpoint, work, verdict.code, now);
  if (!endpoint.empty()) return;
  endpoint.unwanted_since_ns = 0;
  const bool over =
      endpoint.state == Endpoint::State::kFailing || endpoint.state == Endpoint::State::kDraining;
  if (over) close(endpoint, now);
}

void Mover::end_work(Endpoint& endpoint, const Endpoint::Work& work, Code code, int64_t now) {
  under_way_.fetch_sub(1);
  ++counters_.ended;
  // There is room for what waits; or a path more, or less.
  if (!endpoint.group->queue.empty() || work.flight == nullptr) activate(*endpoint.group);
  if (work.flight == nullptr) {
    if (code == Code::kOk && endpoint.state == Endpoint::State::kProving) proved(endpoint, now);
    return;
  }
  Flight& flight = *work.flight;
  if (flight.code == Code::kOk) flight.code = code;
  if (--flight.left == 0) end_flight(endpoint, flight, now);
}

void Mover::end_flight(Endpoint& endpoint, Flight& flight, int64_t now) {
  PeerGroup& group = *endpoint.group;
  Slice* slice = flight.slice;
  const Code code = flight.code;
  const int64_t posted_ns = flight.posted_ns;
  free_flights_.push_back(&flight);
  if (code == Code::kOk) {
    group.queue.completed(endpoint.path, slice->length, posted_ns, now);
    finished_.emplace_back(slice, code);
    return;
  }
  group.queue.returned(endpoint.path, slice->length, now);
  const bool may_land = slice->opcode == Opcode::kWrite;
  if (may_land) fence(endpoint);
  if (slice->cancelled()) {
    finished_.emplace_back(slice, Code::kCancelled);
  } else if (code != Code::kUnavailable) {
    finished_.emplace_back(slice, code);
  } else if (may_land || !endpoint.requeues || group.dead || group.over != Code::kOk) {
    finished_.emplace_back(slice, group.over != Code::kOk ? group.over : code);
  } else {
    group.queue.push_front(slice);
    activate(group);
  }
}

// Packets of a WRITE that did not end well may still be in the network: they land as long as the
// peer's end of the connection lives. So it comes back to the engine, which waits for that.
void Mover::fence(Endpoint& endpoint) {
  if (std::exchange(endpoint.fenced, true)) return;
  host_.fence(endpoint.group->peer, kName, encode(Hello(Disconnect{{endpoint.connection_id}})));
}

Flight& Mover::take_flight(Slice* slice, int64_t now) {
  if (free_flights_.empty()) free_flights_.push_back(&flights_.emplace_back());
  Flight& flight = *free_flights_.back();
  free_flights_.pop_back();
  flight = {slice, now, 0, Code::kOk};
  return flight;
}

void Mover::return_slices(SliceList slices, Code code) {
  while (!slices.empty()) finished_.emplace_back(slices.pop(), code);
}

void Mover::sweep_now(PeerGroup& group, int64_t now) {
  return_slices(group.queue.take_cancelled(), Code::kCancelled);
  for (PeerGroup::Link& link : group.links) {
    if (!link.endpoint) continue;
    bool unwanted = false;
    link.endpoint->for_each_flight(
        [&](const Flight& flight) { unwanted = unwanted || flight.slice->cancelled(); });
    if (!unwanted) {
      link.endpoint->unwanted_since_ns = 0;
    } else if (link.endpoint->unwanted_since_ns == 0) {
      link.endpoint->unwanted_since_ns = now;
    }
    if (unwanted) watch_next_ns_ = 0;
  }
}

void Mover::reset_now(PeerGroup& group, int64_t now) {
  const Status why(Code::kUnavailable, "rdma: the path was reset");
  for (PeerGroup::Link& link : group.links) {
    link.path->set_error(why);
    if (!link.endpoint) continue;
    link.endpoint->requeues = false;
    const Endpoint::State state = link.endpoint->state;
    if (state == Endpoint::State::kReady || state == Endpoint::State::kDraining) {
      fail(*link.endpoint, why, true, now);
    }
  }
  return_slices(group.queue.take_all(), Code::kUnavailable);
}

}  // namespace te::rdma
