// Registered memory of the devices of fake_verbs.cpp: host memory, dmabufs, and memory of devices
// that peermem finds.
//
// Threads: any; one lock for everything.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include "support/fake_verbs_world.h"

namespace te::test::fake_verbs {
namespace {

constexpr auto kPatience = std::chrono::seconds(5);
constexpr uint64_t kPage = 4096;

// By page of the range; empty where there is none, or memory that no device has.
std::vector<DevicePage> device_pages(uint64_t begin, uint64_t length) {
  std::vector<DevicePage> pages;
  for (uint64_t at = begin; at < begin + length; at = (at / kPage + 1) * kPage) {
    if (world().peermem != nullptr) pages.push_back(world().peermem(at));
    if (pages.empty() || pages.back().view == nullptr) return {};
  }
  return pages;
}

// Behind those that it has.
void add_piece(Range& range, Piece piece) {
  if (!range.pieces.empty()) {
    Piece& last = range.pieces.back();
    if (last.view + last.length == piece.view) {
      last.length += piece.length;
      return;
    }
  }
  range.pieces.push_back(piece);
}

Range* add_range(ibv_pd* domain, void* address, size_t length, int access) {
  auto* range = new Range;
  range->context = domain->context;
  range->pd = domain;
  range->addr = address;
  range->length = length;
  range->access = access;
  range->lkey = range->rkey = world().next++;
  world().ranges[range->lkey] = range;
  ++device_of(domain->context).registered;
  return range;
}

// Of memory that has been freed since, the driver tells peermem, and so the NIC lets it go.
bool is_revoked(const Range& range) {
  if (range.allocations.empty()) return false;
  const std::vector<DevicePage> now =
      device_pages(reinterpret_cast<uint64_t>(range.addr), range.length);
  return !std::equal(
      now.begin(), now.end(), range.allocations.begin(), range.allocations.end(),
      [](const DevicePage& page, uint64_t allocation) { return page.allocation == allocation; });
}

// What the kernel can pin for a NIC.
bool is_memory(const void* address) {
  char byte = 0;
  const iovec to{&byte, 1}, from{const_cast<void*>(address), 1};
  return ::process_vm_readv(::getpid(), &to, 1, &from, 1, 0) == 1;
}

}  // namespace

const Range* range_at(uint32_t key, uint64_t address, uint64_t length, int access) {
  const auto found = world().ranges.find(key);
  if (found == world().ranges.end()) return nullptr;
  const Range& range = *found->second;
  const auto begin = reinterpret_cast<uint64_t>(range.addr);
  const bool inside = address >= begin && address + length <= begin + range.length;
  const bool allowed = inside && (range.access & access) == access;
  return allowed && !is_revoked(range) ? &range : nullptr;
}

std::vector<iovec> places(const Range& range, uint64_t address, size_t length) {
  if (range.pieces.empty()) return {{reinterpret_cast<void*>(address), length}};
  std::vector<iovec> found;
  size_t skip = address - reinterpret_cast<uint64_t>(range.addr);
  for (const Piece& piece : range.pieces) {
    if (skip >= piece.length) {
      skip -= piece.length;
      continue;
    }
    const size_t here = std::min(length, piece.length - skip);
    if (here > 0) found.push_back({piece.view + skip, here});
    length -= here;
    skip = 0;
  }
  return found;
}

void refuse_registrations(int device, int error_number) {
  std::lock_guard lock(world().mutex);
  world().devices[device].refusal = error_number;
}

void refuse_dmabufs(int device, int error_number) {
  std::lock_guard lock(world().mutex);
  world().devices[device].dmabuf_refusal = error_number;
}

void load_peermem(DevicePage (*page_at)(uint64_t address)) {
  std::lock_guard lock(world().mutex);
  world().peermem = page_at;
}

int peermem_registrations(int device) {
  std::lock_guard lock(world().mutex);
  const auto& ranges = world().ranges;
  return static_cast<int>(std::count_if(ranges.begin(), ranges.end(), [device](const auto& each) {
    return number_of(each.second->context) == device && !each.second->allocations.empty();
  }));
}

void gather_registrations(int count) {
  std::lock_guard lock(world().mutex);
  world().gathered = count;
}

int most_registrations_at_once() {
  std::lock_guard lock(world().mutex);
  return world().most_registering;
}

int registrations(int device, const void* address) {
  std::lock_guard lock(world().mutex);
  return world().devices[device].registrations[address];
}

int registered(int device) {
  std::lock_guard lock(world().mutex);
  return world().devices[device].registered;
}

}  // namespace te::test::fake_verbs

using namespace te::test::fake_verbs;  // NOLINT(google-build-using-namespace)

extern "C" {

ibv_mr* ibv_reg_mr(ibv_pd* domain, void* address, size_t length, int access) {
  World& all = world();
  std::unique_lock lock(all.mutex);
  Device& device = device_of(domain->context);
  ++device.registrations[address];
  all.most_registering = std::max(all.most_registering, ++all.registering);
  all.registering_changed.notify_all();
  all.registering_changed.wait_for(lock, kPatience,
                                   [&all] { return all.most_registering >= all.gathered; });
  --all.registering;
  const std::vector<DevicePage> pages = device_pages(reinterpret_cast<uint64_t>(address), length);
  if (device.refusal != 0 || (pages.empty() && !is_memory(address))) {
    errno = device.refusal != 0 ? device.refusal : EFAULT;
    return nullptr;
  }
  Range* const range = add_range(domain, address, length, access);
  auto at = reinterpret_cast<uint64_t>(address);
  const uint64_t end = at + length;
  for (const DevicePage& page : pages) {
    const size_t here = std::min(kPage - at % kPage, end - at);
    add_piece(*range, {page.view, here});
    range->allocations.push_back(page.allocation);
    at += here;
  }
  return range;
}
ibv_mr* ibv_reg_dmabuf_mr(ibv_pd* domain, uint64_t offset, size_t length, uint64_t iova, int fd,
                          int access) {
  World& all = world();
  std::lock_guard lock(all.mutex);
  Device& device = device_of(domain->context);
  auto* const address = reinterpret_cast<void*>(iova);
  ++device.registrations[address];
  std::vector<Piece> pieces;
  size_t total = 0;
  Piece piece;
  for (off_t at = 0; ::pread(fd, &piece, sizeof piece, at) == sizeof piece; at += sizeof piece) {
    total += piece.length;
    const size_t skip = std::min<size_t>(offset, piece.length);
    offset -= skip;
    if (skip < piece.length) pieces.push_back({piece.view + skip, piece.length - skip});
  }
  const bool fits = offset == 0 && length <= total;
  if (device.dmabuf_refusal != 0 || !fits) {
    errno = device.dmabuf_refusal != 0 ? device.dmabuf_refusal : EINVAL;
    return nullptr;
  }
  Range* const range = add_range(domain, address, length, access);
  range->pieces = std::move(pieces);
  return range;
}
int ibv_dereg_mr(ibv_mr* plain) {
  std::lock_guard lock(world().mutex);
  auto* range = static_cast<Range*>(plain);
  --device_of(range->context).registered;
  world().ranges.erase(range->lkey);
  delete range;
  return 0;
}

}  // extern "C"
