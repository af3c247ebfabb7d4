// Whose turn it is. mover_work.cpp and mover_connect.cpp are what is done in a turn.
#include "transport/rdma/mover.h"

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "base/log.h"

namespace te::rdma {
namespace {

constexpr int kPollsAtOnce = 32;  // of who polls by itself: a few microseconds at most
constexpr size_t kMakers = 16;    // finding the way to a dead card may take each a second

}  // namespace

Mover::Mover(TransportHost& host, std::vector<Card*> cards, const rails::MemoryRegions& memories,
             const MoverOptions& options, std::function<void()> wake)
    : host_(host),
      cards_(std::move(cards)),
      memories_(memories),
      options_(options),
      wake_(std::move(wake)),
      found_(cards_.size()),
      spin_(options.spin_ns),
      making_(kMakers) {}

void Mover::call_poller() {
  wanted_.store(true);
  wake_();
}

void Mover::put_into_mailbox(PeerGroup& group) {
  if (group.mail.queued) return;
  group.mail.queued = true;
  mailbox_.push_back(group.shared_from_this());
}

void Mover::hand_over(PeerGroup& group, bool PeerGroup::Mail::*what) {
  {
    MutexLock lock(mail_mutex_);
    if (ended_ || group.mail.*what) return;
    group.mail.*what = true;
    if (group.mail.control_queued) return;
    group.mail.control_queued = true;
    control_mail_.push_back(group.shared_from_this());
  }
  call_poller();
}

void Mover::connect(PeerGroup& group, size_t link) {
  {
    MutexLock lock(mail_mutex_);
    if (ended_) return;
    group.mail.connect.push_back(link);
    put_into_mailbox(group);
  }
  mail_.store(true);
  work_if_free();
  call_poller();
}

// Without the mailbox, where the turn is free and nothing came before. False: not done.
bool Mover::post_at_once(PeerGroup& group, SliceList slices) {
  if (mail_.load() || !turn_.try_lock()) return false;
  const bool may = !stopped_;
  if (may) {
    group.queue.push(slices);
    know(group);
    // Others that wait had what there is when completions were looked at last.
    if (advance(group, now_ns())) activate(group);
  }
  const bool call = may && needs_poller();
  turn_.unlock();
  if (call) call_poller();
  work_if_free();  // of those who found the turn taken
  return may;
}

void Mover::post(PeerGroup& group, SliceList slices) {
  if (post_at_once(group, slices)) return;
  bool ended = false;
  {
    MutexLock lock(mail_mutex_);
    ended = ended_;
    if (!ended) {
      group.mail.slices.append(slices);
      put_into_mailbox(group);
    }
  }
  if (ended) {
    // Nobody is left to return them later.
    while (!slices.empty()) host_.done(slices.pop(), Code::kCancelled);
    return;
  }
  mail_.store(true);
  work_if_free();
}

void Mover::tell(News news) {
  {
    MutexLock lock(mail_mutex_);
    if (ended_) return;
    news_.push_back(std::move(news));
  }
  call_poller();
}

void Mover::take_turns() {
  bool call = false;
  while (mail_.load()) {
    if (!turn_.try_lock()) return;  // who has the turn looks again
    mail_.store(false);
    take_mail();
    advance_all(now_ns());
    call = needs_poller() || call;
    turn_.unlock();
  }
  if (call) call_poller();
}

void Mover::give_back(const Finished& finished) {
  for (const auto& [slice, code] : finished) host_.done(slice, code);
}

Mover::Attention Mover::attend() {
  Attention attention;
  Finished finished;
  const int64_t now = now_ns();
  if (!wanted_.load() && visits_.leave_to_visitor(turn_, attended_ns_, now)) {
    attention.visited = true;
    attention.next_ns = now + Visits::kLeaseNs;
    return attention;
  }
  attended_ns_ = now;
  {
    MutexLock lock(turn_);
    wanted_.store(false);
    mail_.store(false);
    take_mail();
    take_control_mail(now);
    take_news(now);
    attention.visited = visits_.expected(now);
    if (!attention.visited) attention.news = reap();
    advance_all(now);
    attention.next_ns = watch(now);
    if (attention.visited) {
      attention.next_ns = std::min(attention.next_ns, now + Visits::kLeaseNs);
    }
    finished.swap(finished_);
  }
  give_back(finished);
  work_if_free();
  attention.news = attention.news || !finished.empty();
  return attention;
}

bool Mover::work_as_visitor(int polls) {
  returned_.clear();
  {
    MutexLock lock(turn_);
    if (mail_.exchange(false)) take_mail();
    while (!reap() && --polls > 0 && under_way_.load() > 0 && !mail_.load()) {
    }
    if (!active_.empty() || !line_.empty()) advance_all(now_ns());
    returned_.swap(finished_);
  }
  give_back(returned_);
  work_if_free();
  return !returned_.empty();
}

bool Mover::visit(int64_t until_ns, Waker& waker) {
  (void)waker;  // it polls only while that pays, and never sleeps
  if (!visits_.begin()) return false;
  const bool useful = visit_until(until_ns);
  // Who polls by itself comes again.
  const bool polls = until_ns == 0 && under_way_.load() > 0;
  if (visits_.end(useful || polls)) call_poller();
  return useful;
}

bool Mover::visit_until(int64_t until_ns) {
  if (until_ns == 0) return work_as_visitor(kPollsAtOnce);
  if (work_as_visitor(1)) return true;
  if (under_way_.load() == 0) return false;
  const int64_t begin_ns = now_ns();
  const int64_t spin_until_ns = std::min(begin_ns + spin_.budget_ns(), until_ns);
  bool news = false;
  int64_t now = begin_ns;
  while (!news && now < spin_until_ns && under_way_.load() > 0) {
    news = work_as_visitor(kPollsPerYield);
    if (!news) std::this_thread::yield();
    now = now_ns();
  }
  spin_.came_after(news ? now - begin_ns : 4 * options_.spin_ns);
  return news;
}

void Mover::card_changed(size_t card, const Card::News& news) {
  MutexLock lock(turn_);
  const int64_t now = now_ns();
  if (news.went_down) {
    const Status why(Code::kUnavailable, cards_[card]->state_text());
    for (const auto& [id, endpoint] : endpoints_) {
      const bool alive = endpoint->state == Endpoint::State::kProving ||
                         endpoint->state == Endpoint::State::kReady ||
                         endpoint->state == Endpoint::State::kDraining;
      if (alive && &endpoint->card == cards_[card]) fail(*endpoint, why, false, now);
    }
  }
  if (!news.came_up) return;
  for (const auto& [group, owner] : groups_) {
    for (size_t i = 0; i < group->links.size(); ++i) {
      if (group->links[i].local == card) group->queue.forgive(i);
    }
  }
  watch_next_ns_ = 0;
}

void Mover::stop() {
  {
    MutexLock lock(mail_mutex_);
    if (ended_) return;
    ended_ = true;
  }
  std::vector<EndpointRef> endpoints;
  {
    MutexLock lock(turn_);
    stopped_ = true;
    take_mail();
    for (const auto& [group, owner] : groups_) {
      group->over = Code::kCancelled;
      return_slices(group->queue.take_all(), Code::kCancelled);
    }
    for (const auto& [id, endpoint] : endpoints_) endpoints.push_back(endpoint);
  }
  // Those that are being made, or closed, are somebody else's until the pool ends.
  making_.stop();
  Finished finished;
  std::map<PeerGroup*, std::shared_ptr<PeerGroup>> groups;
  {
    MutexLock lock(turn_);
    const int64_t now = now_ns();
    for (const EndpointRef& endpoint : endpoints) {
      if (endpoint->state != Endpoint::State::kMaking) endpoint->pair.reset();
      closed(endpoint, now);
    }
    active_.clear();
    line_.clear();
    groups.swap(groups_);
    finished.swap(finished_);
  }
  give_back(finished);
}

Mover::Counters Mover::counters() {
  MutexLock lock(turn_);
  return counters_;
}

}  // namespace te::rdma
