// What the page tables allow, of single ranges and of many.
#include "platform/page_access.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "base/log.h"

namespace te {
namespace {

const size_t kPage = static_cast<size_t>(::sysconf(_SC_PAGESIZE));

class Pages {
 public:
  explicit Pages(size_t count) : size_(count * kPage) {
    void* memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    begin_ = static_cast<char*>(memory);
  }
  ~Pages() { ::munmap(begin_, size_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  void protect(size_t first, size_t count, int protection) {
    ASSERT_EQ(::mprotect(at(first), count * kPage, protection), 0);
  }
  void unmap(size_t first, size_t count) { ASSERT_EQ(::munmap(at(first), count * kPage), 0); }
  char* at(size_t page) const { return begin_ + page * kPage; }

 private:
  const size_t size_;
  char* begin_ = nullptr;
};

Result<Rights> rights(void* at, size_t length) {
  const BufferEntry entry{at, length};
  const Result<std::vector<Rights>> found = local_rights({&entry, 1});
  if (!found.ok()) return found.status();
  return found->front();
}

void expect_refused(void* at, size_t length, std::string_view says) {
  const Result<Rights> found = rights(at, length);
  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.code(), Code::kInvalidArgument);
  EXPECT_NE(found.status().message().find(says), std::string::npos) << found.status().message();
  EXPECT_NE(found.status().message().find(fmt::format("{} bytes at {}", length, at)),
            std::string::npos)
      << found.status().message();
}

TEST(PageAccess, OfOneRange) {
  Pages pages(8);
  EXPECT_EQ(*rights(pages.at(0), 8 * kPage), Rights::kBoth);
  EXPECT_EQ(*rights(pages.at(0) + 5, 1), Rights::kBoth);
  pages.protect(2, 2, PROT_READ);
  EXPECT_EQ(*rights(pages.at(0), 2 * kPage), Rights::kBoth);
  EXPECT_EQ(*rights(pages.at(2), kPage), Rights::kRead);
  EXPECT_EQ(*rights(pages.at(3) + 100, 1), Rights::kRead);
  EXPECT_EQ(*rights(pages.at(0), 8 * kPage), Rights::kRead) << "the least of all pages";
  EXPECT_EQ(*rights(pages.at(2) - 1, 2), Rights::kRead);
  pages.protect(4, 1, PROT_WRITE);
  EXPECT_EQ(*rights(pages.at(4), kPage), Rights::kWrite);
  expect_refused(pages.at(3), 2 * kPage, "some pages can only be read, others only be written");
  pages.protect(5, 1, PROT_NONE);
  expect_refused(pages.at(5), 1, "PROT_NONE");
  expect_refused(pages.at(0), 8 * kPage - 1, "PROT_NONE");
  pages.unmap(6, 1);
  expect_refused(pages.at(6), kPage, "nothing is mapped at");
  expect_refused(pages.at(6) + 9, 1, "nothing is mapped at");
  EXPECT_EQ(*rights(pages.at(7), kPage), Rights::kBoth);
}

TEST(PageAccess, BeyondAllMappings) {
  expect_refused(reinterpret_cast<void*>(0xffff800000000000), 100, "nothing is mapped");
  expect_refused(reinterpret_cast<void*>(16), 100, "nothing is mapped");
}

TEST(PageAccess, OfManyRangesInAnyOrder) {
  constexpr size_t kCount = 2'000;
  Pages pages(kCount);
  for (size_t i = 0; i < kCount; i += 3) pages.protect(i, 1, PROT_READ);
  std::vector<size_t> order(kCount);
  for (size_t i = 0; i < kCount; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), std::mt19937(3));
  std::vector<BufferEntry> entries;
  for (const size_t page : order) entries.push_back({pages.at(page), kPage});
  const Result<std::vector<Rights>> found = local_rights(entries);
  ASSERT_TRUE(found.ok()) << found.status().to_string();
  for (size_t i = 0; i < kCount; ++i) {
    ASSERT_EQ((*found)[i], order[i] % 3 == 0 ? Rights::kRead : Rights::kBoth) << order[i];
  }
}

TEST(PageAccess, WithoutADescriptorUnmappedMemoryIsFoundAllTheSame) {
  Pages pages(3);
  pages.unmap(1, 1);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none{0, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const Result<Rights> there = rights(pages.at(0) + 7, 10);
  const Result<Rights> gone = rights(pages.at(0), 2 * kPage);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_TRUE(there.ok());
  EXPECT_EQ(gone.code(), Code::kInvalidArgument);
  EXPECT_EQ(*rights(pages.at(2), kPage), Rights::kBoth);
}

}  // namespace
}  // namespace te
