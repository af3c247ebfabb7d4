// Where pages lie. What takes two memory nodes is tested where there are two.
#include "platform/memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

namespace te {
namespace {

class Pages {
 public:
  explicit Pages(size_t count) : size_(count * kPage) {
    void* memory =
        ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    (void)::madvise(memory, size_, MADV_NOHUGEPAGE);
    begin_ = static_cast<char*>(memory);
  }
  ~Pages() { ::munmap(begin_, size_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  void touch(size_t page) { begin_[page * kPage] = 1; }
  uint64_t address() const { return reinterpret_cast<uint64_t>(begin_); }
  size_t size() const { return size_; }

  static inline const size_t kPage = static_cast<size_t>(::sysconf(_SC_PAGESIZE));

 private:
  size_t size_;
  char* begin_ = nullptr;
};

TEST(MemoryNodes, PagesThatDoNotExistAreNowhere) {
  const Pages pages(16);
  EXPECT_TRUE(memory_nodes_of(pages.address(), pages.size()).empty());
}

TEST(MemoryNodes, APageThatExistsSpeaksForItsNeighbours) {
  Pages pages(16);
  pages.touch(7);
  const std::vector<NodeRange> ranges = memory_nodes_of(pages.address() + 1, pages.size() - 1);
  ASSERT_EQ(ranges.size(), 1u);
  EXPECT_EQ(ranges[0].address, pages.address() + 1);
  EXPECT_LT(ranges[0].node, memory_node_count());
}

TEST(MemoryNodes, OfALargeRangeOnlySamplesAreLookedAt) {
  // More pages than are looked at: every other one, beginning with the first.
  Pages pages(2 * kPageSamples);
  for (size_t page = 1; page < 2 * kPageSamples; page += 2) pages.touch(page);
  EXPECT_TRUE(memory_nodes_of(pages.address(), pages.size()).empty());
  pages.touch(kPageSamples);
  EXPECT_EQ(memory_nodes_of(pages.address(), pages.size()).size(), 1u);
}

TEST(MemoryNodes, NoRangeAtAll) {
  EXPECT_TRUE(memory_nodes_of(4096, 0).empty());
  EXPECT_TRUE(memory_nodes_of(UINT64_MAX - 4095, 8192).empty());
}

}  // namespace
}  // namespace te
