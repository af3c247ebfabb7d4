// One group of staged requests under way: its parts, one after the other, with the copy of one
// beside the transfer of another.
//
// Threads: one, a worker of Staging. It looks every few milliseconds whether the group is
// cancelled.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>

#include "engine/device_copies.h"
#include "engine/staging.h"

namespace te {

class StagedTransfer {
 public:
  StagedTransfer(Staging& staging, StagedGroup& group);

  // Returns when nothing touches local memory any more.
  Status run();
  // After run(): whether all bytes of that range are in place.
  bool done(size_t range) const { return left_[range] == 0; }
  // The failure may be over once the segment was asked again.
  bool worth_another() const { return worth_another_; }

 private:
  // A range, or as much of it as one part has.
  struct Piece {
    uint32_t range = 0;
    uint64_t begin = 0;    // in the range
    uint64_t in_part = 0;  // where it begins there
    uint64_t length = 0;
  };
  struct Part {
    size_t first = 0;  // of its pieces
    size_t count = 0;
    uint64_t length = 0;
    uint32_t slot = 0;
  };

  Status prepare();
  Status open_lease();
  void divide();
  Status write();
  Status read();
  void abandon();
  void forget_unfinished();

  std::span<const Piece> pieces(const Part& part) const {
    return std::span(pieces_).subspan(part.first, part.count);
  }
  const StagedRange& range_of(const Piece& piece) const { return group_.ranges[piece.range]; }
  // Of the piece, in its part or in the request's memory.
  std::byte* local(const Part& part, const Piece& piece) const;
  uint64_t remote(const Part& part, const Piece& piece) const;
  // Between a local part and the requests' memory. They end in their order.
  Status begin_local_copy(const Part& part);
  Status end_local_copies(size_t left);
  Status local_failure(const Part& part, const Status& why) const;
  // Between a local part and a remote one, or what takes the place of either.
  Status begin_transfer(const Part& part);
  Status end_transfer();
  std::vector<TransferRequest> transfers_of(const Part& part) const;
  // Between a remote part and the target's memory. They end in their order.
  void begin_remote_copy(const Part& part);
  Status end_remote_copies(size_t left);
  Result<Bytes> await(const stage::Hello& hello, Staging::Answered answer);
  void moved(const Part& part);
  bool cancelled() const { return group_.cancelled(); }
  bool writes() const { return group_.opcode() == Opcode::kWrite; }

  Staging& staging_;
  StagedGroup& group_;
  std::vector<uint64_t> left_;  // bytes of each range that are not in place
  std::vector<Piece> pieces_;
  std::vector<Part> all_parts_;
  bool worth_another_ = false;
  std::byte* parts_ = nullptr;          // local ones, where that end is staged
  std::shared_ptr<const void> pinned_;  // while they are used
  std::optional<StageLease> lease_;     // likewise remote
  uint64_t part_bytes_ = 0;
  BatchId batch_ = kInvalidBatch;  // of the transfer under way
  size_t batch_tasks_ = 0;
  struct LocalCopy {
    const Part* part;
    DeviceCopies copies;
  };
  std::deque<LocalCopy> local_copies_;  // under way
  struct RemoteCopy {
    const Part* part;
    stage::Copy hello;
    Staging::Answered answer;
  };
  std::deque<RemoteCopy> remote_copies_;  // under way
};

}  // namespace te
