// What is done with the progress lock: slices are posted and end.
#include <algorithm>

#include "base/clock.h"
#include "base/log.h"
#include "transport/rdma/engine.h"

namespace te::rdma {
namespace {

constexpr int kPolled = 32;           // completions at once
constexpr size_t kMostReaped = 1024;  // in one turn

struct Verdict {
  Code code;
  bool path_is_sound;
};

Verdict verdict_on(ibv_wc_status status) {
  switch (status) {
    case IBV_WC_SUCCESS:
      return {Code::kOk, true};
    // The peer's NIC does not know the key any more, or the range is not what it was.
    case IBV_WC_REM_ACCESS_ERR:
    case IBV_WC_REM_INV_REQ_ERR:
      return {Code::kStale, true};
    // NICs keep the pages that they registered; those that do not find memory gone.
    case IBV_WC_LOC_PROT_ERR:
      return {Code::kInvalidArgument, true};
    case IBV_WC_LOC_LEN_ERR:
      return {Code::kInternal, true};
    default:
      return {Code::kUnavailable, false};
  }
}

}  // namespace

void VerbsEngine::advance() {
  if (!endpoints_.line.empty()) grant_slots(now_ns());
  RailEngine::advance();
}

bool VerbsEngine::advance_rail(rails::Rail& each, int64_t now) {
  VerbsRail& rail = of(each);
  if (const Code code = over(rail); code != Code::kOk) {
    return_queue(rail, code);
    return false;
  }
  want_endpoint(rail, now);
  while (!rail.queue.empty() && post_next(rail, now)) {
  }
  if (rail.now.endpoint && rail.now.endpoint->sends.has_unposted()) flush(*rail.now.endpoint, now);
  return !rail.queue.empty();
}

// False: nothing can be done for the slice at the front now.
bool VerbsEngine::post_next(VerbsRail& rail, int64_t now) {
  Slice& slice = *rail.queue.first;
  if (slice.cancelled()) {
    return_slice(rail, rail.queue.pop(), Code::kCancelled, 0);
    return true;
  }
  if (Status status = cut(rail, slice); !status.ok()) {
    rail.set_error(status);
    return_slice(rail, rail.queue.pop(), status.code(), 0);
    return true;
  }
  const std::shared_ptr<Endpoint>& endpoint = rail.now.endpoint;
  if (!endpoint || endpoint->state != Endpoint::State::kReady) {
    // It failed, or made room, while slices were on their way to it: another rail may be ready.
    if (rail.rails()) hand_back(rail);
    return false;
  }
  const auto requests = static_cast<uint32_t>(operations_.size());
  if (requests > endpoint->pair->depth().sends) {
    rail.set_error(error(Code::kUnsupported,
                         "rdma: a slice of {} bytes takes {} operations: set a smaller slice_bytes "
                         "or a larger rdma_max_registration",
                         slice.length, requests));
    return_slice(rail, rail.queue.pop(), Code::kUnsupported, 0);
    return true;
  }
  if (!endpoint->sends.has_room(requests)) return false;
  Flight& flight = take_flight(rail.queue.pop(), now);
  flight.left = requests;
  if (endpoint->sends.empty()) endpoint->progress_ns = now;
  endpoint->used_ns = now;
  for (const SendQueue::Operation& operation : operations_) endpoint->sends.add(operation, &flight);
  return true;
}

// Into operations_: one for what neither a registration nor the largest message divides.
Status VerbsEngine::cut(const VerbsRail& rail, const Slice& slice) {
  operations_.clear();
  if ((rails::Key::nics_of(slice.key) >> rail.remote & 1) == 0) {
    return error(Code::kUnavailable, "rdma: the buffer is not registered with {} of {}",
                 rail.remote_device, rail.remote_address);
  }
  for (uint64_t at = 0; at < slice.length;) {
    SendQueue::Operation& operation = operations_.emplace_back();
    uint64_t length = std::min<uint64_t>(slice.length - at, nic_.max_message());
    operation.write = slice.opcode == Opcode::kWrite;
    operation.local = slice.local + at;
    operation.remote = slice.remote_address + at;
    rails::Key::Place place;
    if (!rail.find_key(slice.key, operation.remote, length, &place)) {
      return error(Code::kStale, "rdma: the buffer is not registered with {} of {}",
                   rail.remote_device, rail.remote_address);
    }
    length = place.length;
    uint64_t local_key = 0;
    if (!memories_.find(index_, operation.local, &length, &local_key, &found_)) {
      return error(Code::kUnavailable, "rdma: the local memory is not registered with {}",
                   rail.local_device);
    }
    operation.on_device = found_.on_device;
    operation.remote_key = static_cast<uint32_t>(place.key);
    operation.local_key = static_cast<uint32_t>(local_key);
    operation.length = static_cast<uint32_t>(length);
    at += length;
  }
  return {};
}

void VerbsEngine::flush(Endpoint& endpoint, int64_t now) {
  uint32_t posted = 0;
  const int result = endpoint.sends.flush(&posted);
  endpoints_.sieve.used(&endpoint);
  counters_.posted += posted;
  progress_.outstanding.fetch_add(posted, std::memory_order_relaxed);
  if (result == 0) return;
  std::vector<Flight*> flights;
  while (endpoint.sends.has_unposted()) flights.push_back(endpoint.sends.take_unposted());
  fail(endpoint,
       endpoint.nic.failed("posting to " + endpoint.rail->remote_address, result,
                           Code::kUnavailable),
       false, now);
  for (Flight* flight : flights) {
    if (flight == nullptr) continue;
    flight->code = Code::kUnavailable;
    if (--flight->left == 0) end_flight(endpoint, *flight);
  }
}

bool VerbsEngine::poll() {
  if (nic_.outstanding.load(std::memory_order_relaxed) == 0) return false;
  size_t reaped = 0;
  int64_t now = 0;  // known when it is needed
  ibv_wc completions[kPolled];
  while (reaped < kMostReaped) {
    const int count = ::ibv_poll_cq(nic_.completions(), kPolled, completions);
    if (count > 0 && now == 0) now = now_ns();
    for (int i = 0; i < count; ++i) completed(completions[i], now);
    reaped += static_cast<size_t>(std::max(count, 0));
    if (count < kPolled) break;
  }
  return reaped > 0;
}

void VerbsEngine::completed(const ibv_wc& completion, int64_t now) {
  const auto found = endpoints_.all.find(static_cast<uint32_t>(completion.wr_id >> 32));
  const auto position = static_cast<uint32_t>(completion.wr_id);
  if (found == endpoints_.all.end() || !found->second->sends.holds(position)) return;
  Endpoint& endpoint = *found->second;  // stays: closed() is called for news only
  endpoint.progress_ns = now;
  while (endpoint.sends.oldest() != position) {
    end_work(endpoint, endpoint.sends.take_oldest(), Code::kOk, now);
  }
  const SendQueue::Work work = endpoint.sends.take_oldest();
  const Verdict verdict = verdict_on(completion.status);
  if (verdict.code != Code::kOk && endpoint.state != Endpoint::State::kFailing &&
      endpoint.state != Endpoint::State::kClosing) {
    const Path& path = *endpoint.rail;
    const Status why = error(verdict.code == Code::kStale ? Code::kStale : Code::kUnavailable,
                             "rdma: {} to {} of {}: {}", path.local_device, path.remote_device,
                             path.remote_address,
                             endpoint.nic.library().completions.status_text(completion.status));
    if (!try_again(endpoint, now)) fail(endpoint, why, verdict.path_is_sound, now);
  }
  end_work(endpoint, work, verdict.code, now);
  if (!endpoint.sends.empty()) return;
  endpoint.unwanted_since_ns = 0;
  const bool over =
      endpoint.state == Endpoint::State::kFailing || endpoint.state == Endpoint::State::kDraining;
  if (over) close(endpoint, now);
}

void VerbsEngine::end_work(Endpoint& endpoint, const SendQueue::Work& work, Code code,
                           int64_t now) {
  progress_.outstanding.fetch_sub(1, std::memory_order_relaxed);
  ++counters_.ended;
  // There is room for what waits; or a rail more, or less.
  if (!endpoint.rail->queue.empty() || work.flight == nullptr) activate(*endpoint.rail);
  if (work.flight == nullptr) {
    if (code == Code::kOk && endpoint.state == Endpoint::State::kProving) proved(endpoint, now);
    return;
  }
  Flight& flight = *work.flight;
  if (flight.code == Code::kOk) flight.code = code;
  if (--flight.left == 0) end_flight(endpoint, flight);
}

void VerbsEngine::end_flight(Endpoint& endpoint, Flight& flight) {
  VerbsRail& rail = *endpoint.rail;
  Slice* slice = flight.slice;
  const Code code = flight.code;
  const int64_t posted_ns = flight.posted_ns;
  free_flights_.push_back(&flight);
  if (code == Code::kOk) return return_slice(rail, slice, code, posted_ns);
  const bool may_land = slice->opcode == Opcode::kWrite;
  if (may_land) fence(endpoint);
  if (slice->cancelled()) return return_slice(rail, slice, Code::kCancelled, posted_ns);
  if (code != Code::kUnavailable) return return_slice(rail, slice, code, posted_ns);
  const Code gone = over(rail);
  const bool again = !may_land && endpoint.requeues && gone == Code::kOk && rail.rails();
  if (again && rail.rails()->take_back(rail.place(), slice)) {
    return progress_.advance_later(rail.rails());
  }
  return_slice(rail, slice, gone != Code::kOk ? gone : code, posted_ns);
}

// Packets of a WRITE that did not end well may still be in the network: they land as long as the
// peer's end of the connection lives. So it comes back to the engine, which waits for that.
void VerbsEngine::fence(Endpoint& endpoint) {
  if (std::exchange(endpoint.fenced, true)) return;
  host_.fence(endpoint.rail->to, kName, encode(Hello(Disconnect{{endpoint.connection_id}})));
}

Flight& VerbsEngine::take_flight(Slice* slice, int64_t now) {
  if (free_flights_.empty()) free_flights_.push_back(&flights_.emplace_back());
  Flight& flight = *free_flights_.back();
  free_flights_.pop_back();
  flight = {slice, now, 0, Code::kOk};
  return flight;
}

void VerbsEngine::sweep_under_way(rails::Rail& rail) {
  if (!of(rail).now.endpoint) return;
  Endpoint& endpoint = *of(rail).now.endpoint;
  bool unwanted = false;
  endpoint.sends.for_each_flight(
      [&](const Flight& flight) { unwanted = unwanted || flight.slice->cancelled(); });
  if (!unwanted) {
    endpoint.unwanted_since_ns = 0;
  } else if (endpoint.unwanted_since_ns == 0) {
    endpoint.unwanted_since_ns = now_ns();
  }
  if (unwanted) watch_next_ns_ = 0;
}

void VerbsEngine::reset_connection(rails::Rail& rail, const Status& why) {
  if (!of(rail).now.endpoint) return;
  Endpoint& endpoint = *of(rail).now.endpoint;
  endpoint.requeues = false;
  if (endpoint.state == Endpoint::State::kReady || endpoint.state == Endpoint::State::kDraining) {
    fail(endpoint, why, true, now_ns());
  }
}

}  // namespace te::rdma
