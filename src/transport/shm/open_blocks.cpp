#include "transport/shm/open_blocks.h"

#include <iterator>

#include "base/log.h"

namespace te::shm {

std::optional<OpenBlocks::Found> OpenBlocks::find(const void* copier, uint64_t address) const {
  auto found = blocks_.upper_bound({copier, address});
  if (found == blocks_.begin()) return std::nullopt;
  --found;
  const Block& block = found->second;
  const bool holds = found->first.first == copier && address - block.begin < block.length;
  if (!holds || !is_current(block.key)) return std::nullopt;
  std::shared_ptr<const void> use = block.opened->use();
  if (use == nullptr) return std::nullopt;
  return Found{block, std::move(use)};
}

Status OpenBlocks::add(const void* copier, Block block, Dropped& dropped) {
  const auto [place, fresh] = blocks_.try_emplace({copier, block.begin});
  if (fresh && blocks_.size() > kMost) {
    blocks_.erase(place);
    dropped.push_back(std::move(block.opened));
    return error(Code::kResource, "{} allocations and chunks of it are open already", kMost);
  }
  dropped.push_back(std::exchange(place->second, std::move(block)).opened);
  return {};
}

void OpenBlocks::refuse(Local local, uint64_t begin, uint64_t length, const RangeKey& key,
                        Status why) {
  if (refused_.size() >= kMost) {
    std::erase_if(refused_, [this](const auto& each) { return !is_current(each.second.key); });
  }
  const auto known = refused_.find(begin);
  const bool covers = known != refused_.end() && known->second.local == Local::kDevice &&
                      is_current(known->second.key);
  if (covers && local == Local::kHost) return;
  if (refused_.size() < kMost) refused_[begin] = {local, length, key, std::move(why)};
}

Status OpenBlocks::refusal(Local local, uint64_t begin, uint64_t length) const {
  auto found = refused_.upper_bound(begin);
  if (found != refused_.begin()) --found;
  for (; found != refused_.end() && found->first < begin + length; ++found) {
    const Refused& refused = found->second;
    const bool counts = local == Local::kHost || refused.local == Local::kDevice;
    if (!counts || found->first + refused.length <= begin) continue;
    if (is_current(refused.key)) return refused.why;
  }
  return {};
}

OpenBlocks::Dropped OpenBlocks::drop_outdated() {
  Dropped dropped;
  std::erase_if(blocks_, [&](auto& each) {
    if (is_current(each.second.key)) return false;
    dropped.push_back(std::move(each.second.opened));
    return true;
  });
  return dropped;
}

OpenBlocks::Dropped OpenBlocks::drop_all() {
  Dropped dropped;
  for (auto& [place, block] : blocks_) dropped.push_back(std::move(block.opened));
  blocks_.clear();
  return dropped;
}

}  // namespace te::shm
