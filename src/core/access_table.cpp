#include "core/access_table.h"

#include "base/log.h"
#include "base/random.h"

namespace te {
namespace {

// Its time does not tell how many bytes were right.
bool equal_secret(const std::array<uint8_t, 16>& a, const std::array<uint8_t, 16>& b) {
  uint8_t difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<uint8_t>(a[i] ^ b[i]);
  return difference == 0;
}

}  // namespace

AccessKey AccessKey::decode(const std::byte* from) {
  AccessKey key;
  key.index = load<uint32_t>(from);
  std::memcpy(key.secret.data(), from + 4, key.secret.size());
  return key;
}

void AccessKey::encode(std::byte* to) const {
  store(to, index);
  std::memcpy(to + 4, secret.data(), secret.size());
}

AccessTable::Entry* AccessTable::entry(uint32_t index) {
  if (index / kChunkSize >= kMaxChunks) return nullptr;
  Chunk* chunk = chunks_[index / kChunkSize].load(std::memory_order_acquire);
  return chunk == nullptr ? nullptr : &chunk->entries[index % kChunkSize];
}

Result<AccessKey> AccessTable::add(uint64_t address, uint64_t length, Rights rights) {
  MutexLock lock(mutex_);
  AccessKey key;
  key.secret = random_bytes16();
  if (!free_.empty()) {
    key.index = free_.back();
    free_.pop_back();
  } else if (used_ == kChunkSize * kMaxChunks) {
    return error(Code::kBusy, "{} ranges are registered already, the most there can be", used_);
  } else {
    if (used_ % kChunkSize == 0) {
      free_.reserve(used_ + kChunkSize);  // for all there are, so that remove() takes no memory
      owned_.reserve(owned_.size() + 1);
      owned_.push_back(std::make_unique<Chunk>());
      chunks_[used_ / kChunkSize].store(owned_.back().get(), std::memory_order_release);
    }
    key.index = used_++;
  }
  Entry& target = *entry(key.index);
  target.secret = key.secret;
  target.address = address;
  target.length = length;
  target.rights = rights;
  target.live.store(true);
  return key;
}

Code AccessTable::acquire(const AccessKey& key, uint64_t address, uint64_t length, Rights wanted) {
  Entry* target = entry(key.index);
  if (target == nullptr) return Code::kStale;
  // First the pin, then the look: remove() does it the other way round, so one of both sees the
  // other.
  target->users.fetch_add(1);
  Code code = Code::kOk;
  if (!target->live.load() || !equal_secret(target->secret, key.secret)) {
    code = Code::kStale;
  } else if (address < target->address || length > target->length ||
             address - target->address > target->length - length) {
    code = Code::kOutOfRange;
  } else if (!contains(target->rights, wanted)) {
    code = Code::kPermission;
  }
  if (code != Code::kOk) unpin(*target);
  return code;
}

void AccessTable::unpin(Entry& entry) {
  if (entry.users.fetch_sub(1) == 1 && entry.removing.load()) entry.users.notify_all();
}

void AccessTable::release(const AccessKey& key) { unpin(*entry(key.index)); }

void AccessTable::remove(const AccessKey& key) {
  Entry* target = entry(key.index);
  if (target == nullptr || !target->live.load() || !equal_secret(target->secret, key.secret))
    return;
  target->removing.store(true);
  target->live.store(false);
  for (uint32_t users = target->users.load(); users != 0; users = target->users.load()) {
    target->users.wait(users);
  }
  target->removing.store(false);
  MutexLock lock(mutex_);
  free_.push_back(key.index);
}

}  // namespace te
