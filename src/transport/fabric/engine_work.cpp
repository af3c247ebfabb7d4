// What is done in a turn: posts, completions, and their ends.
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>

#include <algorithm>

#include "base/clock.h"
#include "base/guarded_copy.h"
#include "base/log.h"
#include "transport/fabric/engine.h"

namespace te::fabric {
namespace {

constexpr size_t kMostReaped = 256;  // in one turn
// For what is wanted back to end by itself, where the peer is silent, and where it works.
constexpr int64_t kGraceNs = 5 * kNsPerMs;
constexpr int64_t kLongGraceNs = 20 * kNsPerMs;
constexpr int64_t kSilentNs = 300 * kNsPerMs;   // then a peer is doubted
constexpr int64_t kBlockedNs = 100 * kNsPerMs;  // then a connection counts as broken
constexpr int64_t kCheckNs = 1000 * kNsPerMs;   // between two questions

// What the peer does not know (any more), as opposed to a peer that is not there.
bool is_key_error(long error) {
  return error == FI_EACCES || error == FI_EPERM || error == FI_EKEYREJECTED || error == FI_ENOKEY;
}

bool is_accessible(const Slice& slice, uint64_t at, uint64_t length) {
  std::byte* begin = slice.local + at;
  return slice.opcode == Opcode::kWrite ? is_readable(begin, length) : is_writable(begin, length);
}

}  // namespace

void FabricEngine::submitted(SliceList slices) {
  const Domain::Turn turn(domain_);
  RailEngine::submitted(slices);
}

void FabricEngine::advance() {
  const Domain::Turn turn(domain_);
  progress_.blocked.store(renewal_.wanted);
  if (!renewal_.wanted) RailEngine::advance();
}

void FabricEngine::doubt_now(rails::Rail& each) {
  FabricRail& path = of(each);
  const Domain::Turn turn(domain_);
  if (path.link.state == Link::State::kReady && !path.link.checking) check_peer(path, now_ns());
}

void FabricEngine::reset_connection(rails::Rail& path, const Status& why) {
  const Domain::Turn turn(domain_);
  fail(of(path), Code::kUnavailable, why);
  if (of(path).link.outstanding > 0) renew_soon();
}

void FabricEngine::retire_now(rails::Rail& path) {
  const Domain::Turn turn(domain_);
  path.retired = true;
  if (!of(path).link.probe_posted) leave(of(path));
}

bool FabricEngine::advance_rail(rails::Rail& each, int64_t now) {
  FabricRail& path = of(each);
  Link& link = path.link;
  if (renewal_.wanted) {
    progress_.blocked.store(true);
    return true;
  }
  if (!link.suspects.all.empty() && !link.suspects.asking) ask_about_suspects(path, now);
  const bool idle = link.state == Link::State::kIdle && path.queue.empty() && !path.wanted;
  if (idle) return false;
  if (!endpoint_ && renewal_.broken.code() != Code::kCancelled && now >= renewal_.reopen_ns) {
    (void)open_endpoint();
  }
  if (!endpoint_) {
    path.wanted = false;
    fail(path, renewal_.broken.code() == Code::kCancelled ? Code::kCancelled : Code::kUnavailable,
         renewal_.broken);
    return false;
  }
  if (link.state == Link::State::kReady) {
    if (std::exchange(path.wanted, false)) rail_ready(path);
    return post_queue(path);
  }
  probe(path);
  return link.state == Link::State::kProbing;
}

bool FabricEngine::post_queue(FabricRail& path) {
  Link& link = path.link;
  // One rail leaves room for the others.
  const size_t share = std::max<size_t>(work_.operations.size() / 2, 1);
  for (;;) {
    if (link.partial == nullptr) {
      if (path.queue.empty()) return !confirm_reads(path);
      Slice* slice = path.queue.pop();
      if (slice->cancelled()) {
        return_slice(path, slice, Code::kCancelled, 0);
        continue;
      }
      link.partial = &take_job(path, slice);
    }
    Job& job = *link.partial;
    const bool full =
        link.outstanding >= share || link.outstanding_bytes >= rails::kMostBytesUnderWay;
    if (full || !post_rest(job)) {
      (void)confirm_reads(path);
      return true;
    }
    link.partial = nullptr;
    if (job.outstanding == 0) finish(job, job.code);
    if (link.state != Link::State::kReady) return !path.queue.empty();
  }
}

Job& FabricEngine::take_job(FabricRail& path, Slice* slice) {
  if (work_.free_jobs.empty()) work_.free_jobs.push_back(&work_.jobs.emplace_back());
  Job& job = *work_.free_jobs.back();
  work_.free_jobs.pop_back();
  job = {&path, slice, 0, 0, 0, Code::kOk, path.rails() ? now_ns() : 0};
  return job;
}

Status FabricEngine::cut(const Job& job, Remote* remote, void** descriptor) {
  const Slice& slice = *job.slice;
  const FabricRail& path = *job.path;
  const uint64_t left = std::min<uint64_t>(slice.length - job.posted, max_operation_);
  const uint64_t address = slice.remote_address + job.posted;
  rails::Key::Place place;
  if (!path.find_key(slice.key, address, left, &place)) {
    return error(Code::kUnavailable, "fabric: the buffer is not registered with {} of {}",
                 path.remote_device, path.remote_address);
  }
  *remote = {path.virtual_addresses ? address : place.offset, place.length, place.key};
  if (!domain_.local_registration()) return {};
  uint64_t local_key = 0;
  if (!memories_.find(index_, slice.local + job.posted, &remote->length, &local_key, &found_)) {
    return error(Code::kUnavailable, "fabric: the local memory is not registered with {}",
                 path.local_device);
  }
  *descriptor = reinterpret_cast<void*>(local_key);
  return {};
}

long FabricEngine::post_operation(Job& job, const Remote& remote, void* descriptor, void* local,
                                  bool write) {
  if (work_.free_operations.empty()) return -FI_EAGAIN;
  Operation& operation = *work_.free_operations.back();
  fid_ep* endpoint = endpoint_->get();
  const fi_addr_t to = job.path->link.address;
  const long result = write ? ::fi_write(endpoint, local, remote.length, descriptor, to,
                                         remote.address, remote.key, &operation.context)
                            : ::fi_read(endpoint, local, remote.length, descriptor, to,
                                        remote.address, remote.key, &operation.context);
  if (result == -FI_EAGAIN) {
    progress_.blocked.store(true);
    int64_t& since_ns = job.path->link.blocked_since_ns;
    if (job.path->link.outstanding == 0 && since_ns == 0) since_ns = now_ns();
    watch_.on = true;
  }
  if (result != 0) return result;
  job.path->link.blocked_since_ns = 0;
  work_.free_operations.pop_back();
  operation.job = &job;
  operation.length = static_cast<uint32_t>(remote.length);
  ++job.outstanding;
  ++counters_.posted;
  progress_.outstanding.fetch_add(1);
  return 0;
}

bool FabricEngine::post_rest(Job& job) {
  Slice& slice = *job.slice;
  FabricRail& path = *job.path;
  while (job.posted < slice.length && job.code == Code::kOk) {
    Remote remote;
    void* descriptor = nullptr;
    if (Status status = cut(job, &remote, &descriptor); !status.ok()) {
      path.set_error(status);
      job.code = status.code();
      break;
    }
    // A provider that need not be told of local memory copies it with the processor, and breaks the
    // connection where that fails.
    if (!domain_.local_registration() && !is_accessible(slice, job.posted, remote.length)) {
      job.code = Code::kInvalidArgument;
      break;
    }
    const long result = post_operation(job, remote, descriptor, slice.local + job.posted,
                                       slice.opcode == Opcode::kWrite);
    if (result == -FI_EAGAIN) return false;
    if (result != 0) {
      job.code = Code::kUnavailable;
      path.set_error(domain_.failed("posting to " + path.remote_address, result, job.code));
      break;
    }
    if (slice.opcode == Opcode::kRead) job.reads = ++path.link.reads.posted;
    if (path.link.outstanding++ == 0) path.link.progress_ns = now_ns();
    path.link.outstanding_bytes += remote.length;
    job.posted += static_cast<uint32_t>(remote.length);
  }
  return true;
}

bool FabricEngine::poll() {
  const Domain::Turn turn(domain_);
  if (!endpoint_) return false;
  fi_cq_entry entries[kCompletionsAtOnce];
  size_t reaped = 0;
  const int64_t now = progress_.outstanding.load() > 0 ? now_ns() : 0;
  while (reaped < kMostReaped) {
    const ssize_t count = ::fi_cq_read(endpoint_->queue().get(), entries, kCompletionsAtOnce);
    if (count > 0) {
      for (ssize_t i = 0; i < count; ++i) {
        completed(*static_cast<Operation*>(entries[i].op_context), 0, now);
      }
      reaped += static_cast<size_t>(count);
      if (static_cast<size_t>(count) < kCompletionsAtOnce) break;
    } else if (count == -FI_EAVAIL) {
      fi_cq_err_entry failed{};
      if (::fi_cq_readerr(endpoint_->queue().get(), &failed, 0) != 1) break;
      if (failed.op_context == nullptr) continue;
      completed(*static_cast<Operation*>(failed.op_context), std::max(failed.err, 1), now);
      ++reaped;
    } else {
      if (count != -FI_EAGAIN && !renewal_.queue_failed) {
        static LogLimit limit;
        log_limited(limit, LogLevel::kError, "{}", domain_.failed("fi_cq_read", count).message());
        renewal_.queue_failed = true;
      }
      break;
    }
  }
  return reaped > 0;
}

void FabricEngine::completed(Operation& operation, long error_number, int64_t now) {
  Job* job = std::exchange(operation.job, nullptr);
  if (job == nullptr) return;
  work_.free_operations.push_back(&operation);
  progress_.outstanding.fetch_sub(1);
  ++(error_number == 0 ? counters_.completed : counters_.failed);
  FabricRail& path = *job->path;
  --job->outstanding;
  if (job->slice == nullptr) {
    const Status why = error_number == 0 ? Status()
                                         : domain_.failed("connecting to " + path.remote_address,
                                                          error_number, Code::kUnavailable);
    if (job->word != 0) return confirmation_ended(*job, why);
    if (!why.ok()) path.set_error(why);
    return probe_ended(*job, error_number == 0 ? Code::kOk : Code::kUnavailable);
  }
  Link& link = path.link;
  --link.outstanding;
  link.outstanding_bytes -= operation.length;
  link.progress_ns = now;
  if (error_number == 0) {
    link.failed = link.failed && link.state != Link::State::kReady;
  } else if (job->code == Code::kOk) {
    job->code = is_key_error(error_number) ? Code::kStale : Code::kUnavailable;
    if (job->code == Code::kUnavailable && job->slice->opcode == Opcode::kWrite) {
      fence(path);
      renew_soon();  // the peer closes its endpoint too
    }
    const Status why =
        domain_.failed("the operation with " + path.remote_address, error_number, job->code);
    if (link.partial == job) link.partial = nullptr;
    if (error_number == FI_EFAULT && !domain_.local_registration() &&
        !is_accessible(*job->slice, 0, job->slice->length)) {
      // After it was posted. The provider may go on in the middle of a message, which only a new
      // endpoint puts right.
      job->code = Code::kInvalidArgument;
      fail(path, Code::kUnavailable, why);
      renew_soon();
    } else if (job->code == Code::kUnavailable) {
      fail(path, job->code, why);
    } else {
      path.set_error(why);
    }
  }
  const bool whole = job->posted == job->slice->length || job->code != Code::kOk;
  if (job->outstanding > 0 || !whole) return;
  if (link.partial == job) link.partial = nullptr;
  hold_or_finish(*job);
}

void FabricEngine::finish(Job& job, Code code) {
  if (!suspect(job, code)) return_slice(*job.path, job.slice, code, job.posted_ns);
  work_.free_jobs.push_back(&job);
}

// What waits comes back now, what is under way as it ends; the next post connects again.
void FabricEngine::fail(FabricRail& path, Code code, Status why) {
  path.set_error(std::move(why));
  path.state.store(PathState::kFailed);
  path.link.state = Link::State::kIdle;
  path.link.failed = true;
  if (path.link.outstanding > 0) watch_.on = true;
  // Counts of one connection mean nothing in the next.
  if (path.link.reads.confirmations > 0 || !path.link.reads.unconfirmed.empty()) renew_soon();
  return_waiting(path, code);
  path.link.blocked_since_ns = 0;
  rail_failed(path, code);
  if (!path.rails()) return;
  for (const std::shared_ptr<rails::Rail>& other : path.rails()->others(path.place())) {
    if (other->state.load() == PathState::kReady) other->engine.doubt(*other);
  }
  // Another run of the peer is there: no path leads to this one.
  if (code == Code::kStale) progress_.complete(path.rails()->take_all(), code);
}

void FabricEngine::return_waiting(FabricRail& path, Code code) {
  return_queue(path, code);
  Job* partial = std::exchange(path.link.partial, nullptr);
  if (partial == nullptr) return;
  if (partial->code == Code::kOk) partial->code = code;
  if (partial->outstanding == 0) finish(*partial, partial->code);
}

void FabricEngine::sweep_under_way(rails::Rail& each) {
  const Domain::Turn turn(domain_);
  FabricRail& path = of(each);
  Link& link = path.link;
  if (link.partial != nullptr && link.partial->slice->cancelled()) {
    Job& job = *std::exchange(link.partial, nullptr);
    job.code = Code::kCancelled;
    if (job.outstanding == 0) finish(job, job.code);
  }
  sweep_suspects(path);
  const bool unwanted = is_unwanted(path);
  if (!unwanted) {
    link.unwanted_since_ns = 0;
  } else if (link.unwanted_since_ns == 0) {
    link.unwanted_since_ns = now_ns();
  }
  watch_.on = watch_.on || unwanted;
}

bool FabricEngine::is_unwanted(const FabricRail& path) const {
  return std::any_of(work_.operations.begin(), work_.operations.end(),
                     [&path](const Operation& operation) {
                       const Job* job = operation.job;
                       return job != nullptr && job->path == &path && job->slice != nullptr &&
                              job->slice->cancelled();
                     });
}

bool FabricEngine::stuck_on(FabricRail& path, int64_t now) {
  Link& link = path.link;
  if (link.outstanding == 0) {
    link.unwanted_since_ns = 0;
    // The connection broke while the path was idle, and the provider tries to make it again: in
    // vain, as the peer's endpoint is gone with it.
    const bool broken = link.state == Link::State::kReady && link.blocked_since_ns != 0 &&
                        now - link.blocked_since_ns > kBlockedNs;
    if (broken) {
      fail(path, Code::kUnavailable,
           error(Code::kUnavailable, "{} of {} takes no operation for {} ms", path.remote_device,
                 path.remote_address, kBlockedNs / kNsPerMs));
    }
    return broken;
  }
  const int64_t silent_ns = now - link.progress_ns;
  if (link.failed && silent_ns > kSilentNs) return true;
  const int64_t grace_ns = silent_ns > kGraceNs ? kGraceNs : kLongGraceNs;
  if (link.unwanted_since_ns != 0 && now - link.unwanted_since_ns > grace_ns) {
    if (is_unwanted(path)) {
      path.set_error(error(Code::kUnavailable, "{} to {} of {}: silent for {} ms",
                           path.local_device, path.remote_device, path.remote_address,
                           silent_ns / kNsPerMs));
      return true;
    }
    link.unwanted_since_ns = 0;
  }
  if (link.failed) return false;
  if (silent_ns > options_.stall_timeout_ms * kNsPerMs) {
    fail(path, Code::kUnavailable,
         error(Code::kUnavailable, "{} of {} answered nothing for {} ms (stall_timeout_ms)",
               path.remote_device, path.remote_address, options_.stall_timeout_ms));
    return true;
  }
  if (silent_ns > kSilentNs && !link.checking && now - link.checked_ns > kCheckNs) {
    check_peer(path, now);
  }
  return false;
}

bool FabricEngine::stuck(int64_t now) {
  bool found = false;
  watch_.on = now < watch_.until_ns;
  for (const auto& [each, owner] : known_) {
    FabricRail& path = of(*each);
    const Link& link = path.link;
    watch_suspects(path, now);
    found = stuck_on(path, now) || found;
    if (link.state == Link::State::kOpening &&
        now - link.probing_since_ns > options_.connect_timeout_ms * kNsPerMs) {
      probe(path);  // which ends it
    }
    const bool connecting =
        link.state == Link::State::kOpening || link.state == Link::State::kProbing;
    watch_.on = watch_.on || connecting || link.outstanding > 0 || link.blocked_since_ns != 0 ||
                !link.suspects.all.empty();
  }
  return found;
}

}  // namespace te::fabric
