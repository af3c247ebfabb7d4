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
