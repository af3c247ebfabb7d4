#include "transport/fabric/memories.h"

#include <algorithm>

#include "base/guarded_copy.h"
#include "base/log.h"

namespace te::fabric {
namespace {

constexpr uint64_t kPage = 4096;

}  // namespace

Result<Memories::Memory> Memories::add_in_pieces(const Buffer& buffer, uint64_t piece_bytes) {
  Memory memory;
  memory.buffer = &buffer;
  memory.length = buffer.length;
  memory.piece_bytes = piece_bytes;
  const CardSet cards = nearness_.to_register(buffer.location);
  for (size_t card = 0; card < domains_.size(); ++card) {
    Domain* domain = domains_[card];
    std::vector<Owned<fid_mr>>& ranges = memory.ranges.emplace_back();
    if ((cards >> card & 1) == 0) continue;
    for (uint64_t at = 0; at < buffer.length; at += piece_bytes) {
      Result<Owned<fid_mr>> range = domain->add_range(reinterpret_cast<void*>(buffer.address + at),
                                                      std::min(piece_bytes, buffer.length - at),
                                                      buffer.local, buffer.remote, buffer.location);
      if (range.ok()) {
        ranges.push_back(range.take());
      } else if (range.code() == Code::kUnsupported) {
        ranges.clear();
        break;
      } else {
        Status status = range.status();
        close(std::move(memory));
        return status;
      }
    }
  }
  return memory;
}

Result<Bytes> Memories::add(const Buffer& buffer) {
  uint64_t count = 1;
  if (most_bytes_ != 0) count = (buffer.length + most_bytes_ - 1) / most_bytes_;
  Status last = error(Code::kResource, "{} bytes take more than {} registrations of {} bytes",
                      buffer.length, pieces_, most_bytes_);
  for (; count <= pieces_; count *= 2) {
    const uint64_t piece = ((buffer.length + count - 1) / count + kPage - 1) / kPage * kPage;
    Result<Memory> added =
        add_in_pieces(buffer, most_bytes_ == 0 ? piece : std::min(piece, most_bytes_));
    if (!added.ok()) {
      last = added.status();
      continue;
    }
    Memory memory = added.take();
    Bytes key = key_of(buffer, memory);
    WriterLock lock(mutex_);
    Memory& place = memories_[buffer.address];
    if (place.buffer != nullptr) replaced_.push_back(std::move(place));
    place = std::move(memory);
    return key;
  }
  return last;
}

Bytes Memories::key_of(const Buffer& buffer, const Memory& memory) const {
  Key key;
  key.base = buffer.address;
  key.piece_bytes = memory.piece_bytes;
  for (size_t card = 0; card < memory.ranges.size(); ++card) {
    const std::vector<Owned<fid_mr>>& ranges = memory.ranges[card];
    const bool open = buffer.remote != Rights::kNone;
    if (!ranges.empty() && open) key.cards |= uint64_t{1} << card;
    for (uint32_t piece = 0; piece < pieces_; ++piece) {
      const bool there = piece < ranges.size() && open;
      key.keys.push_back(there ? ::fi_mr_key(ranges[piece].get()) : 0);
    }
  }
  return key.cards == 0 ? Bytes() : key.encode();
}

void Memories::close(Memory memory) {
  for (size_t card = 0; card < memory.ranges.size(); ++card) {
    const Domain::Turn turn(*domains_[card]);
    memory.ranges[card].clear();
  }
}

void Memories::remove(const Buffer& buffer) {
  Memory memory;
  {
    WriterLock lock(mutex_);
    const auto found = memories_.find(buffer.address);
    if (found != memories_.end() && found->second.buffer == &buffer) {
      memory = std::move(found->second);
      memories_.erase(found);
    } else {
      const auto replaced =
          std::find_if(replaced_.begin(), replaced_.end(),
                       [&](const Memory& each) { return each.buffer == &buffer; });
      if (replaced == replaced_.end()) return;
      memory = std::move(*replaced);
      replaced_.erase(replaced);
    }
  }
  close(std::move(memory));
}

void Memories::clear() {
  std::map<uint64_t, Memory> all;
  std::vector<Memory> replaced;
  {
    WriterLock lock(mutex_);
    all.swap(memories_);
    replaced.swap(replaced_);
  }
  for (Memory& memory : replaced) close(std::move(memory));
  for (auto& [address, memory] : all) close(std::move(memory));
}

uint64_t Memories::cards(const void* address) const {
  const auto at = reinterpret_cast<uint64_t>(address);
  ReaderLock lock(mutex_);
  auto found = memories_.upper_bound(at);
  if (found == memories_.begin()) return 0;
  const auto& [base, memory] = *--found;
  if (at - base >= memory.length) return 0;
  uint64_t result = 0;
  for (size_t card = 0; card < memory.ranges.size(); ++card) {
    if (!memory.ranges[card].empty()) result |= uint64_t{1} << card;
  }
  return result;
}

bool Memories::find(size_t card, const void* address, uint64_t* length, void** descriptor) const {
  const auto at = reinterpret_cast<uint64_t>(address);
  ReaderLock lock(mutex_);
  auto found = memories_.upper_bound(at);
  if (found == memories_.begin()) return false;
  const auto& [base, memory] = *--found;
  if (at - base >= memory.length || memory.ranges[card].empty()) return false;
  const uint64_t offset = at - base;
  *length = std::min(*length, memory.piece_bytes - offset % memory.piece_bytes);
  *descriptor = ::fi_mr_desc(memory.ranges[card][offset / memory.piece_bytes].get());
  return true;
}

bool Memories::may_touch(size_t card, const Hello::Range& range) const {
  ReaderLock lock(mutex_);
  auto found = memories_.upper_bound(range.address);
  if (found == memories_.begin()) return true;
  const auto& [base, memory] = *--found;
  const uint64_t offset = range.address - base;
  if (offset >= memory.length || range.length > memory.length - offset) return true;
  if (card >= memory.ranges.size() || memory.ranges[card].empty()) return true;
  const Owned<fid_mr>& piece = memory.ranges[card][offset / memory.piece_bytes];
  if (::fi_mr_key(piece.get()) != range.key) return true;
  auto* begin = reinterpret_cast<std::byte*>(range.address);
  if (!range.write) return is_readable(begin, range.length);
  return contains(memory.buffer->remote, Rights::kWrite) && is_writable(begin, range.length);
}

}  // namespace te::fabric
