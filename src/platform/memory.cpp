#include "platform/memory.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <string>

#include "base/fd.h"
#include "base/log.h"

namespace te {

uint32_t memory_node_count() {
  uint32_t highest = 0;
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator("/sys/devices/system/node", ignored)) {
    const std::string name = entry.path().filename();
    uint32_t number = 0;
    if (name.starts_with("node") &&
        std::from_chars(name.data() + 4, name.data() + name.size(), number).ec == std::errc()) {
      highest = number > highest ? number : highest;
    }
  }
  return highest + 1;
}

std::vector<NodeRange> memory_nodes_of(uint64_t address, uint64_t length) {
  if (length == 0 || address + length < address) return {};
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  const uint64_t first = address / page;
  const uint64_t count = (address + length - 1) / page - first + 1;
  const uint64_t stride = (count + kPageSamples - 1) / kPageSamples;
  std::vector<void*> pages;
  for (uint64_t i = 0; i < count; i += stride) {
    pages.push_back(reinterpret_cast<void*>((first + i) * page));
  }
  // Without target nodes nothing is moved: the kernel says where each page is.
  std::vector<int> nodes(pages.size(), -1);
  if (::syscall(SYS_move_pages, 0, pages.size(), pages.data(), nullptr, nodes.data(), 0) != 0) {
    return {};
  }
  std::vector<NodeRange> ranges;
  for (size_t i = 0; i < pages.size(); ++i) {
    if (nodes[i] < 0) continue;  // an error code: no such page yet
    const auto node = static_cast<uint32_t>(nodes[i]);
    if (!ranges.empty() && ranges.back().node == node) continue;
    if (ranges.size() == kMaxNodeRanges) return {};
    const uint64_t begin = ranges.empty() ? address : reinterpret_cast<uint64_t>(pages[i]);
    ranges.push_back({begin, node});
  }
  return ranges;
}

void place_on_node(void* addr, size_t length, uint32_t node) {
  constexpr size_t kWord = 64, kWords = 16;
  if (node >= kWord * kWords) return;
  std::array<uint64_t, kWords> mask{};
  mask[node / kWord] = uint64_t{1} << (node % kWord);
  if (::syscall(SYS_mbind, addr, length, MPOL_PREFERRED, mask.data(), kWord * kWords + 1, 0) != 0) {
    log_info("memory is not placed at cpu:{}: {}", node, errno_text(errno));
  }
}

}  // namespace te
