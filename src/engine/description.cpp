// What peers are told of the local segment.
#include <map>

#include "base/log.h"
#include "engine/memory.h"

namespace te {
namespace {

constexpr size_t kStep = 256;  // buffers for which the registry's lock is held at a time
constexpr int kAttempts = 3;

}  // namespace

// Adds buffers to a descriptor.
class Memory::Describer {
 public:
  explicit Describer(Descriptor& descriptor)
      : descriptor_(descriptor), keys_(descriptor.transports.size()) {}

  void add(const Buffer& buffer) {
    const auto [location, fresh] =
        locations_.try_emplace(buffer.location, static_cast<uint32_t>(locations_.size()));
    if (fresh) descriptor_.locations.push_back(buffer.location);
    for (size_t i = 0; i < keys_.size(); ++i) {
      const auto key = buffer.keys.find(descriptor_.transports[i].name);
      keys_[i] = key == buffer.keys.end() ? std::string_view() : std::string_view(key->second);
    }
    descriptor_.add({buffer.address, buffer.offset, buffer.length, location->second, buffer.remote,
                     buffer.kind},
                    keys_);
  }

  Descriptor& descriptor() { return descriptor_; }
  uint64_t from = 0;  // where the next buffer is looked for

 private:
  Descriptor& descriptor_;
  std::map<std::string, uint32_t> locations_;
  std::vector<std::string_view> keys_;
};

bool Memory::describe_next(Describer& describer, size_t count) {
  Buffer* buffer = registry_.next_after(describer.from);
  for (size_t i = 0; i < count && buffer != nullptr; ++i) {
    describer.from = buffer->address + buffer->length;
    if (buffer->ready()) describer.add(*buffer);
    buffer = registry_.next_after(describer.from);
  }
  if (buffer != nullptr) return true;
  // After the last buffer: what is ambiguous because of any of them is in it.
  describer.descriptor().ambiguous = ambiguity_.ranges();
  return false;
}

// Looks at few buffers at a time, so that nobody waits for long. False when they changed meanwhile:
// then what was seen may be of two times. `in_one_go`: no call begins to change any, since also the
// first step of closing takes the lock, and others wait.
bool Memory::describe(Descriptor& result, bool in_one_go) {
  result.instance = instance_;
  result.generation = generation();
  for (const std::shared_ptr<Transport>& transport : transports_.installed()) {
    result.transports.push_back(
        {std::string(transport->name()), transport->capabilities().key_size, transport->info()});
  }
  Describer describer(result);
  for (bool more = true; more;) {
    if (in_one_go) {
      const WriterLock lock(mutex_);
      more = describe_next(describer, SIZE_MAX);
    } else {
      const ReaderLock lock(mutex_);
      more = describe_next(describer, kStep);
    }
  }
  return in_one_go || result.generation == generation();
}

std::shared_ptr<const Descriptor> Memory::descriptor() {
  MutexLock cache(cache_mutex_);
  if (descriptor_ && descriptor_->generation == generation()) return descriptor_;
  std::shared_ptr<Descriptor> result;
  for (int attempt = 1;; ++attempt) {
    result = std::make_shared<Descriptor>();
    if (describe(*result, attempt > kAttempts)) break;
  }
  if (Status status = result->finish(); !status.ok()) log_error("{}", status.to_string());
  descriptor_ = result;
  encoded_ = nullptr;
  return descriptor_;
}

std::shared_ptr<const Bytes> Memory::encoded_descriptor() {
  const std::shared_ptr<const Descriptor> current = descriptor();
  MutexLock cache(cache_mutex_);
  if (!encoded_ || descriptor_ != current) {
    auto bytes = std::make_shared<const Bytes>(current->encode());
    if (descriptor_ != current) return bytes;
    encoded_ = bytes;
  }
  return encoded_;
}

}  // namespace te
