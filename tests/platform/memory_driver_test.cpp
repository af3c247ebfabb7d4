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
  ASSERT_EQ(memory_drivers().size(), 1u);
  EXPECT_EQ(memory_drivers()[0]->kind(), MemoryKind::kHost);
  FakeMemoryDriver fake;
  const FakeMemory memory(fake, 8192);
  std::array<std::byte, 64> host{};
  const std::vector<const MemoryDriver*> drivers = memory_drivers();
  ASSERT_EQ(drivers.size(), 2u);
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

TEST(MemoryDrivers, HostMemoryIsCopiedAndItsFaultsAreErrors) {
  const MemoryDriver& host = *memory_drivers().back();
  std::vector<std::byte> from(4096, std::byte{7}), to(4096), back(4096);
  ASSERT_TRUE(host.copy_to_host(to.data(), from.data(), from.size()).ok());
  ASSERT_TRUE(host.copy_from_host(back.data(), to.data(), to.size()).ok());
  EXPECT_EQ(back, from);
  void* const closed = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(closed, MAP_FAILED);
  auto* const lost = static_cast<std::byte*>(closed);
  const Status unread = host.copy_to_host(to.data(), lost, 4096);
  EXPECT_EQ(unread.code(), Code::kInvalidArgument);
  EXPECT_NE(unread.message().find("cannot be read"), std::string::npos) << unread.message();
  EXPECT_NE(host.copy_from_host(lost, to.data(), 4096).message().find("cannot be written"),
            std::string::npos);
  ::munmap(closed, 4096);
}

}  // namespace
}  // namespace te
