// Whether a connection sends large payloads without a copy (MSG_ZEROCOPY), found out by trying.
//
// Where the way to the peer leads through memory (loopback, veth) or through a NIC that cannot
// gather, the kernel copies all the same and says so: that settles it, unless it is a packet now
// and then. Elsewhere it may still cost more to look up pages, and to be notified when they are
// free again, than to copy. So periods with and without a copy take turns, and what needs less of
// the processor for a byte stays.
//
// Everything is reported to it: no socket and no clock of its own. One thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace te::tcp {

enum class ZeroCopyMode : uint8_t {
  kOff,
  kAuto,  // where the trial finds that it pays
  kOn,    // wherever the kernel takes it
};

class ZeroCopyTrial {
 public:
  enum class Verdict : uint8_t { kOpen, kKeep, kGiveUp };

  // Of a request, in the mean of its frame: smaller ones are copied sooner than looked up.
  static constexpr uint64_t kLeastBytes = 32 << 10;
  static constexpr uint64_t kPeriodBytes = 4 << 20;
  // A pair is a period without a copy and the one with it that follows. It is won when the copy
  // costs a tenth more.
  static constexpr int kPairs = 8;
  static constexpr int kWinsToKeep = 6;
  static constexpr double kGain = 1.1;
  // The kernel does not do without a copy when it made more than these, of so many sends.
  static constexpr uint64_t kReported = 16;
  static constexpr uint64_t kMostCopied = 8;
  // The kernel's limits (optmem_max, RLIMIT_MEMLOCK) are too tight after this many in a row.
  static constexpr int kMostRefused = 16;

  explicit ZeroCopyTrial(ZeroCopyMode mode) : forced_(mode == ZeroCopyMode::kOn) {
    if (mode != ZeroCopyMode::kAuto) verdict_ = forced_ ? Verdict::kKeep : Verdict::kGiveUp;
  }

  static bool is_large(uint64_t bytes, size_t requests) { return bytes >= kLeastBytes * requests; }

  Verdict verdict() const { return verdict_; }
  // How the next large frame goes.
  bool without_copy() const {
    return verdict_ == Verdict::kOpen ? !copying_ : verdict_ == Verdict::kKeep;
  }
  // It went so, and took this much of the processor.
  void sent(uint64_t bytes, int64_t cpu_ns);
  // Of so many sends without a copy the kernel reported what it did; counted from the first one.
  void reported(uint64_t sends, uint64_t copied);
  // It did not take a send without a copy, which went with one.
  void refused();

 private:
  void end_period();

  bool forced_;
  Verdict verdict_ = Verdict::kOpen;
  bool copying_ = false;  // the period under way
  uint64_t bytes_ = 0;
  int64_t cpu_ns_ = 0;
  double cost_without_copy_ = 0;  // ns for a byte, of the pair under way
  int pairs_ = 0;
  int wins_ = 0;
  int refused_ = 0;  // in a row
  uint64_t reported_ = 0;
  uint64_t copied_ = 0;
};

}  // namespace te::tcp
