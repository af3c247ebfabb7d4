// One staged request under way: its parts, one after the other, with the copy of one beside the
// transfer of another.
//
// Threads: one, a worker of Staging. It looks every few milliseconds whether the request is
// cancelled.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "engine/staging.h"

namespace te {

class StagedTransfer {
 public:
  StagedTransfer(Staging& staging, StagedRequest& request)
      : staging_(staging), request_(request), task_(*request.task) {}

  // Returns when nothing touches local memory any more.
  Status run();
  // The failure may be over once the segment was asked again.
  bool worth_another() const { return worth_another_; }

 private:
  struct Part {
    uint64_t begin = 0;
    uint64_t length = 0;
    uint32_t slot = 0;
  };

  Status prepare();
  Status open_lease();
  Status write();
  Status read();
  void abandon();

  Part part(uint64_t number) const;
  std::byte* local(const Part& part) const;
  // Between a local part and the request's memory. They end in their order.
  Status begin_local_copy(const Part& part);
  Status end_local_copies(size_t left);
  Status local_failure(const Part& part, const Status& why) const;
  // Between a local part and a remote one, or what takes the place of either.
  Status begin_transfer(const Part& part);
  Status end_transfer();
  // Between a remote part and the target's memory. They end in their order.
  void begin_remote_copy(const Part& part);
  Status end_remote_copies(size_t left);
  Result<Bytes> await(const stage::Hello& hello, Staging::Answered answer);
  void moved(const Part& part) {
    task_.transferred.fetch_add(part.length, std::memory_order_relaxed);
  }
  bool cancelled() const { return task_.first.cancelled(); }

  Staging& staging_;
  StagedRequest& request_;
  Task& task_;
  bool worth_another_ = false;
  std::shared_ptr<const DeviceMemory> device_;  // of the local memory
  std::byte* parts_ = nullptr;                  // local ones, where that end is staged
  std::shared_ptr<const void> pinned_;          // while they are used
  std::optional<StageLease> lease_;             // likewise remote
  uint64_t part_bytes_ = 0;
  uint64_t count_ = 0;             // of parts
  BatchId batch_ = kInvalidBatch;  // of the transfer under way
  struct LocalCopy {
    Part part;
    std::unique_ptr<PendingCopies> pending;
  };
  std::deque<LocalCopy> local_copies_;  // under way
  struct RemoteCopy {
    Part part;
    stage::Copy hello;
    Staging::Answered answer;
  };
  std::deque<RemoteCopy> remote_copies_;  // under way
};

}  // namespace te
