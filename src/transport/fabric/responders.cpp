#include "transport/fabric/responders.h"

#include <rdma/fi_errno.h>

#include <algorithm>
#include <iterator>

#include "base/log.h"

namespace te::fabric {

Status Responders::open() {
  const Result<ResponderRef> trial = make();
  if (!trial.ok()) return trial.status();
  bool outlives_memory = false;
  {
    MutexLock lock((*trial)->mutex);
    const Domain::Turn turn(domain_);
    depth_ = (*trial)->endpoint->queue().depth();
    outlives_memory = (*trial)->endpoint->outlives_memory();
  }
  if (outlives_memory) domain_.end_peers_with([this] { end_all(); });
  close(**trial);
  return {};
}

Result<Responders::ResponderRef> Responders::make() {
  auto made = std::make_shared<Responder>();
  MutexLock lock(made->mutex);
  const Domain::Turn turn(domain_);
  const Result<std::shared_ptr<Queue>> queue = Queue::open(domain_);
  if (!queue.ok()) return queue.status();
  Result<std::unique_ptr<Endpoint>> endpoint = Endpoint::open(domain_, *queue);
  if (!endpoint.ok()) return endpoint.status();
  Result<Bytes> name = (*endpoint)->name();
  if (!name.ok()) return name.status();
  made->endpoint = endpoint.take();
  made->name = name.take();
  return made;
}

Result<Bytes> Responders::accept(const Hello& hello) {
  MutexLock lock(mutex_);
  if (stopped_) return Status(Code::kCancelled, "the transport ends");
  const auto found = users_.find(hello.id);
  const uint64_t epoch = found == users_.end() ? 0 : found->second.epoch;
  switch (hello.type) {
    case Hello::Type::kCheck:
      if (found != users_.end() && epoch == hello.epoch) return Bytes();
      return Status(Code::kUnavailable, "fabric: the peer closed the endpoint of this path");
    case Hello::Type::kRetire:
      if (epoch <= hello.epoch) close(hello.id);
      return Bytes();
    default:
      break;
  }
  // The same hello may come twice.
  if (epoch == hello.epoch && found != users_.end()) return found->second.responder->name;
  if (epoch > hello.epoch) return Status(Code::kUnavailable, "fabric: a later connection is there");
  close(hello.id);
  return connect(hello);
}

Result<Bytes> Responders::connect(const Hello& hello) {
  Result<std::shared_ptr<Responder>> responder = find_room();
  if (!responder.ok()) return responder.status();
  ++(*responder)->users;
  users_[hello.id] = {hello.epoch, *responder};
  return (*responder)->name;
}

Result<Responders::ResponderRef> Responders::find_room() {
  if (responders_.size() < most_) {
    Result<ResponderRef> made = make();
    if (made.ok()) {
      responders_.push_back(*made);
      changed_.store(true);
      wake_();
    }
    if (made.ok() || responders_.empty()) return made;
  }
  return *std::min_element(
      responders_.begin(), responders_.end(),
      [](const ResponderRef& a, const ResponderRef& b) { return a->users < b->users; });
}

void Responders::close(uint64_t id) {
  const auto found = users_.find(id);
  if (found == users_.end()) return;
  const ResponderRef responder = found->second.responder;
  std::erase_if(users_, [&](const auto& user) { return user.second.responder == responder; });
  std::erase(responders_, responder);
  changed_.store(true);
  close(*responder);
}

void Responders::close(Responder& responder) {
  MutexLock lock(responder.mutex);
  const Domain::Turn turn(domain_);
  responder.endpoint.reset();
}

bool Responders::serve(Domain& domain, Responder& responder) {
  MutexLock lock(responder.mutex);
  if (!responder.endpoint) return false;
  const Domain::Turn turn(domain);
  fid_cq* queue = responder.endpoint->queue().get();
  const int64_t begin_ns = now_ns();
  fi_cq_entry entries[16];
  while (::fi_cq_read(queue, entries, std::size(entries)) == -FI_EAVAIL) {
    fi_cq_err_entry failed{};
    if (::fi_cq_readerr(queue, &failed, 0) != 1) break;
    static LogLimit limit;
    log_limited(limit, LogLevel::kDebug, "{}", domain.failed("serving", failed.err).message());
  }
  const int64_t took_ns = now_ns() - begin_ns;
  responder.empty_ns = std::min(responder.empty_ns, took_ns);
  return took_ns > 4 * responder.empty_ns + 1000;
}

bool Responders::serve() {
  if (changed_.exchange(false)) {
    MutexLock lock(mutex_);
    polled_ = responders_;
  }
  bool served = false;
  for (const ResponderRef& responder : polled_) served = serve(domain_, *responder) || served;
  return served;
}

bool Responders::may_sleep(std::vector<pollfd>& entries, bool* blind) {
  bool may = true;
  for (const ResponderRef& responder : polled_) {
    MutexLock lock(responder->mutex);
    if (!responder->endpoint) continue;
    Queue& queue = responder->endpoint->queue();
    if (queue.wait_descriptor() < 0) {
      *blind = true;
      continue;
    }
    entries.push_back({queue.wait_descriptor(), POLLIN, 0});
    const Domain::Turn turn(domain_);
    may = queue.may_sleep() && may;
  }
  return may;
}

void Responders::end_all() {
  MutexLock lock(mutex_);
  close_all();
}

void Responders::stop() {
  MutexLock lock(mutex_);
  stopped_ = true;
  close_all();
}

void Responders::close_all() {
  if (!responders_.empty()) changed_.store(true);
  users_.clear();
  for (const ResponderRef& responder : responders_) close(*responder);
  responders_.clear();
}

}  // namespace te::fabric
