// What is done in a turn about connections: the peer makes an endpoint, a liveness word is read,
// and a peer that is silent is asked whether it is there.
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "transport/fabric/engine.h"

namespace te::fabric {
namespace {

constexpr size_t kNameRoom = 512;  // what a provider may read of an endpoint's name

}  // namespace

bool FabricEngine::insert_address(FabricRail& path) {
  Peer& peer = peers_[path.link.name];
  if (peer.users == 0) {
    Bytes name = path.link.name;
    name.resize(kNameRoom);
    const int count =
        ::fi_av_insert(endpoint_->queue().addresses(), name.data(), 1, &peer.address, 0, nullptr);
    if (count != 1) {
      peers_.erase(path.link.name);
      return false;
    }
    contacted_.try_emplace(path.link.name, path.link.name);
  }
  ++peer.users;
  path.link.address = peer.address;
  path.link.inserted = true;
  return true;
}

void FabricEngine::drop_address(FabricRail& path) {
  if (!path.link.inserted) return;
  path.link.inserted = false;
  const auto found = peers_.find(path.link.name);
  if (!endpoint_ || found == peers_.end() || --found->second.users > 0) return;
  ::fi_av_remove(endpoint_->queue().addresses(), &found->second.address, 1, 0);
  peers_.erase(found);
}

void FabricEngine::ask_peer(FabricRail& path, Hello::Type type, int64_t now) {
  send_hello(path, {type, static_cast<uint32_t>(path.remote), path.identity().id, path.link.epoch},
             now);
}

void FabricEngine::send_hello(FabricRail& path, const Hello& hello, int64_t now) {
  host_.exchange(path.to, path.transport.name(), hello.encode(),
                 [this, type = hello.type, epoch = hello.epoch, since_ns = now,
                  owner = path.shared()](Result<Bytes> answer) {
                   const Answer whole{type, epoch, now_ns() - since_ns, std::move(answer)};
                   (void)progress_.command([this, owner, whole]() TE_REQUIRES(progress_.lock) {
                     const Domain::Turn turn(domain_);
                     take_answer(*owner, whole);
                   });
                 });
}

void FabricEngine::open_at_peer(FabricRail& path, int64_t now) {
  Link& link = path.link;
  drop_address(path);  // of the connection before
  link.state = Link::State::kOpening;
  path.wanted = link.fenced = link.checking = false;
  forget_reads(path);
  link.probing_since_ns = now;
  link.epoch = path.identity().epoch.fetch_add(1) + 1;
  path.state.store(PathState::kConnecting);
  watch_.on = true;
  ask_peer(path, Hello::Type::kOpen, now);
}

void FabricEngine::check_peer(FabricRail& path, int64_t now) {
  path.link.checking = true;
  path.link.checked_ns = now;
  ask_peer(path, Hello::Type::kCheck, now);
}

void FabricEngine::take_answer(FabricRail& path, const Answer& answer) {
  Link& link = path.link;
  if (answer.to == Hello::Type::kTouch) {
    if (answer.epoch == link.suspects.question) take_verdict(path, answer.answer);
    return;
  }
  if (answer.epoch != link.epoch || path.retired) return;
  const Status& why = answer.answer.status();
  const Code code = why.code() == Code::kStale ? Code::kStale : Code::kUnavailable;
  if (answer.to == Hello::Type::kOpen) {
    if (link.state != Link::State::kOpening) return;
    if (!answer.answer.ok()) return fail(path, code, why);
    link.name = *answer.answer;
    link.state = Link::State::kProbing;
    return activate(path);
  }
  link.checking = false;
  // One that cannot be asked in time stands still, or the network does: that may pass.
  const bool lost = why.code() == Code::kStale || why.code() == Code::kUnavailable ||
                    why.code() == Code::kNotFound;
  const bool gone = lost && answer.took_ns < options_.connect_timeout_ms * kNsPerMs / 2;
  if (!gone || link.state != Link::State::kReady) return;
  fail(path, code, why.with_context("the peer was silent"));
  renew_soon();
}

void FabricEngine::fence(FabricRail& path) {
  if (std::exchange(path.link.fenced, true)) return;
  const Hello hello{Hello::Type::kRetire, static_cast<uint32_t>(path.remote), path.identity().id,
                    path.link.epoch};
  host_.fence(path.to, path.transport.name(), hello.encode());
}

void FabricEngine::leave_peer(FabricRail& path) {
  if (path.link.epoch == 0 || std::exchange(path.link.fenced, true)) return;
  const Hello hello{Hello::Type::kRetire, static_cast<uint32_t>(path.remote), path.identity().id,
                    path.link.epoch};
  host_.exchange(path.to, path.transport.name(), hello.encode(), [](const Result<Bytes>&) {});
}

void FabricEngine::leave(FabricRail& path) {
  drop_address(path);
  leave_peer(path);
  forget(path);
  if (known_.empty() && endpoint_) renew_soon();
}

// Has the peer make an endpoint, and reads the instance that it belongs to: that connects, and
// tells whether it is the one that is wanted.
void FabricEngine::probe(FabricRail& path) {
  Link& link = path.link;
  const int64_t now = now_ns();
  if (link.state == Link::State::kIdle) open_at_peer(path, now);
  if (now - link.probing_since_ns > options_.connect_timeout_ms * kNsPerMs) {
    if (link.inserted) renew_soon();
    return fail(path, Code::kUnavailable,
                error(Code::kUnavailable, "{} of {} cannot be connected from {} within {} ms",
                      path.remote_device, path.remote_address, path.local_device,
                      options_.connect_timeout_ms));
  }
  if (link.state == Link::State::kOpening || link.probe_posted || probes_.free.empty()) return;
  if (!link.inserted && !insert_address(path)) {
    return fail(path, Code::kUnavailable,
                error(Code::kUnavailable, "{}: the address of {} is not accepted",
                      path.local_device, path.remote_address));
  }
  Job& job = take_job(path, nullptr);
  job.probe_buffer = probes_.free.back();
  const long result = read_liveness_word(job, 0);
  if (result == 0) {
    probes_.free.pop_back();
    link.probe_posted = true;
    return;
  }
  work_.free_jobs.push_back(&job);
  if (result == -FI_EAGAIN) return;
  fail(path, Code::kUnavailable,
       domain_.failed("connecting to " + path.remote_address, result, Code::kUnavailable));
}

// A word of it into the job's probe buffer.
long FabricEngine::read_liveness_word(Job& job, size_t word) {
  const NicAddress& remote = job.path->nic_there;
  ProbeBuffer& probe_buffer = (*probes_.all)[job.probe_buffer];
  probe_buffer.word = 0;
  const uint64_t at = word * sizeof probe_buffer.word;
  const Remote word_there{remote.liveness_address + at, sizeof probe_buffer.word,
                          remote.liveness_key};
  void* descriptor = probes_.range ? ::fi_mr_desc(probes_.range.get()) : nullptr;
  return post_operation(job, word_there, descriptor, &probe_buffer.word, false);
}

void FabricEngine::probe_ended(Job& job, Code code) {
  FabricRail& path = *job.path;
  Link& link = path.link;
  const bool same = (*probes_.all)[job.probe_buffer].word == path.instance();
  probes_.free.push_back(job.probe_buffer);
  work_.free_jobs.push_back(&job);
  link.probe_posted = false;
  if (path.retired) return leave(path);
  if (link.state != Link::State::kProbing) return;
  if (code != Code::kOk) return fail(path, code, path.last_error());
  if (!same) {
    return fail(path, Code::kStale,
                error(Code::kStale, "{} of {} belongs to another run of the engine",
                      path.remote_device, path.remote_address));
  }
  link.state = Link::State::kReady;
  link.failed = false;
  rail_ready(path);
  activate(path);
}

}  // namespace te::fabric
