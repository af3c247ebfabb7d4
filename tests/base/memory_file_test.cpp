#include "base/memory_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace te {
namespace {

TEST(MemoryFile, IsZeroedAndSharedByEveryMapping) {
  Result<MemoryFile> file = MemoryFile::create("test", 10'000);
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_GE(file->size(), 10'000u);
  EXPECT_EQ(file->data()[9'999], std::byte{0});
  Result<Mapping> mapping = Mapping::map(file->fd(), 10'000, true);
  ASSERT_TRUE(mapping.ok());
  mapping->data()[9'999] = std::byte{1};
  EXPECT_EQ(file->data()[9'999], std::byte{1});
  Mapping moved = std::move(*mapping);
  EXPECT_EQ(mapping->data(), nullptr);
  EXPECT_EQ(moved.size(), 10'000u);
  moved.reset();
  EXPECT_EQ(moved.data(), nullptr);
}

TEST(MemoryFile, KeepsItsSize) {
  Result<MemoryFile> file = MemoryFile::create("test", 4096);
  ASSERT_TRUE(file.ok());
  EXPECT_NE(::ftruncate(file->fd(), 0), 0);
  EXPECT_NE(::ftruncate(file->fd(), 1 << 20), 0);
  EXPECT_TRUE(is_fixed_memory_file(file->fd(), file->size()));
  EXPECT_FALSE(is_fixed_memory_file(file->fd(), file->size() + 1));
}

// The pages of a range that this process can touch without a page fault.
size_t mapped_pages(const std::byte* data, size_t count, size_t page) {
  const Fd file(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  std::vector<uint64_t> entries(count);
  const auto at = static_cast<off_t>(reinterpret_cast<uintptr_t>(data) / page * sizeof(uint64_t));
  const auto length = static_cast<ssize_t>(count * sizeof(uint64_t));
  EXPECT_EQ(::pread(file.get(), entries.data(), count * sizeof(uint64_t), at), length);
  return static_cast<size_t>(
      std::count_if(entries.begin(), entries.end(), [](uint64_t entry) { return entry >> 63; }));
}

TEST(Mapping, PopulatesWhatTheFileHasAndMakesNoPages) {
  constexpr size_t kPages = 64;
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  Result<MemoryFile> file = MemoryFile::create("test", kPages * page);
  ASSERT_TRUE(file.ok());
  for (const size_t used : {0, 1, 3, 40, 63}) file->data()[used * page] = std::byte{1};
  const Result<Mapping> mapping = Mapping::map(file->fd(), kPages * page, true);
  ASSERT_TRUE(mapping.ok());
  EXPECT_EQ(mapped_pages(mapping->data(), kPages, page), 0u);
  constexpr int kPopulateWrite = 23;
  if (::madvise(mapping->data(), page, kPopulateWrite) != 0) {
    GTEST_SKIP() << "the kernel has no MADV_POPULATE_WRITE; that takes Linux 5.14";
  }
  mapping->populate(0, 32 * page);
  EXPECT_EQ(mapped_pages(mapping->data(), kPages, page), 3u);
  mapping->populate(32 * page, 32 * page);
  EXPECT_EQ(mapped_pages(mapping->data(), kPages, page), 5u);
  struct stat facts {};
  ASSERT_EQ(::fstat(file->fd(), &facts), 0);
  EXPECT_EQ(static_cast<size_t>(facts.st_blocks) * 512, 5 * page);
}

TEST(MemoryFile, CanBeClosedForWriters) {
  Result<MemoryFile> file = MemoryFile::create("test", 4096);
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file->close_for_writers().ok());
  EXPECT_FALSE(Mapping::map(file->fd(), 4096, true).ok());
  const Result<Mapping> reader = Mapping::map(file->fd(), 4096, false);
  ASSERT_TRUE(reader.ok());
  file->data()[5] = std::byte{9};
  EXPECT_EQ(reader->data()[5], std::byte{9});
}

TEST(MemoryFile, IsMemoryWithoutOneToo) {
  Result<MemoryFile> file = MemoryFile::without_file(10'000);
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_EQ(file->fd(), -1);
  EXPECT_GE(file->size(), 10'000u);
  EXPECT_EQ(file->data()[9'999], std::byte{0});
  file->data()[9'999] = std::byte{1};
  file->discard();
  EXPECT_EQ(MemoryFile::without_file(size_t{1} << 62).code(), Code::kResource);
}

TEST(MemoryFile, TooMuchIsAnError) {
  EXPECT_EQ(MemoryFile::create("test", SIZE_MAX).code(), Code::kInvalidArgument);
  EXPECT_EQ(MemoryFile::create("test", size_t{1} << 62).code(), Code::kResource);
}

}  // namespace
}  // namespace te
