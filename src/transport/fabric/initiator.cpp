// Whose turn it is. initiator_work.cpp and initiator_connect.cpp are what is
// done in a turn.
#include "transport/fabric/initiator.h"

#include <poll.h>

#include <algorithm>
#include <thread>

#include "base/clock.h"
#include "base/log.h"

namespace te::fabric {
namespace {

constexpr int64_t kRetryNs = 1 * kNsPerMs;  // for what waits for room or a connection
constexpr int64_t kBlindNs = 50'000;        // between looks where no descriptor tells

}  // namespace

Initiator::Initiator(TransportHost& host, Domain& domain, Pipe& pipe,
                     const rails::MemoryRegions& memories, size_t card,
                     const InitiatorOptions& options, std::function<void()> wake)
    : host_(host),
      domain_(domain),
      memories_(memories),
      card_(card),
      options_(options),
      wake_(std::move(wake)),
      bytes_per_s_(domain.bytes_per_s()),
      max_operation_(options.max_operation == 0
                         ? domain.max_operation()
                         : std::min(options.max_operation, domain.max_operation())),
      most_slices_(static_cast<uint32_t>(std::max<size_t>(options.depth / 2, 1))),
      pipe_(pipe),
      spin_(options.spin_ns) {}

Status Initiator::open() {
  MutexLock lock(turn_);
  landings_ = std::make_unique<std::array<Landing, kLandings>>();
  if (domain_.local_registration()) {
    Result<Owned<fid_mr>> range =
        domain_.add_range(landings_->data(), sizeof *landings_, Rights::kBoth, Rights::kNone, "*");
    if (!range.ok()) return range.status();
    landings_range_ = range.take();
  }
  return {};
}

void FabricPath::count_in() { initiator_->members.fetch_add(1); }

FabricPath::~FabricPath() { initiator_->members.fetch_sub(1); }

Initiator::~Initiator() {
  const Domain::Turn turn(domain_);
  close_endpoint();
}

void Initiator::call_poller() {
  wanted_.store(true);
  wake_();
}

void Initiator::put_into_mailbox(FabricPath& path) {
  if (path.mail.queued) return;
  path.mail.queued = true;
  mailbox_.push_back(path.shared_from_this());
}

void Initiator::hand_over(FabricPath& path, bool FabricPath::Mail::*what) {
  const bool here = what == &FabricPath::Mail::connect;
  {
    MutexLock lock(mail_mutex_);
    if (ended_) return;
    path.mail.*what = true;
    if (here) {
      put_into_mailbox(path);
    } else {
      control_mail_.push_back(path.shared_from_this());
    }
  }
  if (!here) return call_poller();
  mail_.store(true);
  work_if_free();
}

void Initiator::post(FabricPath& path, SliceList slices) {
  bool ended = false;
  {
    MutexLock lock(mail_mutex_);
    ended = ended_;
    if (!ended) {
      path.mail.slices.append(slices);
      put_into_mailbox(path);
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

void Initiator::work_if_free() {
  bool call = false;
  while (mail_.load()) {
    if (!turn_.try_lock()) return;  // who has the turn looks again
    {
      const Domain::Turn turn(domain_);
      mail_.store(false);
      take_mail();
      advance_all();
    }
    const bool nobody_comes = blocked_.load() && under_way_.load() == 0;
    const bool nobody_hears = descriptor_.load() < 0 && !visits_.leased(now_ns());
    call = call || !finished_.empty() || nobody_comes || nobody_hears;
    turn_.unlock();
  }
  if (call) call_poller();
}

// What waits for the places that became free goes first: others wait for no thread here.
void Initiator::give_back(const Finished& finished) {
  Group* last = nullptr;
  for (const Ended& each : finished.slices) {
    const FabricPath& path = *static_cast<FabricPath*>(each.slice->path);
    Group* group = path.group().get();
    if (last != nullptr && group != last) last->advance();
    last = group;
    if (group == nullptr || each.posted_ns == kWaited) continue;
    group->ended(path.place(), each.slice->length, each.code, each.posted_ns);
  }
  if (last != nullptr) last->advance();
  for (const std::shared_ptr<Group>& group : finished.groups) group->advance();
  for (const Ended& each : finished.slices) host_.done(each.slice, each.code);
  for (const std::shared_ptr<FabricPath>& path : finished.doubtful) {
    path->initiator().doubt(*path);
  }
}

Initiator::Attention Initiator::attend(bool sleeps) {
  Attention attention;
  Finished finished;
  const int64_t now = now_ns();
  if (!wanted_.load() && visits_.leave_to_visitor(turn_, attended_ns_, now)) {
    attention.visited = true;
    return attention;
  }
  attended_ns_ = now;
  {
    MutexLock lock(turn_);
    const Domain::Turn turn(domain_);
    wanted_.store(false);
    mail_.store(false);
    take_mail();
    take_control_mail();
    attention.visited = visits_.expected(now);
    const bool visitor_hears = visited_endpoint_.load() == opened_.load();
    if (!attention.visited || !visitor_hears) attention.news = reap();
    renew_if_due(now);
    advance_all();
    attention.retry = blocked_.load();
    attention.watch = watching_ || queue_failed_ || renew_wanted_;
    watched_.store(attention.watch || attention.retry);
    attention.poll_often = endpoint_ && descriptor_.load() < 0 && under_way_.load() > 0;
    if (sleeps && endpoint_ && !attention.visited && descriptor_.load() >= 0) {
      attention.descriptor = descriptor_.load();
      if (!attention.news) attention.news = !endpoint_->queue().may_sleep();
    }
    finished.swap(finished_);
  }
  give_back(finished);
  work_if_free();
  attention.news = attention.news || !finished.empty();
  return attention;
}

bool Initiator::work_as_visitor(bool* may_sleep) {
  Finished finished;
  {
    MutexLock lock(turn_);
    const Domain::Turn turn(domain_);
    mail_.store(false);
    take_mail();
    reap();
    advance_all();
    if (may_sleep != nullptr) *may_sleep = endpoint_ && endpoint_->queue().may_sleep();
    finished.swap(finished_);
  }
  give_back(finished);
  work_if_free();
  return !finished.empty();
}

bool Initiator::visit(int64_t until_ns, Waker& waker) {
  if (!visits_.begin()) return false;
  const bool useful = visit_until(until_ns, waker);
  if (visits_.end(true)) call_poller();
  return useful;
}

bool Initiator::visit_until(int64_t until_ns, Waker& waker) {
  const int64_t begin_ns = now_ns();
  if (work_as_visitor(nullptr)) return true;
  if (under_way_.load() == 0 && !blocked_.load()) return false;
  if (until_ns == 0) return true;
  bool news = false;
  const int64_t spin_until_ns = std::min(begin_ns + spin_.budget_ns(), until_ns);
  for (int polls = 1; !news && now_ns() < spin_until_ns; ++polls) {
    if (polls % kPollsPerYield == 0) std::this_thread::yield();
    news = work_as_visitor(nullptr);
  }
  bool may_sleep = false;
  visited_endpoint_.store(opened_.load());
  if (!news) news = work_as_visitor(&may_sleep);
  const int descriptor = descriptor_.load();
  if (!news && (may_sleep || descriptor < 0)) {
    int64_t left_ns = std::max<int64_t>(until_ns - now_ns(), 0);
    if (descriptor < 0) left_ns = std::min(left_ns, kBlindNs);
    if (blocked_.load()) left_ns = std::min(left_ns, kRetryNs);
    pollfd entries[] = {{waker.descriptor(), POLLIN, 0}, {descriptor, POLLIN, 0}};
    const timespec left{left_ns / 1'000'000'000, left_ns % 1'000'000'000};
    ::ppoll(entries, 2, &left, nullptr);
    if ((entries[0].revents & POLLIN) != 0) waker.clear();
    work_as_visitor(nullptr);
  }
  spin_.came_after(now_ns() - begin_ns);
  return true;
}

void Initiator::begin_stop() {
  MutexLock lock(mail_mutex_);
  ended_ = true;
}

void Initiator::stop(int64_t until_ns) {
  begin_stop();
  for (bool over = false; !over;) {
    Finished finished;
    {
      MutexLock lock(turn_);
      const Domain::Turn turn(domain_);
      take_mail();
      reap();
      for (auto& [path, owner] : paths_) return_waiting(*path, Code::kCancelled);
      over = under_way_.load() == 0 || queue_failed_ || now_ns() >= until_ns;
      if (over) {
        close_endpoint();
        end_operations(Code::kCancelled);
        for (auto& [path, owner] : paths_) {
          forget_reads(*path, Code::kCancelled);
          end_suspects(*path, path->link.suspects.size(), {}, Code::kCancelled);
          leave_peer(*path);
        }
        landings_range_.reset();
        active_.clear();
        peers_.clear();
        broken_ = Status(Code::kCancelled, "the transport was taken away");
      }
      finished.swap(finished_);
    }
    give_back(finished);
    if (!over) std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  // A path holds its initiator: whatever holds paths here would keep all of them.
  std::map<FabricPath*, std::shared_ptr<FabricPath>> paths;
  std::vector<std::shared_ptr<FabricPath>> mail, control_mail;
  MutexLock lock(turn_);
  paths.swap(paths_);
  MutexLock mail_lock(mail_mutex_);
  mail.swap(mailbox_);
  control_mail.swap(control_mail_);
}

Initiator::Counters Initiator::counters() {
  MutexLock lock(turn_);
  return counters_;
}

}  // namespace te::fabric
