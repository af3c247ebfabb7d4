#include "transport/rails/rail_transport.h"

#include <string>
#include <utility>

#include "base/log.h"

namespace te::rails {

std::vector<std::shared_ptr<Rail>> RailTransport::all_rails() const {
  std::vector<std::shared_ptr<Rail>> all;
  MutexLock lock(mutex_);
  for (const std::weak_ptr<Rail>& weak : rails_) {
    if (std::shared_ptr<Rail> rail = weak.lock()) all.push_back(std::move(rail));
  }
  return all;
}

void RailTransport::warn_of(const Peer& peer, const Status& why) const {
  static LogLimit limit;
  log_limited(limit, LogLevel::kWarning,
              "{}: the peer at {} is not reached this way: {}; do both run the same release?",
              name(), peer.to_string(), why.message());
}

std::shared_ptr<const Advertisement> RailTransport::decode_offer(const Peer& peer,
                                                                 ByteView info) const {
  Result<Advertisement> decoded = Advertisement::decode(info);
  if (decoded.ok() && decoded->key_size() == peer.key_size) {
    return std::make_shared<const Advertisement>(decoded.take());
  }
  warn_of(peer, decoded.ok() ? error(Code::kProtocol, "its keys have {} bytes instead of {}",
                                     peer.key_size, decoded->key_size())
                             : decoded.status());
  return nullptr;
}

void RailTransport::end_earlier_runs(const Peer& peer) {
  const std::string address = peer.to_string();
  for (const std::shared_ptr<Rail>& rail : all_rails()) {
    const bool outdated = rail->to.instance != peer.instance && rail->remote_address == address;
    if (outdated) rail->engine.reset(*rail);
  }
}

std::shared_ptr<Path> RailTransport::make_path(std::shared_ptr<Rail> rail,
                                               std::function<void()> at_end) {
  {
    MutexLock lock(mutex_);
    std::erase_if(rails_, [](const std::weak_ptr<Rail>& weak) { return weak.expired(); });
    rails_.push_back(rail);
  }
  Rail* plain = rail.get();
  return {plain, [rail = std::move(rail), at_end = std::move(at_end)](Path*) {
            rail->engine.retire(*rail);
            if (at_end) at_end();
          }};
}

void RailTransport::join(const std::vector<std::shared_ptr<Path>>& rails,
                         const std::vector<bool>& preferred, const PeerRailsOptions& options) {
  if (rails.size() < 2) return;
  const auto together = std::make_shared<PeerRails>(options);
  for (size_t i = 0; i < rails.size(); ++i) {
    Rail& rail = of(*rails[i]);
    rail.join(together, i);
    NicSpeed speed = rail.engine.speed();
    speed.bytes_per_s =
        slower(speed.bytes_per_s, rail.advertisement->nics[rail.remote].bytes_per_s);
    together->add(rail.shared_from_this(), speed, preferred[i]);
  }
}

void RailTransport::warm_up(Path& path) {
  for (PathState from : {PathState::kIdle, PathState::kFailed}) {
    if (path.state.compare_exchange_strong(from, PathState::kConnecting)) break;
  }
  if (path.state.load() == PathState::kReady) return;
  of(path).engine.connect(of(path));
}

// Of several rails to a peer the plan names any.
void RailTransport::submit(SliceList slices) {
  Rail& rail = of(*slices.first->path);
  if (!rail.rails()) {
    rail.engine.progress().submit(slices);
  } else if (const Code code = rail.rails()->submit(slices); code != Code::kOk) {
    while (!slices.empty()) host_.done(slices.pop(), code);
  }
}

void RailTransport::close_rails() {
  for (const std::shared_ptr<Rail>& rail : all_rails()) {
    if (!rail->rails()) continue;
    SliceList slices = rail->rails()->close();
    while (!slices.empty()) host_.done(slices.pop(), Code::kCancelled);
  }
}

bool RailTransport::knows(const Rail& rail, const void* address) const {
  const NicSet nics = memories_->nics_of(address).all;
  return rail.rails() != nullptr ? nics != 0 : (nics >> rail.local & 1) != 0;
}

bool Rail::moves(MemoryKind local_kind, const void* at, MemoryKind remote_kind,
                 const std::byte* key) const {
  if (!Path::moves(local_kind, at, remote_kind, key)) return false;
  return local_kind == MemoryKind::kHost ||
         static_cast<const RailTransport&>(transport).knows(*this, at);
}

}  // namespace te::rails
