// One local NIC: the endpoints that peers reach, those that reach peers, the liveness words, and
// the progress thread for all of them.
//
// Threads: any, unless stated.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "core/schedule.h"
#include "transport/fabric/domain.h"
#include "transport/fabric/engine.h"
#include "transport/fabric/responders.h"
#include "transport/progress/progress_thread.h"

namespace te::fabric {

class FabricNic final : private ProgressWork {
 public:
  // `most_endpoints`: those that reach peers, and as many again that peers reach.
  FabricNic(std::unique_ptr<Domain> domain, size_t most_endpoints, int64_t spin_ns);
  ~FabricNic() override { stop(); }

  // Opens what peers reach; `instance` is this engine's. Before any other call.
  Status open(uint64_t instance);
  // Starts the progress thread. `index`: of this NIC.
  Status start(TransportHost& host, const rails::MemoryRegions& memories, size_t index,
               const EngineOptions& options);

  Domain& domain() { return *domain_; }
  const Domain& domain() const { return *domain_; }
  Responders& responders() { return *responders_; }
  // As peers see the NIC.
  NicAddress address() const;

  // The endpoint for one more path: a new one where there is room, else the one with the fewest
  // paths.
  Result<std::shared_ptr<FabricEngine>> find_engine();

  // In this order. What is submitted after begin_stop() is returned as kCancelled.
  void stop_thread() { thread_.stop(); }
  void begin_stop();
  void stop_engines(int64_t until_ns);
  FabricEngine::Counters counters();
  void stop();

 private:
  // ProgressWork; the progress thread.
  void look(bool before_sleep, Look& look) override;
  bool wanted() const override;

  void take_engines();

  const std::unique_ptr<Domain> domain_;
  const size_t most_endpoints_;
  const std::unique_ptr<RateEstimator> rate_;
  std::unique_ptr<Responders> responders_;
  std::unique_ptr<LivenessWords> liveness_;
  Owned<fid_mr> liveness_range_;

  // What engines are made from.
  TransportHost* host_ = nullptr;
  const rails::MemoryRegions* memories_ = nullptr;
  size_t index_ = 0;
  EngineOptions options_;

  Mutex mutex_{LockRank::kNic};
  std::vector<std::shared_ptr<FabricEngine>> engines_ TE_GUARDED_BY(mutex_);
  FabricEngine::Counters counters_ TE_GUARDED_BY(mutex_);  // of those that ended
  bool stopping_ TE_GUARDED_BY(mutex_) = false;
  std::atomic<bool> changed_{false};  // engines_

  // The progress thread's:
  std::vector<std::shared_ptr<FabricEngine>> polled_;
  int64_t blind_ns_;  // between looks at queues without a descriptor
  ProgressThread thread_;
};

}  // namespace te::fabric
