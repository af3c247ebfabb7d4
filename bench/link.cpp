#include "link.h"

#include <fmt/core.h>

#include <cstring>

#include "pattern.h"
#include "size_text.h"

namespace te::bench {

const char* verb(Opcode opcode) { return opcode == Opcode::kRead ? "read" : "write"; }

std::string block_text(uint64_t bytes) {
  std::string text = tool::size_text(bytes);
  if (text.back() < 'A') return text + " B";
  const char unit = text.back();
  text.pop_back();
  return fmt::format("{} {}iB", text, unit);
}

double percentile_us(const tool::Histogram& ns, double percent) {
  return static_cast<double>(ns.percentile(percent)) / 1e3;
}

Result<double> gb_per_s(Mover& mover, Clock::time_point end) {
  const uint64_t before = mover.moved_bytes();
  const Clock::time_point begin = Clock::now();
  TE_RETURN_IF_ERROR(mover.run(end));
  const double wall_s = seconds(Clock::now() - begin);
  return static_cast<double>(mover.moved_bytes() - before) / wall_s / 1e9;
}

std::span<std::byte> Link::part_of(std::span<std::byte> bytes) const {
  return stripe(bytes, part_, parts_);
}

Status Link::open(Bench& bench, const std::string& transport, Opcode opcode, size_t part,
                  size_t parts) {
  opcode_ = opcode;
  part_ = part;
  parts_ = parts;
  return connect(bench, transport, "main", fmt::format("serve {} {} {}", transport, parts, part));
}

Status Link::open_allocated(Bench& bench, const std::string& transport, Opcode opcode) {
  opcode_ = opcode;
  return connect(bench, transport, "allocated", fmt::format("allocate {} 1", transport));
}

// `filled`: the peer's buffer that READs come from; `serve`: what makes its engine.
Status Link::connect(Bench& bench, const std::string& transport, const std::string& filled,
                     const std::string& serve) {
  seed_ = bench.next_seed();
  Result<std::unique_ptr<Engine>> engine = make_engine(transport);
  if (!engine.ok()) return engine.status();
  engine_ = engine.take();
  const Result<Words> names = bench.peer.ask(serve);
  if (!names.ok()) return names.status();
  const std::span<std::byte> memory = part_of(bench.buffers.main_bytes());
  const auto offset = static_cast<uint64_t>(memory.data() - bench.buffers.main.data());
  if (opcode_ == Opcode::kWrite) {
    tool::fill_pattern(seed_, offset, memory);
  } else {
    TE_RETURN_IF_ERROR(
        bench.peer.ask(fmt::format("fill {} {} {} {}", filled, seed_, offset, memory.size()))
            .status());
  }
  TE_RETURN_IF_ERROR(engine_->register_memory(memory.data(), memory.size()));
  const Result<SegmentId> segment = engine_->open_segment(names->front());
  if (!segment.ok()) return segment.status();
  segment_ = *segment;
  return engine_->warmup_segment(names->front());
}

void Link::close(Bench& bench) {
  engine_.reset();
  (void)bench.peer.ask("end_engines");
}

std::unique_ptr<Mover> Link::mover(Bench& bench, const Load& load, size_t index, size_t count) {
  const std::span<std::byte> memory = part_of(bench.buffers.main_bytes());
  const std::span<std::byte> local = stripe(memory, index, count);
  const auto offset = static_cast<uint64_t>(local.data() - memory.data());
  return std::make_unique<Mover>(*engine_, segment_, load, local, offset);
}

Status Link::verify(Bench& bench, const char* buffer, size_t index, size_t count, uint64_t moved,
                    uint64_t* verified) const {
  const bool in_main = std::strcmp(buffer, "main") == 0;
  const std::span<std::byte> all =
      in_main ? bench.buffers.main_bytes() : bench.buffers.limit_bytes();
  const std::span<std::byte> bytes = stripe(part_of(all), index, count);
  const auto offset = static_cast<uint64_t>(bytes.data() - all.data());
  const uint64_t length = covered(moved, bytes.size());
  Status status;
  if (opcode_ == Opcode::kRead) {
    status = expect_pattern(seed_, offset, bytes.first(length));
  } else {
    status =
        bench.peer.ask(fmt::format("verify {} {} {} {}", buffer, seed_, offset, length)).status();
  }
  if (status.ok()) *verified += length;
  return status.with_context(fmt::format("what arrived in the {} buffer", buffer));
}

Status LinkExperiment::open(Bench& bench, const std::string& transport) {
  TE_RETURN_IF_ERROR(link_.open(bench, transport, load_.opcode));
  mover_ = link_.mover(bench, load_);
  return {};
}

Result<uint64_t> LinkExperiment::verify(Bench& bench) {
  uint64_t verified = 0;
  TE_RETURN_IF_ERROR(link_.verify(bench, "main", 0, 1, mover_->moved_bytes(), &verified));
  return verified;
}

void LinkExperiment::finish(Bench& bench) {
  mover_.reset();
  link_.close(bench);
}

}  // namespace te::bench
