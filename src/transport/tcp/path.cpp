#include "transport/tcp/path.h"

#include <algorithm>

#include "base/random.h"

namespace te::tcp {

TcpPath::TcpPath(Transport& owner, TransportHost& host, std::vector<EventLoop*> loops,
                 size_t lane_count, const LaneOptions& options, const Peer& peer)
    : Path(owner, "", "", peer.address.to_string()),
      host_(host),
      loops_(std::move(loops)),
      lane_count_(lane_count),
      options_(options),
      address_(peer.address),
      target_instance_(peer.instance),
      session_(random_u64()) {}

void TcpPath::connect() {
  ++epoch_;
  lanes_ready_ = 0;
  state.store(PathState::kConnecting);
  for (size_t i = 0; i < lane_count_; ++i) {
    EventLoop& loop = *loops_[(session_ + i) % loops_.size()];
    lanes_.push_back(std::make_shared<Lane>(loop, host_, shared_from_this(), *this, options_));
    wire::Hello hello;
    hello.kind = wire::ChannelKind::kTcpData;
    hello.lane = static_cast<uint16_t>(i);
    hello.instance = host_.instance();
    hello.target_instance = target_instance_;
    hello.session = session_;
    hello.epoch = epoch_;
    lanes_.back()->connect(address_, hello);
  }
}

void TcpPath::post(SliceList slices) {
  std::vector<std::shared_ptr<Lane>> lanes;
  bool ended = false;
  {
    MutexLock lock(mutex_);
    ended = ended_;
    if (!ended && lanes_.empty()) connect();
    if (!ended && lanes_ready_ < lanes_.size()) {
      waiting_.append(slices);
      return;
    }
    lanes = lanes_;
  }
  if (ended) return return_later(slices, Code::kCancelled);
  distribute(slices, lanes);
}

void TcpPath::end() {
  {
    MutexLock lock(mutex_);
    ended_ = true;
  }
  reset(Code::kCancelled, Status(Code::kCancelled, "tcp: the transport was taken away"));
}

void TcpPath::warm_up() {
  MutexLock lock(mutex_);
  if (!ended_ && lanes_.empty()) connect();
}

void TcpPath::distribute(SliceList slices, const std::vector<std::shared_ptr<Lane>>& lanes) {
  uint64_t total = 0;
  while (!slices.empty()) {
    SliceList run;
    uint64_t bytes = 0;
    while (!slices.empty() && bytes < kRunBytes) {
      bytes += slices.first->length;
      run.push(slices.pop());
    }
    Lane& lane =
        **std::min_element(lanes.begin(), lanes.end(),
                           [](const std::shared_ptr<Lane>& a, const std::shared_ptr<Lane>& b) {
                             return a->load() < b->load();
                           });
    total += bytes;
    if (!lane.enqueue(run, bytes)) {
      run.append(slices);
      return_later(run, Code::kUnavailable);
      return;
    }
  }
  // The caller sends what is small, and the first part of what is not; the loops do the rest at the
  // same time.
  bool here = true;
  for (const std::shared_ptr<Lane>& lane : lanes) {
    if (lane->load() == 0) continue;
    if (here || total <= kInlineBytes) {
      here = false;
    } else {
      lane->flush_later();
    }
  }
  for (const std::shared_ptr<Lane>& lane : lanes) {
    if (lane->load() == 0) continue;
    lane->flush();
    if (total > kInlineBytes) break;
  }
}

void TcpPath::return_later(SliceList slices, Code code) {
  const auto give_back = [this, code](SliceList list) {
    while (!list.empty()) host_.done(list.pop(), code);
  };
  // A loop that has ended takes nothing; then there is no post() to be inside of that still counts.
  const bool taken =
      loops_.front()->run([self = shared_from_this(), slices, give_back] { give_back(slices); });
  if (!taken) give_back(slices);
}

void TcpPath::lane_ready(Lane& lane) {
  SliceList slices;
  std::vector<std::shared_ptr<Lane>> lanes;
  {
    MutexLock lock(mutex_);
    const bool current = std::any_of(lanes_.begin(), lanes_.end(),
                                     [&lane](const auto& member) { return member.get() == &lane; });
    if (!current || ++lanes_ready_ < lanes_.size()) return;
    state.store(PathState::kReady);
    slices = waiting_;
    waiting_ = {};
    lanes = lanes_;
  }
  if (!slices.empty()) distribute(slices, lanes);
}

void TcpPath::lane_broken(Lane& lane, Status why) {
  Code code = Code::kUnavailable;
  // What another run of the peer, or a refusal, means is for the engine to decide.
  if (why.code() == Code::kStale || why.code() == Code::kUnsupported) code = why.code();
  {
    MutexLock lock(mutex_);
    const bool current = std::any_of(lanes_.begin(), lanes_.end(),
                                     [&lane](const auto& member) { return member.get() == &lane; });
    if (!current) {
      lane.fail(Code::kUnavailable);
      return;
    }
  }
  reset(code, std::move(why));
}

void TcpPath::reset(Code code, Status why) {
  std::vector<std::shared_ptr<Lane>> lanes;
  SliceList slices;
  {
    MutexLock lock(mutex_);
    lanes.swap(lanes_);
    lanes_ready_ = 0;
    slices = waiting_;
    waiting_ = {};
  }
  if (!lanes.empty()) {
    set_error(std::move(why));
    state.store(PathState::kFailed);
  }
  for (const std::shared_ptr<Lane>& lane : lanes) lane->fail(code);
  if (!slices.empty()) return_later(slices, code);
}

void TcpPath::sweep() {
  std::vector<std::shared_ptr<Lane>> lanes;
  SliceList cancelled;
  {
    MutexLock lock(mutex_);
    SliceList rest;
    while (!waiting_.empty()) {
      Slice* slice = waiting_.pop();
      (slice->cancelled() ? cancelled : rest).push(slice);
    }
    waiting_ = rest;
    lanes = lanes_;
  }
  if (!cancelled.empty()) return_later(cancelled, Code::kCancelled);
  for (const std::shared_ptr<Lane>& lane : lanes) lane->sweep();
}

}  // namespace te::tcp
