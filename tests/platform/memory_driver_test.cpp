#include "platform/memory_driver.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <vector>

#include "support/fake_memory.h"

namespace te {
namespace {

using test::FakeMemory;
using test::FakeMemoryDriver;

TEST(MemoryDrivers, HostMemoryIsWhatNoOtherKindClaims) {
  ASSERT_EQ(memory_drivers().size(), 2u);
  EXPECT_EQ(memory_drivers()[0]->kind(), MemoryKind::kCuda);
  EXPECT_EQ(memory_drivers()[1]->kind(), MemoryKind::kHost);
  FakeMemoryDriver fake;
  const FakeMemory memory(fake, 8192);
  std::array<std::byte, 64> host{};
  const std::vector<const MemoryDriver*> drivers = memory_drivers();
  ASSERT_EQ(drivers.size(), 3u);
  const BufferEntry ranges[] = {{host.data(), host.size()}, {memory.data() + 4096, 4096}};
  const Result<std::vector<ClassifiedRange>> found = classify(drivers, ranges);
  ASSERT_TRUE(found.ok()) << found.status().to_string();
  EXPECT_EQ((*found)[0].driver->kind(), MemoryKind::kHost);
  EXPECT_EQ((*found)[1].driver, &fake);
  EXPECT_EQ((*found)[1].rights, Rights::kBoth);
}

TEST(MemoryDrivers, MemoryOfNoKindIsAnError) {
  FakeMemoryDriver fake;
  const FakeMemory memory(fake, 4096);
  void* const closed = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(closed, MAP_FAILED);
  const BufferEntry ranges[] = {{memory.data(), 4096}, {closed, 4096}};
  EXPECT_EQ(classify(memory_drivers(), ranges).code(), Code::kInvalidArgument);
  ::munmap(closed, 4096);
}

}  // namespace
}  // namespace te
