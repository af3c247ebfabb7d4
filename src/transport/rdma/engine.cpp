// An engine as its progress sees it, and its end. engine_work.cpp and engine_connect.cpp are what
// is done with the progress lock.
#include "transport/rdma/engine.h"

#include <algorithm>

#include "base/clock.h"

namespace te::rdma {
namespace {

constexpr uint32_t kMostSlices = 128;  // under way on one rail

}  // namespace

VerbsEngine::VerbsEngine(TransportHost& host, VerbsNic& nic, size_t index,
                         const rails::MemoryRegions& memories, const EngineOptions& options,
                         TaskPool& making, std::function<void()> wake)
    : RailEngine(host, options.spin_ns, std::move(wake)),
      nic_(nic),
      index_(index),
      memories_(memories),
      options_(options),
      making_(making) {}

rails::NicSpeed VerbsEngine::speed() { return {nic_.rate(), nic_.bytes_per_s(), kMostSlices}; }

Arming VerbsEngine::arm(bool for_caller) {
  if (for_caller || !nic_.present()) return {};
  nic_.arm();
  if (poll()) return {.news = true};
  return {.descriptor = nic_.completion_descriptor()};
}

void VerbsEngine::nic_changed(const VerbsNic::News& news) {
  MutexLock lock(progress_.lock);
  const int64_t now = now_ns();
  if (news.went_down) {
    const Status why(Code::kUnavailable, nic_.state_text());
    for (const auto& [id, endpoint] : endpoints_.all) {
      const bool alive = endpoint->state == Endpoint::State::kProving ||
                         endpoint->state == Endpoint::State::kReady ||
                         endpoint->state == Endpoint::State::kDraining;
      if (alive) fail(*endpoint, why, false, now);
    }
  }
  if (news.came_up) {
    for (const auto& [rail, owner] : known_) {
      if (of(*rail).now.rest_until_ns != 0) of(*rail).now.rest_until_ns = 1;
    }
    watch_next_ns_ = 0;
  }
  progress_.call_thread();
}

void VerbsEngine::begin_stop() {
  progress_.close();
  progress_.run([this]() TE_REQUIRES(progress_.lock) {
    for (const auto& [rail, owner] : known_) {
      of(*rail).now.over = Code::kCancelled;
      return_queue(*rail, Code::kCancelled);
    }
  });
}

void VerbsEngine::stop() {
  std::map<rails::Rail*, std::shared_ptr<rails::Rail>> known;
  progress_.run([&]() TE_REQUIRES(progress_.lock) {
    const int64_t now = now_ns();
    std::vector<EndpointRef> endpoints;
    for (const auto& [id, endpoint] : endpoints_.all) endpoints.push_back(endpoint);
    for (const EndpointRef& endpoint : endpoints) {
      if (endpoint->state != Endpoint::State::kMaking) endpoint->pair.reset();
      closed(endpoint, now);
    }
    endpoints_.line.clear();
    known = forget_all();
  });
}

VerbsEngine::Counters VerbsEngine::counters() {
  MutexLock lock(progress_.lock);
  return counters_;
}

}  // namespace te::rdma
