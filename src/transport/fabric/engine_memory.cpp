// What is done in a turn for memory of a target that cannot be touched any more, where the provider
// copies in software. Such a provider tells the initiator nothing of it.
//
// The target's provider drops its answer to a READ, or leaves off in the middle, and goes on with
// the next one, which the initiator's takes for the first (seen in 1.17's tcp). So READs are called
// completed only once a confirmation came: a READ of a liveness word, posted behind them, that
// brings the right word. Where the confirmation is late or wrong, the target is asked over the
// control channel, and the connection is given up.
//
// A slice that comes back since its connection broke is in doubt: the target is asked first whether
// its memory was the reason, so that nobody tries again in vain.
#include <rdma/fi_errno.h>

#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/log.h"
#include "transport/fabric/engine.h"

namespace te::fabric {
namespace {

constexpr uint32_t kMostConfirmations = 16;      // under way on one path
constexpr int64_t kLateNs = 20 * kNsPerMs;       // of an answer to a READ: then the target is asked
constexpr int64_t kAskNs = 500 * kNsPerMs;       // between two such questions
constexpr int64_t kWatchedNs = 1000 * kNsPerMs;  // after a READ, so that nobody is woken for each
constexpr int64_t kSuspectNs = 250 * kNsPerMs;   // then a slice comes back without a verdict

}  // namespace

void FabricEngine::forget_reads(FabricRail& path, Code code) {
  Link& link = path.link;
  for (Job* job : std::exchange(link.reads.unconfirmed, {})) finish(*job, code);
  link.reads.asked_ns = 0;
  link.reads.posted = link.reads.asked = link.reads.confirmed = 0;
  link.reads.confirmations = 0;
}

void FabricEngine::hold_or_finish(Job& job) {
  Link& link = job.path->link;
  const bool sure = job.code != Code::kOk || job.reads <= link.reads.confirmed;
  if (sure || !copies_in_software()) return finish(job, job.code);
  link.reads.unconfirmed.push_back(&job);
}

bool FabricEngine::confirm_reads(FabricRail& path) {
  Link& link = path.link;
  if (!copies_in_software() || link.reads.posted == link.reads.asked) return true;
  if (link.reads.confirmations >= kMostConfirmations || probes_.free.empty()) return false;
  Job& job = take_job(path, nullptr);
  job.probe_buffer = probes_.free.back();
  job.reads = link.reads.posted;
  job.word = link.reads.word % (LivenessWords::kWords - 1) + 1;
  const long result = read_liveness_word(job, job.word);
  if (result != 0) {
    work_.free_jobs.push_back(&job);
    if (result == -FI_EAGAIN) return false;
    fail(path, Code::kUnavailable,
         domain_.failed("posting to " + path.remote_address, result, Code::kUnavailable));
    renew_soon();
    return true;
  }
  probes_.free.pop_back();
  link.reads.word = job.word;
  link.reads.asked = link.reads.posted;
  ++link.reads.confirmations;
  if (link.outstanding++ == 0) link.progress_ns = now_ns();
  watch_for_a_while();
  return true;
}

void FabricEngine::confirmation_ended(Job& job, const Status& why) {
  FabricRail& path = *job.path;
  Link& link = path.link;
  const uint64_t reads = job.reads;
  const bool right =
      (*probes_.all)[job.probe_buffer].word == LivenessWords::word(path.instance(), job.word);
  probes_.free.push_back(job.probe_buffer);
  work_.free_jobs.push_back(&job);
  --link.reads.confirmations;
  --link.outstanding;
  link.progress_ns = now_ns();
  if (!why.ok() || !right) {
    fail(path, Code::kUnavailable,
         why.ok() ? error(Code::kUnavailable, "{} of {} left out the answer to a READ",
                          path.remote_device, path.remote_address)
                  : why);
    return renew_soon();
  }
  link.reads.confirmed = std::max(link.reads.confirmed, reads);
  size_t kept = 0;
  for (Job* read : link.reads.unconfirmed) {
    if (read->reads > link.reads.confirmed) {
      link.reads.unconfirmed[kept++] = read;
    } else {
      finish(*read, read->code);
    }
  }
  link.reads.unconfirmed.resize(kept);
}

void FabricEngine::watch_for_a_while() {
  const int64_t now = now_ns();
  watch_.until_ns = now + kWatchedNs;
  if (!std::exchange(watch_.on, true)) progress_.call_thread();
}

bool FabricEngine::suspect(const Job& job, Code code) {
  const bool touched = job.outstanding > 0 || job.posted > 0;
  if (code != Code::kUnavailable || !touched || !copies_in_software()) return false;
  Link& link = job.path->link;
  if (job.slice->cancelled() || link.suspects.all.size() >= Hello::kMaxRanges) return false;
  if (link.suspects.all.empty()) link.suspects.since_ns = now_ns();
  link.suspects.all.push_back({job.slice, job.posted_ns});
  activate(*job.path);
  watch_.on = true;
  return true;
}

bool FabricEngine::add_range(const FabricRail& path, const Slice& slice, Hello& hello) const {
  rails::Key::Place place;
  if (hello.ranges.size() >= Hello::kMaxRanges ||
      !path.find_key(slice.key, slice.remote_address, slice.length, &place)) {
    return false;
  }
  hello.ranges.push_back(
      {slice.remote_address, slice.length, place.key, slice.opcode == Opcode::kWrite});
  return true;
}

void FabricEngine::ask_about(FabricRail& path, Hello hello, int64_t now) {
  hello.type = Hello::Type::kTouch;
  hello.nic = static_cast<uint32_t>(path.remote);
  hello.id = path.identity().id;
  hello.epoch = ++path.link.suspects.question;
  path.link.suspects.asking = true;
  send_hello(path, hello, now);
}

void FabricEngine::ask_about_suspects(FabricRail& path, int64_t now) {
  Link& link = path.link;
  Hello hello;
  // A slice whose key does not cover it is none that was posted.
  std::erase_if(link.suspects.all, [](const Suspect& each) { return each.slice == nullptr; });
  for (const Suspect& each : link.suspects.all) {
    if (!add_range(path, *each.slice, hello)) break;
  }
  link.suspects.asked = hello.ranges.size();
  if (link.suspects.asked == 0) return end_suspects(path, link.suspects.all.size(), {});
  ask_about(path, std::move(hello), now);
}

void FabricEngine::ask_about_reads(FabricRail& path, int64_t now) {
  Hello hello;
  for (const Job* job : path.link.reads.unconfirmed) (void)add_range(path, *job->slice, hello);
  const Slice* last = nullptr;
  for (const Operation& operation : work_.operations) {
    const Job* job = operation.job;
    if (job == nullptr || job->path != &path || job->slice == nullptr) continue;
    if (job->slice->opcode != Opcode::kRead || job->slice == last) continue;
    last = job->slice;
    (void)add_range(path, *last, hello);
  }
  path.link.reads.asked_ns = now;
  path.link.suspects.asked = 0;
  if (!hello.ranges.empty()) ask_about(path, std::move(hello), now);
}

void FabricEngine::take_verdict(FabricRail& path, const Result<Bytes>& answer) {
  Link& link = path.link;
  link.suspects.asking = false;
  const ByteView verdict = answer.ok() ? as_bytes(*answer) : ByteView();
  if (link.suspects.asked > 0) {
    const size_t count = std::exchange(link.suspects.asked, 0);
    end_suspects(path, count, verdict);
    if (!link.suspects.all.empty()) activate(path);
    return;
  }
  const bool bad = std::find(verdict.begin(), verdict.end(), std::byte{0}) != verdict.end();
  if (!bad || link.state != Link::State::kReady || link.reads.confirmations == 0) return;
  fail(path, Code::kUnavailable,
       error(Code::kUnavailable, "{} of {} has memory that cannot be read any more",
             path.remote_device, path.remote_address));
  renew_soon();
}

void FabricEngine::end_suspects(FabricRail& path, size_t count, ByteView verdict, Code code) {
  std::vector<Suspect>& suspects = path.link.suspects.all;
  count = std::min(count, suspects.size());
  for (size_t i = 0; i < count; ++i) {
    if (suspects[i].slice == nullptr) continue;
    const bool bad = i < verdict.size() && verdict[i] == std::byte{0};
    return_slice(path, suspects[i].slice, bad ? Code::kPermission : code, suspects[i].posted_ns);
  }
  suspects.erase(suspects.begin(), suspects.begin() + static_cast<ptrdiff_t>(count));
  path.link.suspects.since_ns = now_ns();
}

void FabricEngine::sweep_suspects(FabricRail& path) {
  Link& link = path.link;
  for (Suspect& each : link.suspects.all) {
    if (each.slice == nullptr || !each.slice->cancelled()) continue;
    return_slice(path, std::exchange(each.slice, nullptr), Code::kCancelled, 0);
  }
  size_t kept = 0;
  for (Job* job : link.reads.unconfirmed) {
    if (!job->slice->cancelled()) {
      link.reads.unconfirmed[kept++] = job;
    } else {
      finish(*job, Code::kCancelled);
    }
  }
  link.reads.unconfirmed.resize(kept);
}

void FabricEngine::watch_suspects(FabricRail& path, int64_t now) {
  Link& link = path.link;
  if (!link.suspects.all.empty() && now - link.suspects.since_ns > kSuspectNs) {
    link.suspects.asking = false;
    link.suspects.asked = 0;
    ++link.suspects.question;  // the answer comes too late
    end_suspects(path, link.suspects.all.size(), {});
  }
  const bool late = link.reads.confirmations > 0 && now - link.progress_ns > kLateNs;
  if (!late || link.suspects.asking || link.state != Link::State::kReady) return;
  if (now - link.reads.asked_ns > kAskNs) ask_about_reads(path, now);
}

}  // namespace te::fabric
