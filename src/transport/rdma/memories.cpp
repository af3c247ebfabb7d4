#include "transport/rdma/memories.h"

#include <algorithm>
#include <latch>

#include "base/log.h"

namespace te::rdma {
namespace {

constexpr uint64_t kPage = 4096;

}  // namespace

Memories::Memories(std::vector<Card*> cards, Nearness nearness, uint32_t pieces,
                   uint64_t most_bytes)
    : cards_(std::move(cards)),
      nearness_(std::move(nearness)),
      pieces_(pieces),
      most_bytes_(most_bytes),
      pool_(cards_.size()) {}

template <typename Work>
void Memories::for_each(CardSet cards, Work&& work) {
  std::vector<size_t> chosen;
  for (size_t i = 0; i < cards_.size(); ++i) {
    if ((cards >> i & 1) != 0) chosen.push_back(i);
  }
  if (chosen.empty()) return;
  std::latch left(static_cast<ptrdiff_t>(chosen.size()) - 1);
  for (size_t i = 1; i < chosen.size(); ++i) {
    const auto one = [&work, &left, card = chosen[i]] {
      work(card);
      left.count_down();
    };
    if (!pool_.run(one)) one();
  }
  work(chosen.front());
  left.wait();
}

uint64_t Memories::most_at_once(CardSet cards) const {
  uint64_t most = most_bytes_ == 0 ? UINT64_MAX : most_bytes_;
  for (size_t i = 0; i < cards_.size(); ++i) {
    if ((cards >> i & 1) != 0) most = std::min(most, cards_[i]->max_range());
  }
  return std::max(most / kPage * kPage, kPage);
}

Result<Memories::Memory> Memories::add_in_pieces(const Buffer& buffer, CardSet cards,
                                                 uint64_t piece_bytes) {
  Memory memory;
  memory.buffer = &buffer;
  memory.length = buffer.length;
  memory.piece_bytes = piece_bytes;
  memory.ranges.resize(cards_.size());
  std::vector<Status> problems(cards_.size());
  for_each(cards, [&](size_t card) {
    for (uint64_t at = 0; at < buffer.length && problems[card].ok(); at += piece_bytes) {
      Result<Range> range =
          cards_[card]->add_range(buffer.address + at, std::min(piece_bytes, buffer.length - at),
                                  buffer.local, buffer.remote);
      if (range.ok()) {
        memory.ranges[card].push_back(range.take());
      } else {
        problems[card] = range.status();
      }
    }
  });
  for (const Status& problem : problems) TE_RETURN_IF_ERROR(problem);
  return memory;
}

Result<Bytes> Memories::add(const Buffer& buffer) {
  std::map<uint64_t, Nearness::Cards> places = nearness_.of(buffer);
  CardSet cards = 0;
  for (const auto& [begin, found] : places) cards |= found.all;
  for (size_t i = 0; i < cards_.size(); ++i) {
    if (cards_[i]->gone()) cards &= ~(CardSet{1} << i);
  }
  const uint64_t most = most_at_once(cards);
  const uint64_t count = (buffer.length - 1) / most + 1;
  if (count > pieces_) {
    return error(Code::kResource,
                 "{} bytes are more than {} registrations of {} bytes, the most that the cards "
                 "take at once: register smaller buffers",
                 buffer.length, pieces_, most);
  }
  const uint64_t even = ((buffer.length + count - 1) / count + kPage - 1) / kPage * kPage;
  Result<Memory> added = add_in_pieces(buffer, cards, std::min(even, most));
  if (!added.ok()) return added.status();
  auto memory = std::make_shared<Memory>(added.take());
  memory->places = std::move(places);
  Bytes key = key_of(buffer, *memory);
  WriterLock lock(mutex_);
  std::shared_ptr<Memory>& place = memories_[buffer.address];
  if (place != nullptr) replaced_.push_back(place);
  place = std::move(memory);
  version_.fetch_add(1);
  return key;
}

Bytes Memories::key_of(const Buffer& buffer, const Memory& memory) const {
  Key key;
  key.base = buffer.address;
  key.piece_bytes = memory.piece_bytes;
  if (memory.places.size() == 1) key.near = memory.places.begin()->second.near;
  for (size_t card = 0; card < memory.ranges.size(); ++card) {
    const std::vector<Range>& ranges = memory.ranges[card];
    if (!ranges.empty()) key.cards |= CardSet{1} << card;
    for (uint32_t piece = 0; piece < pieces_; ++piece) {
      key.keys.push_back(piece < ranges.size() ? ranges[piece]->rkey : 0);
    }
  }
  return key.cards == 0 || buffer.remote == Rights::kNone ? Bytes() : key.encode();
}

void Memories::remove(const Buffer& buffer) {
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
  // The cards do not touch it from here on.
  for_each(UINT64_MAX, [&](size_t card) { memory->ranges[card].clear(); });
}

void Memories::clear() {
  std::map<uint64_t, std::shared_ptr<Memory>> all;
  std::vector<std::shared_ptr<Memory>> replaced;
  {
    WriterLock lock(mutex_);
    all.swap(memories_);
    replaced.swap(replaced_);
    version_.fetch_add(1);
  }
  for_each(UINT64_MAX, [&](size_t card) {
    for (const std::shared_ptr<Memory>& memory : replaced) memory->ranges[card].clear();
    for (auto& [address, memory] : all) memory->ranges[card].clear();
  });
  pool_.stop();
}

std::pair<uint64_t, const Memories::Memory*> Memories::holding(uint64_t address) const {
  const auto after = memories_.upper_bound(address);
  if (after == memories_.begin()) return {};
  const auto& [base, memory] = *std::prev(after);
  if (address - base >= memory->length) return {};
  return {base, memory.get()};
}

bool Memories::find(size_t card, const void* address, uint64_t* length, uint32_t* key,
                    Found* last) const {
  const auto at = reinterpret_cast<uint64_t>(address);
  const bool same = last->version == version_.load() && at - last->begin < last->length;
  if (!same && !search(card, at, last)) return false;
  *length = std::min(*length, last->length - (at - last->begin));
  *key = last->key;
  return true;
}

bool Memories::search(size_t card, uint64_t at, Found* found) const {
  ReaderLock lock(mutex_);
  const auto [base, memory] = holding(at);
  if (memory == nullptr || memory->ranges[card].empty()) return false;
  const uint64_t piece = (at - base) / memory->piece_bytes;
  const uint64_t offset = piece * memory->piece_bytes;
  *found = {version_.load(), base + offset, std::min(memory->piece_bytes, memory->length - offset),
            memory->ranges[card][piece]->lkey};
  return true;
}

Nearness::Cards Memories::cards_of(const void* address) const {
  const auto at = reinterpret_cast<uint64_t>(address);
  ReaderLock lock(mutex_);
  const Memory* memory = holding(at).second;
  if (memory == nullptr) return {};
  auto place = memory->places.upper_bound(at);
  if (place != memory->places.begin()) --place;
  Nearness::Cards cards = place->second;
  cards.all = 0;
  for (size_t i = 0; i < memory->ranges.size(); ++i) {
    if (!memory->ranges[i].empty()) cards.all |= CardSet{1} << i;
  }
  return cards;
}

}  // namespace te::rdma
