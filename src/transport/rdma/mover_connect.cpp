// What is done in a turn about connections: they are made when there is something to send, prove
// themselves, fail, rest, and make room for others.
#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "transport/rdma/mover.h"

namespace te::rdma {
namespace {

constexpr int64_t kTickNs = 5 * kNsPerMs;
constexpr int64_t kSlowTickNs = 500 * kNsPerMs;
constexpr int64_t kGraceNs = 5 * kNsPerMs;       // for what is wanted back to end by itself
constexpr int64_t kSuspectNs = 300 * kNsPerMs;   // of silence: then the path is doubtful, too
constexpr int64_t kSilenceNs = 5000 * kNsPerMs;  // longer than a card repeats by itself
constexpr int64_t kFlushNs = 10 * kNsPerMs;      // for what a failed queue pair holds to come back
constexpr int64_t kTurnNs = 100 * kNsPerMs;      // an endpoint is left to whom it was given to
constexpr int64_t kIdleNs = 1000 * kNsPerMs;

}  // namespace

void Mover::take_news(int64_t now) {
  std::vector<News> all;
  {
    MutexLock lock(mail_mutex_);
    all.swap(news_);
  }
  for (const News& news : all) {
    Endpoint& endpoint = *news.endpoint;
    PeerGroup& group = *endpoint.group;
    if (news.closed) {
      closed(news.endpoint, now);
      continue;
    }
    if (news.status.ok() && !group.retired && group.over == Code::kOk) {
      prove(endpoint, now);
      continue;
    }
    const Code code = news.status.code();
    // The peer itself is the matter, not a path to it: the engine looks for it again.
    if (code == Code::kStale || code == Code::kNotFound) {
      group_over(group, code == Code::kStale ? code : Code::kUnavailable, news.status);
    } else if (!news.status.ok()) {
      path_failed(group, endpoint.path, news.status, now);
      if (news.peer_lost) return_slices(group.queue.take_all(), Code::kUnavailable);
    }
    close(endpoint, now);
  }
}

bool Mover::may_try(const PeerGroup& group, size_t link, int64_t now) const {
  const PeerGroup::Link& which = group.links[link];
  return !which.endpoint && cards_[which.local]->active() && !group.queue.resting(link, now);
}

// Each local card has one path in use, the first that is not resting; those that failed are tried
// again when they rested, whatever waits.
void Mover::want_links(PeerGroup& group, int64_t now) {
  const bool all = !group.queue.empty() || group.dead;
  size_t served = SIZE_MAX;  // the local card that has its path
  for (size_t i = 0; i < group.links.size(); ++i) {
    PeerGroup::Link& link = group.links[i];
    const bool first = link.local != served;
    const bool doubtful = group.queue.doubtful(i);
    if (link.endpoint) {
      const bool alive = link.endpoint->state != Endpoint::State::kFailing &&
                         link.endpoint->state != Endpoint::State::kClosing;
      if (alive || !doubtful) served = link.local;
      continue;
    }
    if (!(all && first) && !link.wanted && !doubtful) continue;
    const bool began = may_try(group, i, now) && begin(group, i, now);
    if (began) served = link.local;
    if (!began && link.wanted && !group.in_line) {
      // Who asked for it is not left waiting.
      link.wanted = false;
      PathState asked = PathState::kConnecting;
      link.path->state.compare_exchange_strong(asked,
                                               doubtful ? PathState::kFailed : PathState::kIdle);
    }
  }
  if (group.granted) {
    group.granted = false;
    --reserved_;
  }
}

bool Mover::begin(PeerGroup& group, size_t link, int64_t now) {
  const bool first =
      std::none_of(group.links.begin(), group.links.end(), [](const PeerGroup::Link& other) {
        return other.endpoint && other.endpoint->state <= Endpoint::State::kReady;
      });
  if (!has_slot(group, first, now)) return false;
  PeerGroup::Link& which = group.links[link];
  auto endpoint = std::make_shared<Endpoint>(next_endpoint_++, random_u64(),
                                             group.shared_from_this(), link, *cards_[which.local]);
  endpoint->since_ns = now;
  which.endpoint = endpoint;
  which.path->state.store(PathState::kConnecting);
  endpoints_.emplace(endpoint->id, endpoint);
  counters_.most_alive = std::max(counters_.most_alive, endpoints_.size());
  (void)making_.run([this, endpoint] { make(endpoint); });
  return true;
}

bool Mover::has_slot(PeerGroup& group, bool first, int64_t now) {
  if (group.granted) {
    group.granted = false;
    --reserved_;
    return true;
  }
  if (line_.empty() && endpoints_.size() + reserved_ < options_.endpoints) return true;
  if (!first) {
    if (line_.empty() && leaving_ == 0) make_room(false, now);
    return false;
  }
  if (!group.in_line) {
    group.in_line = true;
    line_.push_back(&group);
    watch_next_ns_ = 0;
  }
  return false;
}

void Mover::grant_slots(int64_t now) {
  if (line_.empty()) return;
  while (!line_.empty() && endpoints_.size() + reserved_ < options_.endpoints) {
    PeerGroup& group = *line_.front();
    line_.pop_front();
    group.in_line = false;
    group.granted = true;
    ++reserved_;
    activate(group);
  }
  while (leaving_ < line_.size() && make_room(true, now)) {
  }
}

// An endpoint that nobody uses goes; or, for who has none at all, one that was used long enough.
bool Mover::make_room(bool for_first, int64_t now) {
  const auto had_its_turn = [now](const Endpoint& endpoint) {
    return endpoint.state == Endpoint::State::kReady && now - endpoint.since_ns >= kTurnNs;
  };
  Endpoint* victim = sieve_.victim([&](const Endpoint& endpoint) {
    return had_its_turn(endpoint) && endpoint.empty() &&
           (for_first || now - endpoint.used_ns >= kIdleNs);
  });
  if (victim == nullptr && for_first) victim = sieve_.victim(had_its_turn);
  if (victim == nullptr) return false;
  ++counters_.evicted;
  ++leaving_;
  victim->leaving = true;
  victim->group->queue.idle(victim->path);
  sieve_.erase(victim);
  victim->state = Endpoint::State::kDraining;
  victim->since_ns = now;
  if (victim->empty()) close(*victim, now);
  return true;
}

// On the pool.
void Mover::make(const EndpointRef& endpoint) {
  const PeerGroup& group = *endpoint->group;
  Result<std::unique_ptr<QueuePair>> made = endpoint->card.make_queue_pair(false);
  if (!made.ok()) return tell({endpoint, false, false, made.status()});
  endpoint->pair = made.take();
  Connect hello;
  hello.id = endpoint->connection_id;
  hello.card = static_cast<uint32_t>(group.links[endpoint->path].remote);
  hello.from = endpoint->pair->local();
  host_.exchange(group.peer, kName, encode(Hello(hello)), [this, endpoint](Result<Bytes> answer) {
    finish_making(endpoint, std::move(answer));
  });
}

void Mover::finish_making(const EndpointRef& endpoint, Result<Bytes> answer) {
  if (!answer.ok()) {
    const bool lost = answer.code() == Code::kUnavailable;
    return tell({endpoint, false, lost, answer.status()});
  }
  endpoint->peer_has_end = true;
  const Result<Address> address = decode_answer(as_bytes(*answer));
  if (!address.ok()) return tell({endpoint, false, false, address.status()});
  (void)making_.run([this, endpoint, there = *address] {
    tell({endpoint, false, false, endpoint->pair->connect(there)});
  });
}

void Mover::prove(Endpoint& endpoint, int64_t now) {
  endpoint.start();
  endpoint.state = Endpoint::State::kProving;
  endpoint.since_ns = endpoint.progress_ns = endpoint.used_ns = now;
  Endpoint::Operation nothing;
  nothing.write = true;
  endpoint.add(nothing, nullptr);
  flush(endpoint, now);
}

void Mover::proved(Endpoint& endpoint, int64_t now) {
  PeerGroup& group = *endpoint.group;
  endpoint.state = Endpoint::State::kReady;
  endpoint.since_ns = now;
  ++counters_.connected;
  sieve_.insert(&endpoint);
  group.links[endpoint.path].wanted = false;
  group.links[endpoint.path].proving_since_ns = 0;
  group.dead = false;
  group.queue.ready(endpoint.path);
  log_debug("rdma: {} reaches {} of {}", group.links[endpoint.path].path->local_device,
            group.links[endpoint.path].path->remote_device,
            group.links[endpoint.path].path->remote_address);
}

// The peer's end may have to look for the way here for longer than a card repeats packets.
bool Mover::try_again(Endpoint& endpoint, int64_t now) {
  PeerGroup::Link& link = endpoint.group->links[endpoint.path];
  if (endpoint.state != Endpoint::State::kProving) return false;
  if (link.proving_since_ns == 0) link.proving_since_ns = endpoint.since_ns;
  if (now - link.proving_since_ns > options_.connect_timeout_ms * kNsPerMs) return false;
  // Connecting all the while, for whoever looks.
  link.wanted = true;
  endpoint.state = Endpoint::State::kFailing;
  endpoint.since_ns = now;
  watch_next_ns_ = 0;
  endpoint.pair->fail();
  if (endpoint.empty()) close(endpoint, now);
  return true;
}

bool Mover::has_way(const PeerGroup& group, int64_t now) const {
  for (size_t i = 0; i < group.links.size(); ++i) {
    const std::shared_ptr<Endpoint>& endpoint = group.links[i].endpoint;
    const bool coming =
        endpoint && endpoint->state <= Endpoint::State::kReady && !group.queue.resting(i, now);
    const bool leaving = endpoint && endpoint->leaving;
    if (coming || leaving || group.queue.usable(i) || may_try(group, i, now)) return true;
  }
  return false;
}

void Mover::path_failed(PeerGroup& group, size_t link, const Status& why, int64_t now) {
  Path& path = *group.links[link].path;
  path.set_error(why);
  group.links[link].wanted = false;
  group.links[link].proving_since_ns = 0;
  group.queue.failed(link, now);
  watch_next_ns_ = 0;
  static LogLimit limit;
  log_limited(limit, LogLevel::kInfo, "{} (to {}); it rests for {} ms", why.message(),
              path.remote_address, (group.queue.rest_until_ns(link) - now) / kNsPerMs);
  if (!has_way(group, now)) lost_all(group, why);
}

void Mover::lost_all(PeerGroup& group, const Status& why) {
  if (group.dead) return;
  group.dead = true;
  watch_next_ns_ = 0;
  for (PeerGroup::Link& link : group.links) {
    if (link.path->last_error().ok()) link.path->set_error(why);
    link.path->resting.store(true);
  }
  return_slices(group.queue.take_all(), Code::kUnavailable);
}

void Mover::group_over(PeerGroup& group, Code code, const Status& why) {
  group.over = code;
  group.gone = true;
  for (PeerGroup::Link& link : group.links) {
    link.path->set_error(why);
    link.path->state.store(PathState::kFailed);
    link.path->resting.store(true);
  }
  return_slices(group.queue.take_all(), code);
}

void Mover::fail(Endpoint& endpoint, const Status& why, bool is_sound, int64_t now) {
  PeerGroup& group = *endpoint.group;
  sieve_.erase(&endpoint);
  endpoint.state = Endpoint::State::kFailing;
  endpoint.since_ns = now;
  watch_next_ns_ = 0;
  if (is_sound) {
    group.links[endpoint.path].path->set_error(why);
    group.queue.idle(endpoint.path);
  } else {
    path_failed(group, endpoint.path, why, now);
  }
  endpoint.pair->fail();
  if (endpoint.empty()) close(endpoint, now);
}

void Mover::close(Endpoint& endpoint, int64_t now) {
  if (endpoint.state == Endpoint::State::kClosing) return;
  const EndpointRef owner = endpoints_.at(endpoint.id);
  sieve_.erase(&endpoint);
  endpoint.state = Endpoint::State::kClosing;
  endpoint.since_ns = now;
  (void)making_.run([this, owner] {
    owner->pair.reset();
    if (owner->peer_has_end) disconnect(*owner);
    tell({owner, true, false, {}});
  });
}

// So that the peer does not have to find out by itself; what it answers does not matter.
void Mover::disconnect(const Endpoint& endpoint) {
  if (endpoint.group->over == Code::kStale) return;
  host_.exchange(endpoint.group->peer, kName, encode(Hello(Disconnect{{endpoint.connection_id}})),
                 [](const Result<Bytes>&) {});
}

// Nothing touches memory for it any more.
void Mover::closed(const EndpointRef& endpoint, int64_t now) {
  PeerGroup& group = *endpoint->group;
  if (endpoints_.erase(endpoint->id) == 0) return;
  sieve_.erase(endpoint.get());
  while (!endpoint->empty()) {
    const Endpoint::Work work = endpoint->take_oldest();
    endpoint->state = Endpoint::State::kClosing;
    end_work(*endpoint, work, Code::kUnavailable, now);
  }
  if (endpoint->leaving) --leaving_;
  PeerGroup::Link& link = group.links[endpoint->path];
  link.endpoint.reset();
  PathState before = PathState::kReady;
  link.path->state.compare_exchange_strong(before, PathState::kIdle);
  if (group.over == Code::kOk) activate(group);
}

void Mover::forget(PeerGroup& group) {
  group.retired = true;
  group.over = Code::kCancelled;
  const int64_t now = now_ns();
  for (PeerGroup::Link& link : group.links) {
    if (!link.endpoint || link.endpoint->state == Endpoint::State::kMaking) continue;
    if (link.endpoint->empty()) {
      close(*link.endpoint, now);
    } else if (link.endpoint->state <= Endpoint::State::kDraining) {
      fail(*link.endpoint, Status(Code::kCancelled, "rdma: the path is not used any more"), true,
           now);
    }
  }
  return_slices(group.queue.take_all(), Code::kCancelled);
  std::erase(active_, &group);
  std::erase(line_, &group);
  if (group.granted) --reserved_;
  group.granted = group.in_line = group.active = false;
  group.known = false;
  groups_.erase(&group);  // it may end here
}

int64_t Mover::watch(int64_t now) {
  if (now < watch_next_ns_ && now - watched_ns_ < kSlowTickNs) return watch_next_ns_;
  watched_ns_ = now;
  int64_t next = endpoints_.empty() ? kNever : now + 2 * kSlowTickNs;
  std::vector<EndpointRef> endpoints;  // what is found may change the table
  for (const auto& [id, endpoint] : endpoints_) endpoints.push_back(endpoint);
  for (const EndpointRef& endpoint : endpoints) {
    watch_endpoint(*endpoint, now);
    const bool busy = endpoint->state == Endpoint::State::kReady && !endpoint->empty();
    const bool restless =
        endpoint->unwanted_since_ns != 0 || (endpoint->state != Endpoint::State::kReady);
    if (busy || restless) next = std::min(next, now + (restless ? kTickNs : kSlowTickNs));
  }
  if (!line_.empty()) next = std::min(next, now + kTickNs);
  for (const auto& [group, owner] : groups_) {
    if (group->over != Code::kOk) continue;
    for (size_t i = 0; i < group->links.size(); ++i) {
      if (group->links[i].endpoint || !group->queue.doubtful(i)) continue;
      if (!cards_[group->links[i].local]->active()) continue;
      if (group->queue.resting(i, now)) {
        next = std::min(next, group->queue.rest_until_ns(i));
      } else {
        activate(*group);
        next = std::min(next, now + kTickNs);
      }
    }
    if (group->dead || !group->queue.empty()) {
      activate(*group);
      next = std::min(next, now + kSlowTickNs);
    }
  }
  if (!active_.empty()) advance_all(now);
  return watch_next_ns_ = next;
}

void Mover::watch_endpoint(Endpoint& endpoint, int64_t now) {
  const int64_t in_state = now - endpoint.since_ns;
  const int64_t silent = now - endpoint.progress_ns;
  const Path& path = *endpoint.group->links[endpoint.path].path;
  switch (endpoint.state) {
    case Endpoint::State::kProving:
      if (in_state > std::max(options_.connect_timeout_ms * kNsPerMs, kSilenceNs)) {
        fail(endpoint,
             error(Code::kUnavailable, "rdma: {} to {} of {}: no answer", path.local_device,
                   path.remote_device, path.remote_address),
             false, now);
      }
      break;
    case Endpoint::State::kReady:
    case Endpoint::State::kDraining: {
      if (endpoint.empty()) break;
      const bool wanted_back =
          endpoint.unwanted_since_ns != 0 && now - endpoint.unwanted_since_ns > kGraceNs;
      if (!wanted_back && silent <= kSilenceNs) break;
      fail(endpoint,
           error(Code::kUnavailable, "rdma: {} to {} of {}: silent for {} ms", path.local_device,
                 path.remote_device, path.remote_address, silent / kNsPerMs),
           silent <= kSuspectNs, now);
      break;
    }
    case Endpoint::State::kFailing:
      if (in_state > kFlushNs) close(endpoint, now);
      break;
    default:
      break;
  }
}

}  // namespace te::rdma
