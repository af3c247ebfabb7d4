// An engine here and one in the peer process, joined over one transport, with the source filled:
// what most experiments measure on. Threads: the main thread; movers on it may run in others.
#pragma once

#include <memory>
#include <string>

#include "experiment.h"

namespace te::bench {

const char* verb(Opcode opcode);
// "4 KiB", "1 MiB".
std::string block_text(uint64_t bytes);
inline double ms_count(Clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}
inline double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }
double percentile_us(const tool::Histogram& ns, double percent);

// What it moves until then, in 10^9 bytes per second.
Result<double> gb_per_s(Mover& mover, Clock::time_point end);

class Link {
 public:
  // `opcode` says on which side the source is. Several links may be open at once on different parts
  // of the main buffers, with engines of their own.
  Status open(Bench& bench, const std::string& transport, Opcode opcode, size_t part = 0,
              size_t parts = 1);
  // The same, of which the peer's engine allocated its side's memory ("allocated" in verify()).
  Status open_allocated(Bench& bench, const std::string& transport, Opcode opcode);
  // The engine here and all of the peer's are gone afterwards.
  void close(Bench& bench);

  Engine& engine() { return *engine_; }
  SegmentId segment() const { return segment_; }
  uint64_t seed() const { return seed_; }

  // A mover over stripe `index` of `count` of the link's part of the main buffers.
  std::unique_ptr<Mover> mover(Bench& bench, const Load& load, size_t index = 0, size_t count = 1);
  // Compares the first bytes of such a stripe where they arrived: in the peer's or this process's
  // main buffer, or limit buffer; or in what the peer's engine allocated.
  Status verify(Bench& bench, const char* buffer, size_t index, size_t count, uint64_t moved,
                uint64_t* verified) const;

 private:
  Status connect(Bench& bench, const std::string& transport, const std::string& filled,
                 const std::string& serve);
  std::span<std::byte> part_of(std::span<std::byte> bytes) const;

  Opcode opcode_ = Opcode::kWrite;
  size_t part_ = 0;
  size_t parts_ = 1;
  uint64_t seed_ = 0;
  std::unique_ptr<Engine> engine_;
  SegmentId segment_ = kLocalSegment;
};

// Of one mover over the whole of one link.
class LinkExperiment : public Experiment {
 public:
  // Of what the mover moved. More was verified where more derives from this.
  Result<uint64_t> verify(Bench& bench) override;
  void finish(Bench& bench) override;

 protected:
  explicit LinkExperiment(const Load& load) : load_(load) {}
  Status open(Bench& bench, const std::string& transport);

  const Load load_;
  Link link_;
  std::unique_ptr<Mover> mover_;
};

}  // namespace te::bench
