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
  Describer(Descriptor& descriptor, Rights rights)
      : descriptor_(descriptor), rights_(rights), keys_(descriptor.transports.size()) {}

  void add(const Buffer& buffer) {
    const auto [location, fresh] =
        locations_.try_emplace(buffer.location, static_cast<uint32_t>(locations_.size()));
    if (fresh) descriptor_.locations.push_back(buffer.location);
    for (size_t i = 0; i < keys_.size(); ++i) {
      const auto key = buffer.keys.find(descriptor_.transports[i].name);
      keys_[i] = key == buffer.keys.end() ? std::string_view() : std::string_view(key->second);
    }
    descriptor_.add({buffer.address, buffer.offset, buffer.length, location->second,
                     buffer.remote & rights_, buffer.kind},
                    keys_);
  }

  Descriptor& descriptor() { return descriptor_; }
  uint64_t from = 0;  // where the next buffer is looked for

 private:
  Descriptor& descriptor_;
  const Rights rights_;  // of whom it is for
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
bool Memory::describe(Descriptor& result, Rights rights, bool in_one_go) {
  result.instance = instance_;
  result.generation = generation();
  for (const std::shared_ptr<Transport>& transport : transports_.installed()) {
    const Capabilities capabilities = transport->capabilities();
    if (rights != Rights::kBoth && !capabilities.checks_rights) continue;
    result.transports.push_back(
        {std::string(transport->name()), capabilities.key_size, transport->info()});
  }
  Describer describer(result, rights);
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

// The last one, as long as nothing changed.
std::shared_ptr<const Descriptor> Memory::describe_to(Rights rights) {
  Described& known = described_[static_cast<size_t>(rights)];
  if (known.descriptor && known.descriptor->generation == generation()) return known.descriptor;
  std::shared_ptr<Descriptor> result;
  for (int attempt = 1;; ++attempt) {
    result = std::make_shared<Descriptor>();
    if (describe(*result, rights, attempt > kAttempts)) break;
  }
  if (Status status = result->finish(); !status.ok()) log_error("{}", status.to_string());
  known = {result, nullptr};
  return result;
}

std::shared_ptr<const Descriptor> Memory::descriptor() {
  MutexLock cache(cache_mutex_);
  return describe_to(Rights::kBoth);
}

std::shared_ptr<const Bytes> Memory::encoded_descriptor(Rights rights) {
  MutexLock cache(cache_mutex_);
  const std::shared_ptr<const Descriptor> descriptor = describe_to(rights);
  std::shared_ptr<const Bytes>& encoded = described_[static_cast<size_t>(rights)].encoded;
  if (!encoded) encoded = std::make_shared<const Bytes>(descriptor->encode());
  return encoded;
}

}  // namespace te
