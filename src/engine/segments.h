// The segments that this engine has open: who is behind each, and what it offers.
//
// Threads: any. find() and Segment::target() do not block; the rest may, on directory and network.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/options.h"
#include "core/batch.h"
#include "directory/directory.h"
#include "engine/control_client.h"
#include "engine/memory.h"
#include "engine/transports.h"

namespace te {

class Segment {
 public:
  Segment(std::string segment_name, bool is_self) : name(std::move(segment_name)), self(is_self) {}

  const std::string name;
  const bool self;  // the engine's own

  std::shared_ptr<const Target> target() const {
    MutexLock lock(mutex_);
    return target_;
  }
  Locator locator() const {
    MutexLock lock(mutex_);
    return locator_;
  }

 private:
  friend class Segments;
  Mutex fetching_;  // one fetch at a time; taken before mutex_
  mutable Mutex mutex_;
  std::shared_ptr<const Target> target_ TE_GUARDED_BY(mutex_);
  std::shared_ptr<ControlClient> control_ TE_GUARDED_BY(mutex_);
  SocketAddress address_ TE_GUARDED_BY(mutex_);  // that answered last; outlives `control_`
  Locator locator_ TE_GUARDED_BY(mutex_);
};

// Empty, overlong and non-UTF-8 names are errors.
Status check_segment_name(std::string_view name);

class Segments {
 public:
  Segments(uint64_t instance, const Config& config, Directory& directory, Memory& memory,
           Transports& transports);

  void set_local_name(std::string name);

  Result<SegmentId> open(std::string_view name, bool fresh);
  Status close(SegmentId id);
  std::shared_ptr<Segment> find(SegmentId id) const;
  std::shared_ptr<Segment> find(std::string_view name) const;
  // With its target of now; null where there is none.
  Submission::Use find_for_use(SegmentId id) const;
  std::vector<std::shared_ptr<Segment>> all() const;

  // Asks the engine behind the segment what it offers now; looks for it again when it is not where
  // it was, or is another run.
  Status refresh(Segment& segment);
  // The same for our own segment: no network.
  void refresh_self(Segment& segment);
  // Makes the paths of every segment anew, as after a change of the installed transports.
  void rebuild_all();
  // One call on the segment's control channel, connected if need be. kStale when another run than
  // `instance` (0: any) answers there.
  Result<Bytes> call(Segment& segment, wire::ControlType type, std::string_view body,
                     uint64_t instance = 0);
  // One that leads to this run of an engine, be it closed already, or not open yet; or null.
  std::shared_ptr<Segment> behind(uint64_t instance) const;
  // Where a name leads, by the directory.
  Result<Locator> locate(std::string_view name);

 private:
  static constexpr uint32_t kSlotBits = 15;
  struct Slot {
    std::shared_ptr<Segment> segment;
    uint32_t generation = 0;
    uint32_t opens = 0;
    std::shared_ptr<const Target> target;  // the segment's, where submissions find it at once
  };

  Result<std::shared_ptr<ControlClient>> control_of(Segment& segment)
      TE_REQUIRES(segment.fetching_);
  Status fetch(Segment& segment, const std::shared_ptr<ControlClient>& control)
      TE_REQUIRES(segment.fetching_);
  // For the peer that answered last.
  void install(Segment& segment, Descriptor descriptor) TE_REQUIRES(segment.fetching_);
  SegmentId id_of(size_t slot) const TE_REQUIRES_SHARED(mutex_);
  static size_t slot_number(SegmentId id) {
    return static_cast<uint32_t>(id) & ((1u << kSlotBits) - 1);
  }
  const Slot* slot_of(SegmentId id) const TE_REQUIRES_SHARED(mutex_);

  const uint64_t instance_;
  const Config& config_;
  Directory& directory_;
  Memory& memory_;
  Transports& transports_;
  std::string local_name_;
  mutable SharedMutex mutex_;
  std::vector<Slot> slots_ TE_GUARDED_BY(mutex_);  // slot 0: our own
  // All that anybody holds, but our own.
  std::vector<std::weak_ptr<Segment>> alive_ TE_GUARDED_BY(mutex_);
  uint32_t first_generation_;
};

}  // namespace te
