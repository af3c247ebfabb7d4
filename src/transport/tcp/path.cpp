#include "transport/tcp/path.h"

#include <poll.h>

#include <algorithm>
#include <array>

#include "base/clock.h"
#include "base/random.h"

namespace te::tcp {
namespace {

// Time without a visit before the loops listen again: the longer, the longer visits have come.
constexpr int64_t kFirstLeaseMs = 1;
constexpr int64_t kLongestLeaseMs = 8;
constexpr int kRouseRounds = 8;
constexpr int64_t kRouseNs = 5 * kNsPerMs;

const void* this_thread() {
  static thread_local char mark;
  return &mark;
}

uint64_t total_load(const std::vector<std::shared_ptr<Lane>>& lanes) {
  uint64_t bytes = 0;
  for (const std::shared_ptr<Lane>& lane : lanes) bytes += lane->load();
  return bytes;
}

bool take_answers(const std::vector<std::shared_ptr<Lane>>& lanes) {
  bool news = false;
  for (const std::shared_ptr<Lane>& lane : lanes) {
    if (lane->load() > 0) news = lane->take_answers() || news;
  }
  return news;
}

bool any_blocked(const std::vector<std::shared_ptr<Lane>>& lanes) {
  return std::any_of(lanes.begin(), lanes.end(), [](const auto& lane) { return lane->blocked(); });
}

}  // namespace

TcpPath::TcpPath(Transport& owner, TransportHost& host, std::vector<EventLoop*> loops,
                 size_t lane_count, const LaneOptions& options, int64_t spin_ns, const Peer& peer)
    : Path(owner, "", "", peer.address.to_string()),
      host_(host),
      loops_(std::move(loops)),
      lane_count_(lane_count),
      options_(options),
      address_(peer.address),
      peer_(peer),
      session_(random_u64()),
      spin_(spin_ns) {}

void TcpPath::connect() {
  ++epoch_;
  lanes_ready_ = 0;
  state.store(PathState::kConnecting);
  auto lanes = std::make_shared<Lanes>();
  for (size_t i = 0; i < lane_count_; ++i) {
    EventLoop& loop = *loops_[(session_ + i) % loops_.size()];
    lanes->push_back(std::make_shared<Lane>(loop, host_, shared_from_this(), *this, options_));
    wire::Hello hello;
    hello.kind = wire::ChannelKind::kTcpData;
    hello.lane = static_cast<uint16_t>(i);
    hello.instance = host_.instance();
    hello.target_instance = peer_.instance;
    hello.session = session_;
    hello.epoch = epoch_;
    lanes->back()->connect(address_, hello);
  }
  lanes_ = std::move(lanes);
}

std::shared_ptr<const TcpPath::Lanes> TcpPath::ready_lanes() {
  MutexLock lock(mutex_);
  return lanes_ && lanes_ready_ == lanes_->size() ? lanes_ : nullptr;
}

void TcpPath::submit(SliceList slices) {
  std::shared_ptr<const Lanes> lanes;
  bool ended = false;
  {
    MutexLock lock(mutex_);
    ended = ended_;
    if (!ended && !lanes_) connect();
    if (!ended && lanes_ready_ < lanes_->size()) {
      waiting_.append(slices);
      return;
    }
    lanes = lanes_;
  }
  if (ended) return return_later(slices, Code::kCancelled);
  distribute(slices, *lanes);
  // Nobody may be about to visit for what another thread posts.
  if (deaf_.load() && visitor_.load(std::memory_order_relaxed) != this_thread()) leave_to_loops();
}

void TcpPath::end() {
  {
    MutexLock lock(mutex_);
    ended_ = true;
  }
  reset(Code::kCancelled, Status(Code::kCancelled, "tcp: the transport was taken away"));
}

void TcpPath::warm_up() {
  if (const std::shared_ptr<const Lanes> lanes = ready_lanes()) return rouse(lanes);
  MutexLock lock(mutex_);
  if (!ended_ && !lanes_) connect();
}

// The peer polls for what comes at short notice, when it has come so a few times.
void TcpPath::rouse(const std::shared_ptr<const Lanes>& lanes) {
  if (total_load(*lanes) > 0 || !visits_.enter()) return;
  begin_visit();
  if (!is_deaf(lanes)) stop_listening(lanes);
  const int64_t until_ns = now_ns() + kRouseNs;
  // The lane that the next small request takes comes last.
  for (auto lane = lanes->rbegin(); lane != lanes->rend(); ++lane) {
    const bool last = std::next(lane) == lanes->rend();
    for (int round = 0; round < (last ? kRouseRounds : 1) && now_ns() < until_ns; ++round) {
      const uint64_t before = (*lane)->acks();
      (*lane)->ask();
      while ((*lane)->acks() == before && now_ns() < until_ns) {
        (*lane)->take_answers();
        std::this_thread::yield();
      }
    }
  }
  end_visit();
}

void TcpPath::distribute(SliceList slices, const Lanes& lanes) {
  uint64_t outgoing = 0;
  while (!slices.empty()) {
    SliceList run;
    uint64_t bytes = 0;
    while (!slices.empty() && bytes < kRunBytes) {
      bytes += slices.first->length;
      if (slices.first->opcode == Opcode::kWrite) outgoing += slices.first->length;
      run.push(slices.pop());
    }
    Lane& lane =
        **std::min_element(lanes.begin(), lanes.end(),
                           [](const std::shared_ptr<Lane>& a, const std::shared_ptr<Lane>& b) {
                             return a->load() < b->load();
                           });
    if (!lane.enqueue(run, bytes)) {
      run.append(slices);
      return_later(run, Code::kUnavailable);
      return;
    }
  }
  // The caller sends what is small. The rest is left to the loops, and to the caller when it waits:
  // handing over a large submission takes no longer than planning it.
  for (const std::shared_ptr<Lane>& lane : lanes) {
    if (lane->load() == 0) continue;
    if (outgoing <= kInlineBytes) {
      lane->flush();
    } else {
      lane->flush_later();
    }
  }
}

bool TcpPath::progress(int64_t until_ns, Waker& waker) {
  if (!visits_.begin()) return false;
  begin_visit();
  const bool useful = visit(until_ns, waker);
  end_visit();
  return useful;
}

void TcpPath::begin_visit() {
  visitor_.store(this_thread(), std::memory_order_relaxed);
  ++visit_count_;
}

void TcpPath::end_visit() {
  visits_.leave();
  // Who came meanwhile was sent away, and sleeps.
  if (visits_.backed_off()) leave_to_loops();
}

bool TcpPath::visit(int64_t until_ns, Waker& waker) {
  const std::shared_ptr<const Lanes> lanes = ready_lanes();
  const uint64_t load = lanes ? total_load(*lanes) : 0;
  if (load == 0 || (load > kVisitBytes && lanes->size() > 1)) {
    if (load > 0) listen_again();
    return false;
  }
  if (!is_deaf(lanes)) stop_listening(lanes);
  const int64_t begin_ns = now_ns();
  for (const std::shared_ptr<Lane>& lane : *lanes) lane->continue_sending();
  bool news = take_answers(*lanes);
  if (until_ns == 0 || news) return true;
  const bool worth = total_load(*lanes) <= Lane::kPollBytes;
  const int64_t spin_until_ns = worth ? std::min(begin_ns + spin_.budget_ns(), until_ns) : 0;
  for (int polls = 1; !news && !any_blocked(*lanes) && now_ns() < spin_until_ns; ++polls) {
    if (polls % kPollsPerYield == 0) std::this_thread::yield();
    news = take_answers(*lanes);
  }
  if (!news) {
    sleep(*lanes, until_ns, waker);
    take_answers(*lanes);
  }
  spin_.came_after(now_ns() - begin_ns);
  return true;
}

void TcpPath::sleep(const Lanes& lanes, int64_t until_ns, Waker& waker) {
  {
    MutexLock lock(sleeper_mutex_);
    sleeper_ = &waker;
  }
  std::array<pollfd, 65> entries;  // tcp_connections, and one
  size_t count = 0;
  entries[count++] = {waker.descriptor(), POLLIN, 0};
  for (const std::shared_ptr<Lane>& lane : lanes) {
    if (count == entries.size()) break;
    const int events = (lane->load() > 0 ? POLLIN : 0) | (lane->blocked() ? POLLOUT : 0);
    entries[count++] = {lane->descriptor(), static_cast<short>(events), 0};
  }
  const int64_t left_ns = std::max<int64_t>(until_ns - now_ns(), 0);
  const timespec left{left_ns / 1'000'000'000, left_ns % 1'000'000'000};
  if (!visits_.backed_off()) ::ppoll(entries.data(), count, &left, nullptr);
  {
    MutexLock lock(sleeper_mutex_);
    sleeper_ = nullptr;
  }
  if ((entries[0].revents & POLLIN) != 0) waker.clear();
  for (size_t i = 1; i < count; ++i) {
    if ((entries[i].revents & POLLOUT) != 0) lanes[i - 1]->room();
  }
}

bool TcpPath::is_deaf(const std::shared_ptr<const Lanes>& lanes) const {
  return !deaf_lanes_.owner_before(lanes) && !lanes.owner_before(deaf_lanes_);
}

void TcpPath::stop_listening(const std::shared_ptr<const Lanes>& lanes) {
  for (const std::shared_ptr<Lane>& lane : *lanes) lane->listen(false);
  deaf_lanes_ = lanes;
  deaf_.store(true);
  if (leased_) return;
  lease_ms_.store(kFirstLeaseMs);
  leased_ = loops_.front()->run([weak = weak_from_this()] {
    if (const std::shared_ptr<TcpPath> self = weak.lock()) self->check_lease();
  });
}

void TcpPath::listen_again() {
  if (!deaf_.load()) return;
  if (const std::shared_ptr<const Lanes> lanes = deaf_lanes_.lock()) {
    for (const std::shared_ptr<Lane>& lane : *lanes) lane->listen(true);
  }
  deaf_lanes_.reset();
  deaf_.store(false);
}

// A visitor that is here now does it when it leaves, which is soon.
void TcpPath::leave_to_loops() {
  visits_.back_off();
  if (!visits_.enter()) return wake_sleeper();
  listen_again();
  visits_.leave();
}

void TcpPath::wake_sleeper() {
  MutexLock lock(sleeper_mutex_);
  if (sleeper_ != nullptr) sleeper_->wake();
}

// On a loop: nobody visited for a while, so the loops listen again.
void TcpPath::check_lease() {
  if (visits_.enter()) {
    const bool over = visit_count_ == visits_at_check_;
    visits_at_check_ = visit_count_;
    lease_ms_.store(std::min(lease_ms_.load() * 2, kLongestLeaseMs));
    if (over) {
      listen_again();
      leased_ = false;
    }
    visits_.leave();
    if (over) return;
  }
  loops_.front()->run_after(lease_ms_.load(), [weak = weak_from_this()] {
    if (const std::shared_ptr<TcpPath> self = weak.lock()) self->check_lease();
  });
}

void TcpPath::return_later(SliceList slices, Code code) {
  const auto give_back = [this, code](SliceList list) {
    while (!list.empty()) host_.done(list.pop(), code);
  };
  // A loop that has ended takes nothing; then there is no submit() to be inside of that still
  // counts.
  const bool taken =
      loops_.front()->run([self = shared_from_this(), slices, give_back] { give_back(slices); });
  if (!taken) give_back(slices);
}

bool TcpPath::is_current(const Lane& lane) const {
  return lanes_ && std::any_of(lanes_->begin(), lanes_->end(),
                               [&lane](const auto& member) { return member.get() == &lane; });
}

void TcpPath::lane_ready(Lane& lane) {
  SliceList slices;
  std::shared_ptr<const Lanes> lanes;
  {
    MutexLock lock(mutex_);
    if (!is_current(lane) || ++lanes_ready_ < lanes_->size()) return;
    state.store(PathState::kReady);
    slices = waiting_;
    waiting_ = {};
    lanes = lanes_;
  }
  if (!slices.empty()) distribute(slices, *lanes);
}

// A loop filled the socket, and does not listen while somebody visits; and the visitor may have
// gone to sleep for answers alone, of which none comes before the rest was sent.
void TcpPath::lane_blocked() {
  if (deaf_.load()) wake_sleeper();
}

bool TcpPath::careful() {
  const int64_t until_ns = careful_until_ns_.load(std::memory_order_relaxed);
  return until_ns != 0 && now_ns() < until_ns;
}

void TcpPath::lane_broken(Lane& lane, Status why) {
  Code code = Code::kUnavailable;
  // What another run of the peer, or a refusal, means is for the engine to decide.
  if (why.code() == Code::kStale || why.code() == Code::kUnsupported) code = why.code();
  {
    MutexLock lock(mutex_);
    if (!is_current(lane)) {
      lane.fail(Code::kUnavailable);
      return;
    }
  }
  reset(code, std::move(why));
}

void TcpPath::reset(Code code, Status why) {
  std::shared_ptr<const Lanes> lanes;
  SliceList slices;
  Retire retire{session_};
  {
    MutexLock lock(mutex_);
    lanes.swap(lanes_);
    lanes_ready_ = 0;
    retire.epoch = epoch_;
    slices = waiting_;
    waiting_ = {};
  }
  if (lanes) {
    set_error(std::move(why));
    state.store(PathState::kFailed);
    // The next session here ends this one, but a WRITE may go by another path.
    if (total_load(*lanes) > 0) host_.fence(peer_, "tcp", retire.encode());
    // They hold the path, and nobody else holds them.
    for (const std::shared_ptr<Lane>& lane : *lanes) {
      run_persistently([&] { lane->fail(code); });
    }
  }
  if (!slices.empty()) return_later(slices, code);
}

void TcpPath::check_alive() {
  const std::shared_ptr<const Lanes> lanes = ready_lanes();
  if (!lanes) return;
  for (const std::shared_ptr<Lane>& lane : *lanes) {
    if (lane->load() > 0) lane->check_alive();
  }
}

void TcpPath::sweep() {
  std::shared_ptr<const Lanes> lanes;
  SliceList cancelled;
  {
    MutexLock lock(mutex_);
    cancelled = take_cancelled(waiting_);
    lanes = lanes_;
  }
  if (!cancelled.empty()) return_later(cancelled, Code::kCancelled);
  if (!lanes) return;
  for (const std::shared_ptr<Lane>& lane : *lanes) lane->sweep();
}

}  // namespace te::tcp
