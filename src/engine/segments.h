// The segments that this engine has open: who is behind each, and what it offers.
//
// Threads: any. What takes a callback does not block, nor do find() and Segment::target(); the rest
// may, on directory and network, and is not for the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/options.h"
#include "core/batch.h"
#include "directory/directory.h"
#include "engine/contact.h"
#include "engine/memory.h"
#include "engine/transports.h"

namespace te {

class Segment {
 public:
  // `contact`: null for the engine's own.
  Segment(std::string segment_name, EventLoop& loop, std::shared_ptr<Contact> segment_contact)
      : name(std::move(segment_name)),
        self(segment_contact == nullptr),
        contact(std::move(segment_contact)),
        loop_(loop) {}
  ~Segment();

  const std::string name;
  const bool self;  // the engine's own
  const std::shared_ptr<Contact> contact;

  std::shared_ptr<const Target> target() const {
    MutexLock lock(mutex_);
    return target_;
  }
  // When another run of the engine took the place of the one before; 0: never.
  int64_t restarted_ns() const {
    MutexLock lock(mutex_);
    return restarted_ns_;
  }
  Locator locator() const { return contact ? contact->locator() : Locator(); }

 private:
  friend class Segments;
  EventLoop& loop_;
  Mutex installing_{LockRank::kTarget};  // one new target at a time; taken before mutex_
  mutable Mutex mutex_{LockRank::kSegment};
  std::shared_ptr<const Target> target_ TE_GUARDED_BY(mutex_);
  int64_t restarted_ns_ TE_GUARDED_BY(mutex_) = 0;
};

// Empty, overlong and non-UTF-8 names are errors.
Status check_segment_name(std::string_view name);

class Segments {
 public:
  using Refreshed = std::function<void(Status)>;
  using Answered = ControlClient::Answered;

  // `loop` outlives this, and every segment.
  Segments(uint64_t instance, const Config& config, std::shared_ptr<Directory> directory,
           Memory& memory, Transports& transports, EventLoop& loop,
           std::shared_ptr<tls::Identity> identity = nullptr);
  ~Segments() { stop(); }
  // Starts the threads that it needs at least. kResource.
  Status start() {
    TE_RETURN_IF_ERROR(finder_.start());
    return installs_.start();
  }
  // What is asked of peers ends as kCancelled, now and later. From outside the loop.
  void stop();

  void set_local_name(std::string name);

  Result<SegmentId> open(std::string_view name, bool fresh);
  Status close(SegmentId id);
  std::shared_ptr<Segment> find(SegmentId id) const;
  std::shared_ptr<Segment> find(std::string_view name) const;
  // With its target of now; null where there is none.
  Submission::Use find_for_use(SegmentId id) const;
  std::vector<std::shared_ptr<Segment>> all() const;

  // Asks the engine behind the segment what it offers now; looks for it again when it is not where
  // it was, or is another run. The callback comes once, on any thread, possibly from inside.
  void refresh(const std::shared_ptr<Segment>& segment, Refreshed refreshed);
  // The same, and waits for it.
  Status refresh_now(const std::shared_ptr<Segment>& segment);
  // All of `segments` at once; the first error.
  Status refresh_now(const std::vector<std::shared_ptr<Segment>>& segments);
  // The same for our own segment: no network.
  void refresh_self(Segment& segment);
  // Whether a transport is installed here that leads to other engines.
  bool reach_peers() const;
  // Makes the paths of every segment anew, as after a change of the installed transports.
  void rebuild_all();
  // One call on the segment's control channel, connected if need be; once more where the connection
  // is lost before the answer. kStale when another run than `instance` (0: any) answers there. The
  // callback comes once, on any thread, possibly from inside.
  void call(std::shared_ptr<Segment> segment, wire::ControlType type, Bytes body, uint64_t instance,
            Answered answered);
  // One that leads to this run of an engine, be it closed already, or not open yet; or null.
  std::shared_ptr<Segment> behind(uint64_t instance) const;
  // Looks up the name, connects afresh and makes `rounds` calls, one after the other. Waits.
  struct Probe {
    int64_t connect_ns = 0;  // with the look-up
    std::vector<int64_t> rounds_ns = {};
    Bytes last_answer = {};
  };
  Result<Probe> probe(std::string_view name, wire::ControlType type, const Bytes& body,
                      size_t rounds);

 private:
  static constexpr uint32_t kSlotBits = 15;
  static constexpr size_t kInstallThreads = 8;
  struct Slot {
    std::shared_ptr<Segment> segment;
    uint32_t generation = 0;
    uint32_t opens = 0;
    std::shared_ptr<const Target> target;  // the segment's, where submissions find it at once
  };

  // On the loop. `again`: once more where the connection is lost.
  void describe(const std::shared_ptr<Segment>& segment, bool again, const Refreshed& refreshed);
  void described(const std::shared_ptr<Segment>& segment,
                 const std::shared_ptr<ControlClient>& client, bool same, bool again,
                 Result<Bytes> bytes, const Refreshed& refreshed);
  void call_once(const std::shared_ptr<Segment>& segment, wire::ControlType type, const Bytes& body,
                 uint64_t instance, bool again, const Answered& answered);
  Status take(Segment& segment, uint64_t instance, const Bytes& bytes);
  // For the peer that answered last.
  void install(Segment& segment, Descriptor descriptor) TE_REQUIRES(segment.installing_);
  SegmentId id_of(size_t slot) const TE_REQUIRES_SHARED(mutex_);
  static size_t slot_number(SegmentId id) {
    return static_cast<uint32_t>(id) & ((1u << kSlotBits) - 1);
  }
  const Slot* slot_of(SegmentId id) const TE_REQUIRES_SHARED(mutex_);

  const uint64_t instance_;
  const std::shared_ptr<Directory> directory_;
  Memory& memory_;
  Transports& transports_;
  EventLoop& loop_;
  ControlClient::Registry clients_;  // the loop's
  Finder finder_;
  const ContactSite site_;
  // Where descriptions are decoded, and transports make paths, which may block.
  TaskPool installs_{kInstallThreads};
  std::atomic<bool> stopping_{false};
  std::string local_name_;
  mutable SharedMutex mutex_{LockRank::kSegments};
  std::vector<Slot> slots_ TE_GUARDED_BY(mutex_);  // slot 0: our own
  // All that anybody holds, but our own.
  std::vector<std::weak_ptr<Segment>> alive_ TE_GUARDED_BY(mutex_);
  uint32_t first_generation_;
};

}  // namespace te
