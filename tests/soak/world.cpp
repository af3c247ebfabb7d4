#include "soak/world.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>

namespace te::soak {
namespace {

constexpr size_t kPage = 4096;

// Slots begin at odd places of pages of their own.
constexpr size_t slot_bytes(size_t slot) { return (kSlotLengths[slot] / kPage + 2) * kPage; }
constexpr size_t misalignment(size_t slot) { return (slot * 1'021) % kPage; }

constexpr size_t writer_bytes() {
  size_t sum = 0;
  for (size_t slot = 0; slot < kSlots; ++slot) sum += slot_bytes(slot);
  return sum;
}

void* map_file(const std::string& path, size_t bytes, bool write, bool* existed) {
  const int fd =
      ::open(path.c_str(), write ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0600);
  if (fd < 0) return nullptr;
  if (existed != nullptr) *existed = ::lseek(fd, 0, SEEK_END) > 0;
  void* mapped = MAP_FAILED;
  if (!write || ::ftruncate(fd, static_cast<off_t>(bytes)) == 0) {
    mapped = ::mmap(nullptr, bytes, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  }
  ::close(fd);
  return mapped == MAP_FAILED ? nullptr : mapped;
}

}  // namespace

size_t Shape::buffer_bytes() const { return writers() * writer_bytes(); }

uint64_t Place::id() const {
  return (((target * kBuffers + buffer) << 16 | writer) << 8 | slot) + 1;
}

size_t Place::offset() const {
  size_t at = writer * writer_bytes();
  for (size_t i = 0; i < slot; ++i) at += slot_bytes(i);
  return at + misalignment(slot);
}

std::optional<World> World::open(const std::string& folder, const Shape& shape) {
  World world;
  world.targets_ = static_cast<const TargetNow*>(
      map_file(folder + "/world", shape.targets * sizeof(TargetNow), false, nullptr));
  if (world.targets_ == nullptr) return std::nullopt;
  for (size_t target = 0; target < shape.targets; ++target) {
    for (const size_t buffer : {kKept, kFragile}) {
      const std::string path = memory_file(folder, target, buffer);
      world.files_.push_back(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
      if (world.files_.back() < 0) return std::nullopt;
    }
  }
  return world;
}

bool World::peek(const Place& place, std::span<std::byte> into, uint64_t* epoch) const {
  const TargetNow& now = targets_[place.target];
  const uint64_t before = now.epochs[place.buffer];
  ssize_t got = 0;
  if (place.buffer == kAllocated) {
    const uint64_t pid = now.pid, run = now.run;
    if (pid == 0) return false;
    const iovec local = {into.data(), into.size()};
    const iovec remote = {reinterpret_cast<void*>(now.addresses[kAllocated] + place.offset()),
                          into.size()};
    got = ::process_vm_readv(static_cast<pid_t>(pid), &local, 1, &remote, 1, 0);
    if (now.run != run || now.pid != pid) return false;
  } else {
    got = ::pread(files_[place.target * 2 + place.buffer], into.data(), into.size(),
                  static_cast<off_t>(place.offset()));
  }
  *epoch = before == now.epochs[place.buffer] ? before : 1;  // changed meanwhile: as while it does
  return got == static_cast<ssize_t>(into.size());
}

bool World::poke(const Place& place, std::span<const std::byte> from) const {
  if (place.buffer == kAllocated) return false;
  return ::pwrite(files_[place.target * 2 + place.buffer], from.data(), from.size(),
                  static_cast<off_t>(place.offset())) == static_cast<ssize_t>(from.size());
}

size_t ledger_index(const Place& place, const Shape& shape) {
  const size_t thread = place.writer % (shape.threads + 1);
  return ((place.target * kBuffers + place.buffer) * (shape.threads + 1) + thread) * kSlots +
         place.slot;
}

RangeState* map_ledger(const std::string& folder, size_t initiator, const Shape& shape,
                       bool* existed) {
  const size_t ranges = shape.targets * kBuffers * (shape.threads + 1) * kSlots;
  return static_cast<RangeState*>(map_file(fmt::format("{}/ledger-{}", folder, initiator),
                                           ranges * sizeof(RangeState), true, existed));
}

std::string memory_file(const std::string& folder, size_t target, size_t buffer) {
  return fmt::format("{}/memory-{}-{}", folder, target, buffer);
}

}  // namespace te::soak
