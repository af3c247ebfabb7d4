// The ends of connections that peers asked for. Their NICs serve what peers read and write; here
// the ends are made, and looked after: now and then each asks the other end, with a WRITE of
// nothing, whether it is still there, so that what a dead peer left behind goes away.
//
// To connect, a NIC may have to find the way to its peer first, which takes a second where nobody
// is. So that is done on a pool, and a hello is answered soon in any case: a peer whose end is not
// ready then has to repeat its first packets, as NICs do by themselves.
//
// Threads: accept() any; attend() the progress thread.
#pragma once

#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/task_pool.h"
#include "transport/rdma/message.h"
#include "transport/rdma/nic.h"

namespace te::rdma {

class Responder {
 public:
  // At most `most` ends at once.
  Responder(std::vector<VerbsNic*> nics, size_t most) : nics_(std::move(nics)), most_(most) {}

  // Makes the first thread. kResource.
  Status start() { return pool_.start(); }

  Result<Bytes> accept(ByteView hello);
  // When to come again. A new end may need it earlier: within kAskNs.
  int64_t attend(int64_t now);
  size_t size() const {
    MutexLock lock(mutex_);
    return ends_.size();
  }
  void stop();

  static constexpr int64_t kAskNs = 2'000'000'000;

 private:
  struct End {
    std::unique_ptr<QueuePair> pair;
    enum class State : uint8_t { kConnecting, kReady, kFailed } state = State::kConnecting;
    Status why;          // it failed
    bool asked = false;  // and not answered yet
  };
  using Ends = std::unordered_map<uint64_t, std::shared_ptr<End>>;

  static constexpr size_t kThreads = 16;
  static constexpr size_t kMostConnecting = 256;

  Result<Bytes> connect(const Connect& hello);
  void connect_end(uint64_t id, const std::shared_ptr<End>& end, const Address& to);
  // Returns when none of the ends exists any more; kBusy: some may.
  Status disconnect(const Disconnect& hello);
  // Those that are connecting are destroyed by who connects them.
  using Gone = std::vector<std::pair<uint64_t, std::shared_ptr<End>>>;
  void take_out(Ends::iterator end, Gone& gone) TE_REQUIRES(mutex_);
  void destroy(const Gone& gone) TE_EXCLUDES(mutex_);
  void take_answers(Gone& gone) TE_REQUIRES(mutex_);
  void ask(uint64_t id, End& end) TE_REQUIRES(mutex_);

  const std::vector<VerbsNic*> nics_;
  const size_t most_;
  mutable Mutex mutex_{LockRank::kResponders};
  CondVar changed_;  // an end was connected, or not; or destroyed
  size_t connecting_ TE_GUARDED_BY(mutex_) = 0;
  Ends ends_ TE_GUARDED_BY(mutex_);
  std::unordered_set<uint64_t> leaving_ TE_GUARDED_BY(mutex_);  // out of `ends_`, not destroyed yet
  bool stopped_ TE_GUARDED_BY(mutex_) = false;
  int64_t next_ns_ = 0;      // the progress thread's
  TaskPool pool_{kThreads};  // last: its threads use the rest
};

}  // namespace te::rdma
