#include "transport/rails/memory_regions.h"

#include <algorithm>
#include <latch>

#include "base/guarded_copy.h"
#include "base/log.h"

namespace te::rails {
namespace {

constexpr uint64_t kPage = 4096;

}  // namespace

MemoryRegions::MemoryRegions(std::vector<Nic*> nics, NicAffinity nearness, uint32_t pieces,
                             uint64_t most_bytes)
    : nics_(std::move(nics)),
      nearness_(std::move(nearness)),
      pieces_(pieces),
      most_bytes_(most_bytes),
      pool_(nics_.size()) {}

template <typename Work>
void MemoryRegions::for_each(NicSet nics, Work&& work) {
  std::vector<size_t> chosen;
  for (size_t i = 0; i < nics_.size(); ++i) {
    if ((nics >> i & 1) != 0) chosen.push_back(i);
  }
  if (chosen.empty()) return;
  std::latch left(static_cast<ptrdiff_t>(chosen.size()) - 1);
  for (size_t i = 1; i < chosen.size(); ++i) {
    const auto one = [&work, &left, nic = chosen[i]] {
      work(nic);
      left.count_down();
    };
    if (!pool_.run(one)) one();
  }
  work(chosen.front());
  left.wait();
}

uint64_t MemoryRegions::most_at_once(NicSet nics, bool* known) const {
  uint64_t most = most_bytes_ == 0 ? UINT64_MAX : most_bytes_;
  *known = true;
  for (size_t i = 0; i < nics_.size(); ++i) {
    if ((nics >> i & 1) == 0) continue;
    if (const uint64_t of_this = nics_[i]->max_region(); of_this != 0) {
      most = std::min(most, of_this);
    } else {
      *known = false;
    }
  }
  return std::max(most / kPage * kPage, kPage);
}

Status MemoryRegions::register_with(size_t nic, Memory& memory, const ExportedRange* exported) {
  Regions& regions = memory.regions[nic];
  for (uint64_t at = 0; at < memory.length; at += memory.piece_bytes) {
    const uint64_t begin = memory.begin + at;
    const uint64_t length = std::min(memory.piece_bytes, memory.length - at);
    Result<std::unique_ptr<MemoryRegion>> region =
        exported == nullptr
            ? nics_[nic]->register_range(*memory.buffer, begin, length)
            : nics_[nic]->register_exported(*memory.buffer, begin, length, *exported);
    if (!region.ok()) {
      regions.clear();
      if (exported != nullptr && region.code() == Code::kUnsupported) {
        warn_once(fmt::format("{} does not reach memory of {}: {}", nics_[nic]->device(),
                              memory.buffer->location, region.status().message()));
      }
      return region.code() == Code::kUnsupported ? Status() : region.status();
    }
    regions.push_back(region.take());
  }
  return {};
}

Result<MemoryRegions::Memory> MemoryRegions::add_in_pieces(const Buffer& buffer, NicSet nics,
                                                           uint64_t piece_bytes,
                                                           const ExportedRange* exported) {
  Memory memory;
  memory.buffer = &buffer;
  memory.begin = buffer.address;
  memory.length = buffer.length;
  memory.piece_bytes = piece_bytes;
  memory.regions.resize(nics_.size());
  std::vector<Status> problems(nics_.size());
  for_each(nics, [&](size_t nic) { problems[nic] = register_with(nic, memory, exported); });
  for (const Status& problem : problems) TE_RETURN_IF_ERROR(problem);
  return memory;
}

Result<Bytes> MemoryRegions::add(const Buffer& buffer) {
  ExportedRange exported;  // for all NICs, until the last one has it
  if (buffer.device != nullptr) {
    Result<ExportedRange> range = buffer.device->export_range(
        reinterpret_cast<const std::byte*>(buffer.address), buffer.length);
    if (!range.ok()) {
      warn_once(fmt::format("NICs do not reach memory of {}, which is staged in host memory: {}",
                            buffer.location, range.status().message()));
      return Bytes();
    }
    exported = range.take();
  }
  std::map<uint64_t, NicAffinity::Nics> places = nearness_.of(buffer);
  NicSet nics = 0;
  for (const auto& [begin, found] : places) nics |= found.all;
  for (size_t i = 0; i < nics_.size(); ++i) {
    if (!nics_[i]->present()) nics &= ~(NicSet{1} << i);
  }
  bool known = false;
  const uint64_t most = most_at_once(nics, &known);
  uint64_t count = (buffer.length - 1) / most + 1;
  if (count > pieces_) {
    return error(Code::kResource,
                 "{} bytes are more than {} memory regions of {} bytes, the most that the NICs "
                 "take at once: register smaller buffers",
                 buffer.length, pieces_, most);
  }
  for (;; count *= 2) {
    const uint64_t even = ((buffer.length + count - 1) / count + kPage - 1) / kPage * kPage;
    Result<Memory> added = add_in_pieces(buffer, nics, std::min(even, most),
                                         buffer.device == nullptr ? nullptr : &exported);
    if (added.ok()) return keep(added.take(), std::move(places));
    // Where a NIC does not say what it takes, smaller pieces are tried.
    if (known || count * 2 > pieces_) return added.status();
  }
}

Bytes MemoryRegions::keep(Memory added, std::map<uint64_t, NicAffinity::Nics> places) {
  auto memory = std::make_shared<Memory>(std::move(added));
  memory->places = std::move(places);
  Bytes key = key_of(*memory);
  WriterLock lock(mutex_);
  std::shared_ptr<Memory>& place = memories_[memory->begin];
  if (place != nullptr) replaced_.push_back(place);
  place = std::move(memory);
  version_.fetch_add(1);
  return key;
}

Bytes MemoryRegions::key_of(const Memory& memory) const {
  Key key;
  key.base = memory.begin;
  key.piece_bytes = memory.piece_bytes;
  if (memory.places.size() == 1) key.near = memory.places.begin()->second.near;
  for (size_t nic = 0; nic < memory.regions.size(); ++nic) {
    const Regions& regions = memory.regions[nic];
    if (!regions.empty()) key.nics |= NicSet{1} << nic;
    for (uint32_t piece = 0; piece < pieces_; ++piece) {
      key.keys.push_back(piece < regions.size() ? regions[piece]->remote_key : 0);
    }
  }
  return key.nics == 0 || memory.buffer->remote == Rights::kNone ? Bytes() : key.encode();
}

void MemoryRegions::remove(const Buffer& buffer) {
  std::shared_ptr<Memory> memory;
  {
    WriterLock lock(mutex_);
    const auto found = memories_.find(buffer.address);
    if (found != memories_.end() && found->second->buffer == &buffer) {
      memory = std::move(found->second);
      memories_.erase(found);
    } else {
      const auto replaced = std::find_if(
          replaced_.begin(), replaced_.end(),
          [&](const std::shared_ptr<Memory>& each) { return each->buffer == &buffer; });
      if (replaced == replaced_.end()) return;
      memory = std::move(*replaced);
      replaced_.erase(replaced);
    }
    version_.fetch_add(1);
  }
  // The NICs do not touch it from here on.
  for_each(UINT64_MAX, [&](size_t nic) { memory->regions[nic].clear(); });
}

void MemoryRegions::clear() {
  std::map<uint64_t, std::shared_ptr<Memory>> all;
  std::vector<std::shared_ptr<Memory>> replaced;
  {
    WriterLock lock(mutex_);
    all.swap(memories_);
    replaced.swap(replaced_);
    version_.fetch_add(1);
  }
  for_each(UINT64_MAX, [&](size_t nic) {
    for (const std::shared_ptr<Memory>& memory : replaced) memory->regions[nic].clear();
    for (auto& [address, memory] : all) memory->regions[nic].clear();
  });
  pool_.stop();
}

const MemoryRegions::Memory* MemoryRegions::holding(uint64_t address) const {
  const auto after = memories_.upper_bound(address);
  if (after == memories_.begin()) return nullptr;
  const Memory* memory = std::prev(after)->second.get();
  return address - memory->begin < memory->length ? memory : nullptr;
}

bool MemoryRegions::find(size_t nic, const void* address, uint64_t* length, uint64_t* local_key,
                         Found* last) const {
  const auto at = reinterpret_cast<uint64_t>(address);
  const bool same = last->version == version_.load() && at - last->begin < last->length;
  if (!same && !search(nic, at, last)) return false;
  *length = std::min(*length, last->length - (at - last->begin));
  *local_key = last->local_key;
  return true;
}

bool MemoryRegions::search(size_t nic, uint64_t at, Found* found) const {
  ReaderLock lock(mutex_);
  const Memory* memory = holding(at);
  if (memory == nullptr || memory->regions[nic].empty()) return false;
  const uint64_t piece = (at - memory->begin) / memory->piece_bytes;
  const uint64_t offset = piece * memory->piece_bytes;
  *found = {version_.load(), memory->begin + offset,
            std::min(memory->piece_bytes, memory->length - offset),
            memory->regions[nic][piece]->local_key, memory->buffer->device != nullptr};
  return true;
}

NicAffinity::Nics MemoryRegions::nics_of(const void* address) const {
  const auto at = reinterpret_cast<uint64_t>(address);
  ReaderLock lock(mutex_);
  const Memory* memory = holding(at);
  if (memory == nullptr) return {};
  auto place = memory->places.upper_bound(at);
  if (place != memory->places.begin()) --place;
  NicAffinity::Nics result = place->second;
  result.all = 0;
  for (size_t i = 0; i < memory->regions.size(); ++i) {
    if (!memory->regions[i].empty()) result.all |= NicSet{1} << i;
  }
  return result;
}

bool MemoryRegions::may_touch(size_t nic, uint64_t remote_key, uint64_t address, uint64_t length,
                              bool write) const {
  ReaderLock lock(mutex_);
  const Memory* memory = holding(address);
  if (memory == nullptr || nic >= memory->regions.size() || memory->regions[nic].empty()) {
    return true;
  }
  const uint64_t offset = address - memory->begin;
  if (length > memory->length - offset) return true;
  if (memory->regions[nic][offset / memory->piece_bytes]->remote_key != remote_key) return true;
  if (memory->buffer->device != nullptr) return true;  // the processor cannot tell
  auto* begin = reinterpret_cast<std::byte*>(address);
  if (!write) return is_readable(begin, length);
  return contains(memory->buffer->remote, Rights::kWrite) && is_writable(begin, length);
}

}  // namespace te::rails
