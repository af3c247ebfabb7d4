// The Python classes Segment, BlockList and PreparedList: what is transferred to where.
//
// Threads: with the GIL.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>
#include <vector>

#include "engine_object.h"
#include "transfer_engine/engine.h"

namespace te::py {

// Blocks in regions, copied from what the program gave.
class BlockListObject {
 public:
  BlockListObject(nb::handle regions, nb::handle source_blocks, nb::handle target_blocks);
  BlockList list(Opcode opcode, SegmentId target) const {
    return {opcode, target, regions_, source_blocks_, target_blocks_};
  }
  size_t blocks() const { return regions_.size() * source_blocks_.size(); }

 private:
  std::vector<BlockRegion> regions_;
  std::vector<uint64_t> source_blocks_;
  std::vector<uint64_t> target_blocks_;
};

class SegmentObject;

class PreparedListObject {
 public:
  PreparedListObject(PreparedList list, Opcode opcode, nb::object segment)
      : list_(std::move(list)), opcode_(opcode), segment_(std::move(segment)) {}
  const PreparedList& list() const { return list_; }
  Opcode opcode() const { return opcode_; }
  bool is_for(const SegmentObject& segment) const;
  PyObject* segment() const { return segment_.ptr(); }
  void clear() { segment_ = nb::object(); }

 private:
  PreparedList list_;
  Opcode opcode_;
  nb::object segment_;
};

// How a submission differs from the usual.
struct SubmitArguments {
  nb::handle timeout;
  nb::handle notification;
  nb::handle addressing;
  nb::handle after;

  SubmitOptions options() const;
};

class SegmentObject {
 public:
  // The caller's own segment.
  explicit SegmentObject(nb::object engine);
  SegmentObject(nb::object engine, std::string name, bool refresh);
  ~SegmentObject() { (void)close_now(); }
  SegmentObject(const SegmentObject&) = delete;
  SegmentObject& operator=(const SegmentObject&) = delete;

  const std::string& name() const { return name_; }
  SegmentId id() const { return id_; }
  PyObject* engine() const { return engine_.ptr(); }
  EngineObject& engine_object() const { return *nb::inst_ptr<EngineObject>(engine_); }
  ErrorContext context() const { return {.peer = name_}; }

  // Gives a Transfer. `self`: this object.
  static nb::object submit(nb::handle self, Opcode opcode, nb::handle source,
                           nb::handle target_offset, nb::handle length, const SubmitArguments& how);
  static nb::object prepare(nb::handle self, Opcode opcode, nb::handle source,
                            nb::handle target_offset, nb::handle length);
  void notify(const Notification& notification);
  SegmentInfo describe();
  void close() {
    closed_ = true;
    check(close_now(), context());
  }
  void clear() { engine_ = nb::object(); }

 private:
  Status close_now();
  void check_not_closed() const {
    if (!closed_) return;
    raise(Status(Code::kNotFound, "the segment was closed: open it again"), context());
  }

  nb::object engine_;
  std::string name_;
  SegmentId id_ = kLocalSegment;
  bool open_ = false;    // counted by the engine
  bool closed_ = false;  // by close()
};

// A Notification, or a tuple of name and message.
Notification to_notification(nb::handle object);

}  // namespace te::py
