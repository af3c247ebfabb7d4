// What is done with the progress lock about connections: they are made when there is something to
// send, prove themselves, fail, rest, and make room for others.
#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "transport/rdma/engine.h"

namespace te::rdma {
namespace {

constexpr int64_t kTickNs = 5 * kNsPerMs;
constexpr int64_t kSlowTickNs = 500 * kNsPerMs;
constexpr int64_t kGraceNs = 5 * kNsPerMs;       // for what is wanted back to end by itself
constexpr int64_t kSuspectNs = 300 * kNsPerMs;   // of silence: then the path is doubtful, too
constexpr int64_t kSilenceNs = 5000 * kNsPerMs;  // longer than a NIC repeats by itself
constexpr int64_t kFlushNs = 10 * kNsPerMs;      // for what a failed queue pair holds to come back
constexpr int64_t kTurnNs = 100 * kNsPerMs;      // an endpoint is left to whom it was given to

}  // namespace

void VerbsEngine::made(Endpoint& endpoint, const Status& status) {
  VerbsRail& rail = *endpoint.rail;
  const int64_t now = now_ns();
  if (status.ok() && !rail.retired && over(rail) == Code::kOk) return prove(endpoint, now);
  // The peer itself is the matter, not a rail to it: the engine looks for it again.
  if (status.code() == Code::kStale) {
    rail_over(rail, Code::kStale, status);
  } else if (status.code() == Code::kNotFound) {
    rail_over(rail, Code::kUnavailable, status);
  } else if (!status.ok()) {
    rest(rail, status, now);
  }
  close(endpoint, now);
}

// A rail that failed is tried again when it rested, whatever waits.
void VerbsEngine::want_endpoint(VerbsRail& rail, int64_t now) {
  VerbsRail::State& state = rail.now;
  const bool failed = state.rest_until_ns != 0;
  const bool wants = !rail.queue.empty() || rail.wanted || failed;
  if (!state.endpoint && wants) {
    const bool may = nic_.active() && now >= state.rest_until_ns;
    const bool began = may && begin(rail, now);
    if (!began && rail.wanted && !state.in_line) {
      // Who asked for it is not left waiting.
      rail.wanted = false;
      PathState asked = PathState::kConnecting;
      rail.state.compare_exchange_strong(asked, failed ? PathState::kFailed : PathState::kIdle);
      rail_failed(rail, Code::kUnavailable);
    }
  }
  if (std::exchange(state.granted, false)) --endpoints_.reserved;
}

bool VerbsEngine::begin(VerbsRail& rail, int64_t now) {
  if (!has_slot(rail)) return false;
  auto endpoint = std::make_shared<Endpoint>(endpoints_.next++, random_u64(), rail.shared(), nic_);
  endpoint->since_ns = now;
  rail.now.endpoint = endpoint;
  rail.state.store(PathState::kConnecting);
  endpoints_.all.emplace(endpoint->id, endpoint);
  counters_.most_alive = std::max(counters_.most_alive, endpoints_.all.size());
  (void)making_.run([this, endpoint] { make(endpoint); });
  return true;
}

bool VerbsEngine::has_slot(VerbsRail& rail) {
  if (std::exchange(rail.now.granted, false)) {
    --endpoints_.reserved;
    return true;
  }
  const bool room = endpoints_.all.size() + endpoints_.reserved < options_.endpoints;
  if (endpoints_.line.empty() && room) return true;
  if (std::exchange(rail.now.in_line, true)) return false;
  endpoints_.line.push_back(&rail);
  watch_next_ns_ = 0;
  return false;
}

void VerbsEngine::grant_slots(int64_t now) {
  std::deque<VerbsRail*>& line = endpoints_.line;
  while (!line.empty() && endpoints_.all.size() + endpoints_.reserved < options_.endpoints) {
    VerbsRail& rail = *line.front();
    line.pop_front();
    rail.now.in_line = false;
    rail.now.granted = true;
    ++endpoints_.reserved;
    activate(rail);
  }
  while (endpoints_.leaving < line.size() && make_room(now)) {
  }
}

// An endpoint that nobody uses goes, or one that was used for long enough.
bool VerbsEngine::make_room(int64_t now) {
  const auto had_its_turn = [now](const Endpoint& endpoint) {
    return endpoint.state == Endpoint::State::kReady && now - endpoint.since_ns >= kTurnNs;
  };
  Endpoint* victim = endpoints_.sieve.victim(
      [&](const Endpoint& endpoint) { return had_its_turn(endpoint) && endpoint.sends.empty(); });
  if (victim == nullptr) victim = endpoints_.sieve.victim(had_its_turn);
  if (victim == nullptr) return false;
  ++counters_.evicted;
  ++endpoints_.leaving;
  victim->leaving = true;
  endpoints_.sieve.erase(victim);
  victim->state = Endpoint::State::kDraining;
  victim->since_ns = now;
  rail_idle(*victim->rail);
  if (victim->sends.empty()) close(*victim, now);
  return true;
}

// On the pool.
void VerbsEngine::make(const EndpointRef& endpoint) {
  const VerbsRail& rail = *endpoint->rail;
  Result<std::unique_ptr<QueuePair>> made = nic_.make_queue_pair(false);
  if (!made.ok()) return tell_made(endpoint, made.status());
  endpoint->pair = made.take();
  Connect hello;
  hello.id = endpoint->connection_id;
  hello.nic = static_cast<uint32_t>(rail.remote);
  hello.from = endpoint->pair->local();
  host_.exchange(rail.to, kName, encode(Hello(hello)), [this, endpoint](Result<Bytes> answer) {
    finish_making(endpoint, std::move(answer));
  });
}

void VerbsEngine::finish_making(const EndpointRef& endpoint, Result<Bytes> answer) {
  if (!answer.ok()) return tell_made(endpoint, answer.status());
  endpoint->peer_has_end = true;
  const Result<Address> address = decode_answer(as_bytes(*answer));
  if (!address.ok()) return tell_made(endpoint, address.status());
  (void)making_.run(
      [this, endpoint, there = *address] { tell_made(endpoint, endpoint->pair->connect(there)); });
}

void VerbsEngine::tell_made(const EndpointRef& endpoint, const Status& status) {
  (void)progress_.command([this, endpoint, status]()
                              TE_REQUIRES(progress_.lock) { made(*endpoint, status); });
}

void VerbsEngine::prove(Endpoint& endpoint, int64_t now) {
  endpoint.sends.start(*endpoint.pair);
  endpoint.state = Endpoint::State::kProving;
  endpoint.since_ns = endpoint.progress_ns = endpoint.used_ns = now;
  SendQueue::Operation nothing;
  nothing.write = true;
  endpoint.sends.add(nothing, nullptr);
  flush(endpoint, now);
}

void VerbsEngine::proved(Endpoint& endpoint, int64_t now) {
  VerbsRail& rail = *endpoint.rail;
  endpoint.state = Endpoint::State::kReady;
  endpoint.since_ns = now;
  ++counters_.connected;
  endpoints_.sieve.insert(&endpoint);
  rail.wanted = rail.now.dead = false;
  rail.now.proving_since_ns = rail.now.rest_until_ns = 0;
  rail.now.failures = 0;
  rail.resting.store(false);
  rail_ready(rail);
  activate(rail);
  log_debug("rdma: {} reaches {} of {}", rail.local_device, rail.remote_device,
            rail.remote_address);
}

// The peer's end may have to look for the way here for longer than a NIC repeats packets.
bool VerbsEngine::try_again(Endpoint& endpoint, int64_t now) {
  VerbsRail& rail = *endpoint.rail;
  VerbsRail::State& state = rail.now;
  if (endpoint.state != Endpoint::State::kProving) return false;
  if (state.proving_since_ns == 0) state.proving_since_ns = endpoint.since_ns;
  if (now - state.proving_since_ns > options_.connect_timeout_ms * kNsPerMs) return false;
  // Connecting all the while, for whoever looks.
  rail.wanted = true;
  endpoint.state = Endpoint::State::kFailing;
  endpoint.since_ns = now;
  watch_next_ns_ = 0;
  endpoint.pair->fail();
  if (endpoint.sends.empty()) close(endpoint, now);
  return true;
}

void VerbsEngine::rest(VerbsRail& rail, const Status& why, int64_t now) {
  VerbsRail::State& state = rail.now;
  rail.set_error(why);
  rail.wanted = false;
  state.proving_since_ns = 0;
  state.rest_until_ns = now + rest_ns(++state.failures);
  rail.resting.store(true);
  rail.state.store(PathState::kFailed);
  watch_next_ns_ = 0;
  static LogLimit limit;
  log_limited(limit, LogLevel::kInfo, "{} (to {}); it rests for {} ms", why.message(),
              rail.remote_address, (state.rest_until_ns - now) / kNsPerMs);
  // What was not posted yet goes by another rail, if there is one.
  const bool first = !std::exchange(state.dead, true);
  if (rail.rails()) hand_back(rail);
  rail.state.store(PathState::kFailed);
  rail_failed(rail, Code::kUnavailable);
  if (!rail.rails() && first) return_queue(rail, Code::kUnavailable);
}

void VerbsEngine::rail_over(VerbsRail& rail, Code code, const Status& why) {
  rail.now.over = code;
  rail.set_gone();
  rail.set_error(why);
  rail.state.store(PathState::kFailed);
  rail.resting.store(true);
  if (rail.rails()) progress_.complete(rail.rails()->end(code), code);
  return_queue(rail, code);
}

void VerbsEngine::fail(Endpoint& endpoint, const Status& why, bool is_sound, int64_t now) {
  VerbsRail& rail = *endpoint.rail;
  endpoints_.sieve.erase(&endpoint);
  endpoint.state = Endpoint::State::kFailing;
  endpoint.since_ns = now;
  watch_next_ns_ = 0;
  if (is_sound) {
    rail.set_error(why);
    rail_idle(rail);
  } else {
    rest(rail, why, now);
  }
  endpoint.pair->fail();
  if (endpoint.sends.empty()) close(endpoint, now);
}

void VerbsEngine::close(Endpoint& endpoint, int64_t now) {
  if (endpoint.state == Endpoint::State::kClosing) return;
  const EndpointRef owner = endpoints_.all.at(endpoint.id);
  endpoints_.sieve.erase(&endpoint);
  endpoint.state = Endpoint::State::kClosing;
  endpoint.since_ns = now;
  const bool tells = over(*endpoint.rail) != Code::kStale;
  (void)making_.run([this, owner, tells] {
    owner->pair.reset();
    if (owner->peer_has_end && tells) disconnect(*owner);
    (void)progress_.command([this, owner]()
                                TE_REQUIRES(progress_.lock) { closed(owner, now_ns()); });
  });
}

// So that the peer does not have to find out by itself; what it answers does not matter.
void VerbsEngine::disconnect(const Endpoint& endpoint) {
  host_.exchange(endpoint.rail->to, kName, encode(Hello(Disconnect{{endpoint.connection_id}})),
                 [](const Result<Bytes>&) {});
}

// Nothing touches memory for it any more.
void VerbsEngine::closed(const EndpointRef& endpoint, int64_t now) {
  VerbsRail& rail = *endpoint->rail;
  if (endpoints_.all.erase(endpoint->id) == 0) return;
  endpoints_.sieve.erase(endpoint.get());
  while (!endpoint->sends.empty()) {
    const SendQueue::Work work = endpoint->sends.take_oldest();
    endpoint->state = Endpoint::State::kClosing;
    end_work(*endpoint, work, Code::kUnavailable, now);
  }
  if (endpoint->leaving) --endpoints_.leaving;
  rail.now.endpoint.reset();
  PathState before = PathState::kReady;
  rail.state.compare_exchange_strong(before, PathState::kIdle);
  if (over(rail) == Code::kOk) activate(rail);
}

void VerbsEngine::retire_now(rails::Rail& each) {
  VerbsRail& rail = of(each);
  VerbsRail::State& state = rail.now;
  rail.retired = true;
  state.over = Code::kCancelled;
  const int64_t now = now_ns();
  if (const EndpointRef endpoint = state.endpoint;
      endpoint && endpoint->state != Endpoint::State::kMaking) {
    if (endpoint->sends.empty()) {
      close(*endpoint, now);
    } else if (endpoint->state <= Endpoint::State::kDraining) {
      fail(*endpoint, Status(Code::kCancelled, "rdma: the path is not used any more"), true, now);
    }
  }
  return_queue(rail, Code::kCancelled);
  std::erase(endpoints_.line, &rail);
  if (state.granted) --endpoints_.reserved;
  state.granted = state.in_line = false;
  forget(rail);
}

int64_t VerbsEngine::watch(int64_t now) {
  if (now < watch_next_ns_ && now - watched_ns_ < kSlowTickNs) return watch_next_ns_;
  watched_ns_ = now;
  int64_t next = endpoints_.all.empty() ? kNever : now + 2 * kSlowTickNs;
  std::vector<EndpointRef> endpoints;  // what is found may change the table
  for (const auto& [id, endpoint] : endpoints_.all) endpoints.push_back(endpoint);
  for (const EndpointRef& endpoint : endpoints) {
    watch_endpoint(*endpoint, now);
    const bool busy = endpoint->state == Endpoint::State::kReady && !endpoint->sends.empty();
    const bool restless =
        endpoint->unwanted_since_ns != 0 || (endpoint->state != Endpoint::State::kReady);
    if (busy || restless) next = std::min(next, now + (restless ? kTickNs : kSlowTickNs));
  }
  if (!endpoints_.line.empty()) next = std::min(next, now + kTickNs);
  next = std::min(next, watch_rails(now));
  if (!active_.empty()) advance();
  return watch_next_ns_ = next;
}

// Those that failed are tried again.
int64_t VerbsEngine::watch_rails(int64_t now) {
  int64_t next = kNever;
  for (const auto& [rail, owner] : known_) {
    const VerbsRail::State& state = of(*rail).now;
    if (over(of(*rail)) != Code::kOk) continue;
    const bool failed = state.rest_until_ns != 0 && !state.endpoint && nic_.active();
    if (failed && now < state.rest_until_ns) {
      next = std::min(next, state.rest_until_ns);
    } else if (failed) {
      activate(*rail);
      next = std::min(next, now + kTickNs);
    }
    if (rail->queue.empty()) continue;
    activate(*rail);
    next = std::min(next, now + kSlowTickNs);
  }
  return next;
}

void VerbsEngine::watch_endpoint(Endpoint& endpoint, int64_t now) {
  const int64_t in_state = now - endpoint.since_ns;
  const int64_t silent = now - endpoint.progress_ns;
  const Path& path = *endpoint.rail;
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
      if (endpoint.sends.empty()) break;
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
