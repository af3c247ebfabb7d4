// What one submission works with while it is planned. Of the thread that submits.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/mostly_one.h"
#include "core/batch.h"
#include "engine/staging.h"
#include "engine/transfers.h"

namespace te {

// What one path gets, in order.
struct Transfers::Posted {
  SliceList slices;
  uint64_t bytes = 0;
};

struct Transfers::Plan {
  Submission* submission = nullptr;
  TaskBlock* block = nullptr;
  // The segment and buffer of the request before: most often the next one's too. The submission
  // keeps them.
  SegmentId segment_id = kLocalSegment;
  Segment* segment = nullptr;
  const Target* target = nullptr;
  const Buffer* buffer = nullptr;
  MostlyOne<Posted> posted;    // few paths that take turns have one each
  std::vector<Task*> empty;    // of length zero: over as soon as the rest is posted
  std::vector<Task*> unknown;  // the target has to be asked about them first
  SliceList unknown_slices;    // the same of a list
  AnyList list;                // what is submitted, instead of requests
  std::vector<std::unique_ptr<Slice[]>>* extra_slices = nullptr;
  bool is_list() const { return list.index() != 0; }
  std::vector<StagedRequest> staged;
  uint8_t attempts = 0;            // of a task that is planned again
  Submission::Use bound;           // of submit_to(), else empty
  std::byte* discarded = nullptr;  // where the byte of a warm-up read goes, instead of its source
};

}  // namespace te
