// A process that may only make small files (RLIMIT_FSIZE): memory files count as files, and growing
// one beyond the limit would end the process with SIGXFSZ.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include "engine/pair.h"
#include "support/child.h"
#include "transfer_engine_c.h"

namespace te::test {
namespace {

constexpr size_t kLength = 1 << 20;

void limit_files(rlim_t bytes) {
  const rlimit limit{bytes, bytes};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
}

void in_child(const std::function<int()>& body) {
  const ChildEnd end = run_in_child(body);
  EXPECT_TRUE(end.ok()) << end.describe();
}

// By the transports that an engine has of its own accord.
void write_and_read() {
  const std::unique_ptr<Engine> target = make_engine();
  const std::unique_ptr<Engine> initiator = make_engine();
  const Result<void*> remote = target->allocate(kLength);
  const Result<void*> local = initiator->allocate(kLength);
  ASSERT_TRUE(remote.ok()) << remote.status().to_string();
  ASSERT_TRUE(local.ok()) << local.status().to_string();
  const Result<SegmentId> segment = initiator->open_segment(target->local_endpoint());
  ASSERT_TRUE(segment.ok()) << segment.status().to_string();
  stamp(static_cast<std::byte*>(*local), kLength, 3);
  EXPECT_EQ(transfer(*initiator, {{Opcode::kWrite, *local, *segment, 0, kLength}}).state,
            TaskState::kCompleted);
  EXPECT_EQ(difference(static_cast<std::byte*>(*remote), kLength, 3), kSame);
  stamp(static_cast<std::byte*>(*remote), kLength, 4);
  EXPECT_EQ(transfer(*initiator, {{Opcode::kRead, *local, *segment, 0, kLength}}).state,
            TaskState::kCompleted);
  EXPECT_EQ(difference(static_cast<std::byte*>(*local), kLength, 4), kSame);
}

TEST(FileSizeLimit, EnginesAreMadeAndMoveAllocatedMemory) {
  for (const rlim_t bytes : {rlim_t{0}, rlim_t{64} << 10, rlim_t{kLength - 1}}) {
    in_child([bytes] {
      limit_files(bytes);
      write_and_read();
      return 0;
    });
  }
}

// Set while engines are at work, it is met where an initiator introduces itself over shm.
TEST(FileSizeLimit, MayComeLater) {
  in_child([] {
    const std::unique_ptr<Engine> target = make_engine();
    const std::unique_ptr<Engine> initiator = make_engine();
    limit_files(0);
    Registered remote(*target, kLength);
    Registered local(*initiator, kLength);
    const Result<SegmentId> segment = initiator->open_segment(target->local_endpoint());
    EXPECT_TRUE(segment.ok()) << segment.status().to_string();
    stamp(local.data(), kLength, 5);
    EXPECT_EQ(transfer(*initiator, {{Opcode::kWrite, local.data(), *segment, 0, kLength}}).state,
              TaskState::kCompleted);
    EXPECT_EQ(difference(remote.data(), kLength, 5), kSame);
    return 0;
  });
}

TEST(FileSizeLimit, IsNamedWhereAFileIsAskedFor) {
  in_child([] {
    limit_files(4096);
    transfer_engine_t engine = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "127.0.0.1", 0, 0);
    EXPECT_NE(engine, nullptr) << transferEngineLastError();
    EXPECT_EQ(installTransport(engine, "shm", nullptr), nullptr);
    const std::string text = transferEngineLastError();
    EXPECT_NE(text.find("RLIMIT_FSIZE"), std::string::npos) << text;
    EXPECT_NE(text.find("ulimit -f"), std::string::npos) << text;
    destroyTransferEngine(engine);
    return 0;
  });
}

}  // namespace
}  // namespace te::test
