// The initiator's side of one local socket: proves who the target is, notices its end, maps the
// memory files of its ranges and opens its memory on devices as they are needed.
//
// Threads: connect() blocks its caller; events come on the event loop; the rest from any.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/event_loop.h"
#include "transport/shm/local_socket.h"
#include "transport/shm/open_blocks.h"
#include "transport/shm/range_table.h"

namespace te::shm {

class Link final : public EventLoop::Handler, public std::enable_shared_from_this<Link> {
 public:
  // Called before memory of the target that was mapped here is unmapped.
  using Unmapping = std::function<void(const Mapping&)>;
  // kNotFound: the target is not on this host. Other errors: it is, but its memory cannot be
  // shared.
  static Result<std::shared_ptr<Link>> connect(EventLoop& loop, uint64_t instance,
                                               const Advertisement& advertisement, int64_t limit_ms,
                                               Unmapping unmapping = {});
  Link(EventLoop& loop, Unmapping unmapping) : loop_(loop), unmapping_(std::move(unmapping)) {}

  // Events begin: `failed` is called once, when the target is gone; `mapped` after each answer
  // about a memory file or a block. Both on the loop, and not after close().
  struct Owner {
    std::function<void(const Status& why)> failed;
    std::function<void()> mapped;
  };
  Status watch(Owner owner);
  // Waits for a call of the owner's that is under way.
  void close();

  // 0: see PeerProcess. Then memory that is mapped is all there is to reach.
  pid_t pid() const { return process_.pid; }
  std::string name() const { return process_.name(); }
  const RangeView& ranges() const { return *ranges_; }
  HazardPage& hazards() { return *reinterpret_cast<HazardPage*>(hazards_.data()); }

  // Whether the process behind pid() is the target, as of a moment ago.
  bool alive();
  // Whether the kernel lets us touch the target's memory.
  bool attach_allowed() const { return attach_allowed_.load(std::memory_order_relaxed); }
  void forbid_attach() { attach_allowed_.store(false, std::memory_order_relaxed); }

  // Null with kBusy: asked for, and the owner's `mapped` will be called; `wait` was called before
  // that can happen. Null with another code: this range's file is not to be had.
  struct Mapped {
    std::shared_ptr<const Mapping> memory;
    Code code = Code::kOk;
  };
  Mapped find_mapping(const RangeKey& key, const std::function<void()>& wait);
  // False once it turned out that the range's file is not to be had.
  bool may_map(const RangeKey& key) const;

  // What a block is to be copied with; it opens the block.
  struct Copier {
    std::shared_ptr<const DeviceMemory> memory;
    OpenBlocks::Local local = OpenBlocks::Local::kDevice;
  };
  // The same of a block on a device: see OpenBlocks.
  struct Opened {
    OpenBlocks::Found found;
    Status status;  // kUnavailable: it cannot be opened
  };
  Opened find_block(const RangeKey& key, uint64_t address, const Copier& copier,
                    const std::function<void()>& wait);
  // False once it turned out that not all of the range can be opened.
  bool may_open(const RangeKey& key, OpenBlocks::Local local = OpenBlocks::Local::kDevice) const;
  // There is nothing to copy host memory from and to the range with.
  void refuse_host_memory(const RangeKey& key, Status why);

 private:
  struct Question {
    RangeKey key{};
    // Of kOpen.
    uint64_t address = 0;
    const void* copier = nullptr;
    std::weak_ptr<const DeviceMemory> memory = {};
    OpenBlocks::Local local = OpenBlocks::Local::kDevice;
    std::shared_ptr<const DeviceMemory> kept = {};  // of no buffer, so nobody else may hold it
  };
  using Files = std::vector<std::shared_ptr<const Mapping>>;

  struct File {
    uint64_t generation = 0;
    std::shared_ptr<const Mapping> memory;
    Code code = Code::kBusy;
  };

  Status introduce(const Advertisement& advertisement, int64_t limit_ms);
  Result<Received> receive_within(int64_t limit_ms);
  void on_events(uint32_t events) override;
  Status take_answer(Received& answer);
  Status take_mapping(Received& answer);
  Status take_block(Received& answer);
  Status check_block(const Message& answer, const Question& question) const;
  std::shared_ptr<const Mapping> share(Mapping mapping) const;
  Files take_outdated_files() TE_REQUIRES(mutex_);
  void refuse(const Question& question, const Message& answer, Status why) TE_REQUIRES(mutex_);
  Status release(const Message& message);
  void ask(Question question) TE_REQUIRES(mutex_);
  void ask_next() TE_REQUIRES(mutex_);
  void drop_blocks();
  void fail(const Status& why);

  EventLoop& loop_;
  const Unmapping unmapping_;
  Fd socket_;
  PeerProcess process_;
  MemoryFile hazards_;
  std::unique_ptr<RangeView> ranges_;
  std::atomic<bool> attach_allowed_{false};
  std::atomic<bool> alive_{true};
  std::atomic<int64_t> checked_ns_{0};

  Mutex owner_mutex_{LockRank::kLinkOwner};  // taken before mutex_
  Owner owner_ TE_GUARDED_BY(owner_mutex_);
  mutable Mutex mutex_{LockRank::kLink};
  std::unordered_map<uint32_t, File> files_ TE_GUARDED_BY(mutex_);
  // The answer to the first is awaited.
  std::deque<Question> asked_ TE_GUARDED_BY(mutex_);
  std::set<std::pair<const void*, uint64_t>> asked_blocks_ TE_GUARDED_BY(mutex_);
  std::optional<OpenBlocks> blocks_ TE_GUARDED_BY(mutex_);
};

}  // namespace te::shm
