#include "transport/tcp/path.h"

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "base/random.h"

namespace te::tcp {
namespace {

constexpr int kPollsAtOnce = 1;  // each is a system call per lane
constexpr int kWarmUpRounds = 8;
constexpr int64_t kWarmUpNs = 5 * kNsPerMs;

uint64_t total_load(const Lanes& lanes) {
  uint64_t bytes = 0;
  for (const std::shared_ptr<Lane>& lane : lanes) bytes += lane->load();
  return bytes;
}

bool take_answers(const Lanes& lanes) {
  bool news = false;
  for (const std::shared_ptr<Lane>& lane : lanes) {
    if (lane->load() > 0) news = lane->take_answers() || news;
  }
  return news;
}

bool any_blocked(const Lanes& lanes) {
  return std::any_of(lanes.begin(), lanes.end(), [](const auto& lane) { return lane->blocked(); });
}

// What a caller does for the lanes of a session.
class SessionWork final : public CallerWork {
 public:
  SessionWork(const Lanes& lanes, const CallerProgress& callers)
      : lanes_(lanes), callers_(callers) {}

  bool work(int polls) override {
    while (!take_answers(lanes_)) {
      if (--polls <= 0 || any_blocked(lanes_)) return false;
    }
    return true;
  }
  bool pending() const override { return total_load(lanes_) > 0; }
  bool worth_polling() const override {
    return total_load(lanes_) <= Lane::kPollBytes && !any_blocked(lanes_);
  }
  BeforeSleep before_sleep(CallerSleep& sleep) override {
    for (const std::shared_ptr<Lane>& lane : lanes_) {
      const int events = (lane->load() > 0 ? POLLIN : 0) | (lane->blocked() ? POLLOUT : 0);
      sleep.listen(lane->descriptor(), static_cast<short>(events));
    }
    // Another thread may have posted to a lane that had nothing under way.
    return callers_.backed_off() ? BeforeSleep::kLookAgain : BeforeSleep::kSleep;
  }
  void after_sleep(const CallerSleep& sleep) override {
    for (size_t i = 0; i < sleep.count(); ++i) {
      if ((sleep.events(i) & POLLOUT) != 0) lanes_[i]->room();
    }
  }

 private:
  const Lanes& lanes_;
  const CallerProgress& callers_;
};

}  // namespace

TcpPath::TcpPath(Transport& owner, TransportHost& host, std::vector<EventLoop*> loops,
                 size_t lane_count, const LaneOptions& options, int64_t spin_ns, const Peer& peer)
    : Path(owner, "", "", peer.to_string()),
      host_(host),
      loops_(std::move(loops)),
      lane_count_(lane_count),
      options_(options),
      peer_(peer),
      session_(random_u64()),
      callers_(spin_ns, kPollsAtOnce) {}

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
    lanes->back()->connect(peer_.address, hello);
  }
  lanes_ = std::move(lanes);
}

std::shared_ptr<const Lanes> TcpPath::ready_lanes() {
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
  // No caller may be about to come for what another thread posts.
  if (attachment_.detached_for_another_thread()) leave_to_loops();
}

void TcpPath::end() {
  {
    MutexLock lock(mutex_);
    ended_ = true;
  }
  reset(Code::kCancelled, {});
}

void TcpPath::warm_up() {
  if (const std::shared_ptr<const Lanes> lanes = ready_lanes()) {
    if (total_load(*lanes) > 0 || !callers_.enter()) return;
    attachment_.caller_began();
    detach(lanes);
    warm_up(*lanes);
    return end_progress();
  }
  MutexLock lock(mutex_);
  if (!ended_ && !lanes_) connect();
}

// The peer polls for what comes at short notice, when it has come so a few times.
void TcpPath::warm_up(const Lanes& lanes) {
  const int64_t until_ns = now_ns() + kWarmUpNs;
  // The lane that the next small request takes comes last.
  for (auto lane = lanes.rbegin(); lane != lanes.rend(); ++lane) {
    const bool last = std::next(lane) == lanes.rend();
    for (int round = 0; round < (last ? kWarmUpRounds : 1) && now_ns() < until_ns; ++round) {
      const uint64_t before = (*lane)->acks();
      (*lane)->ask();
      while ((*lane)->acks() == before && now_ns() < until_ns) {
        (*lane)->take_answers();
        std::this_thread::yield();
      }
    }
  }
}

void TcpPath::distribute(SliceList slices, const Lanes& lanes) {
  uint64_t outgoing = 0;
  while (!slices.empty()) {
    // Cut without touching more of the slices than has to be read.
    SliceList run{slices.first, slices.first};
    uint64_t bytes = 0;
    for (Slice* slice = slices.first; slice != nullptr && bytes < kRunBytes; slice = slice->next) {
      bytes += slice->length;
      if (slice->opcode == Opcode::kWrite) outgoing += slice->length;
      run.last = slice;
    }
    slices.first = run.last->next;
    if (slices.first == nullptr) slices.last = nullptr;
    run.last->next = nullptr;
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
  if (!callers_.begin()) return false;
  attachment_.caller_began();
  const bool useful = make_progress(until_ns, waker);
  end_progress();
  return useful;
}

bool TcpPath::make_progress(int64_t until_ns, Waker& waker) {
  const std::shared_ptr<const Lanes> lanes = ready_lanes();
  const uint64_t load = lanes ? total_load(*lanes) : 0;
  if (load == 0) return false;
  if (load > kCallerBytes && lanes->size() > 1) {
    attachment_.attach();
    return false;
  }
  detach(lanes);
  for (const std::shared_ptr<Lane>& lane : *lanes) lane->continue_sending();
  SessionWork work(*lanes, callers_);
  return callers_.run(work, until_ns, waker);
}

// The lanes stay detached: the caller is likely to be back before the lease ends.
void TcpPath::end_progress() {
  if (callers_.end(true)) leave_to_loops();
}

void TcpPath::detach(const std::shared_ptr<const Lanes>& lanes) {
  if (attachment_.is_detached(lanes) || !attachment_.detach(lanes)) return;
  loops_.front()->run([weak = weak_from_this()] {
    if (const std::shared_ptr<TcpPath> self = weak.lock()) self->check_lease();
  });
}

// A caller that is inside now attaches the lanes when it leaves, which is soon.
void TcpPath::leave_to_loops() {
  callers_.back_off();
  if (!callers_.enter()) return callers_.wake();
  attachment_.attach();
  callers_.leave();
}

void TcpPath::check_lease() {
  if (callers_.enter()) {
    const bool leased = attachment_.check_lease();
    callers_.leave();
    if (!leased) return;
  }
  loops_.front()->run_after(attachment_.lease_ms(), [weak = weak_from_this()] {
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

// A loop filled the socket, and is detached from it while a caller makes progress; and the caller
// may have gone to sleep for answers alone, of which none comes before the rest was sent.
void TcpPath::lane_blocked() {
  if (attachment_.any_detached()) callers_.wake();
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
    if (!why.ok()) set_error(std::move(why));
    state.store(PathState::kFailed);
    // The next session here ends this one, but a WRITE may go by another path.
    if (total_load(*lanes) > 0) {
      run_persistently([&] { host_.fence(peer_, "tcp", retire.encode()); });
    }
    // They hold the path, and nobody else holds them.
    for (const std::shared_ptr<Lane>& lane : *lanes) lane->fail(code);
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
