// The minimal programs of the documentation over RDMA: the C one as it is, and the Rust one with
// the transport's name in it and no other change.
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "rdma/pair.h"
#include "support/servers.h"

namespace te::test {
namespace {

struct Outcome {
  int status = -1;
  std::string text;
};

Outcome outcome_of(const std::string& command) {
  Outcome outcome;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return outcome;
  char part[512];
  while (std::fgets(part, sizeof part, pipe) != nullptr) outcome.text += part;
  outcome.status = ::pclose(pipe);
  return outcome;
}

TEST(Programs, OfTheCApi) {
  TE_NEEDS_RDMA_VM();
  const Outcome outcome = outcome_of("'" TE_C_PROGRAM "'");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.text, "wrote and read 4096 bytes, equal\n");
}

TEST(Programs, OfTheRustCrate) {
  TE_NEEDS_RDMA_VM();
  if (::access(TE_RUST_PROGRAM, X_OK) != 0) {
    GTEST_SKIP() << TE_RUST_PROGRAM << " was not built: the test rdma.rust_program says why";
  }
  EtcdServer etcd(2379);  // which the program names
  if (!etcd.available()) GTEST_SKIP() << etcd.program() << " is not installed";
  const Status started = etcd.start();
  ASSERT_TRUE(started.ok()) << started.to_string();
  EngineOptions options;
  options.metadata = etcd.url();
  options.name = "target-seg";
  options.host = "127.0.0.1";
  Result<std::unique_ptr<Engine>> target = Engine::create(options);
  ASSERT_TRUE(target.ok()) << target.status().to_string();
  ASSERT_TRUE((*target)->install_transport("rdma").ok());
  constexpr uint64_t kWritten = 4096;
  Registered memory(**target, 2 * kWritten);
  std::memset(memory.data(), 0xFF, memory.size());
  const Outcome outcome = outcome_of("'" TE_RUST_PROGRAM "'");
  EXPECT_EQ(outcome.status, 0);
  // Looked at right after the submission: in flight, or done.
  EXPECT_EQ(outcome.text.find("status="), 0u) << outcome.text;
  EXPECT_EQ(other_than(memory.data(), kWritten, std::byte{0}), kSame);
  EXPECT_EQ(other_than(memory.data() + kWritten, kWritten, std::byte{0xFF}), kSame);
}

// The crate's own tests, on engines that talk over RDMA.
class RustTests : public testing::TestWithParam<const char*> {};

TEST_P(RustTests, PassOverRdma) {
  TE_NEEDS_RDMA_VM();
  const std::string program = std::string(TE_RUST_TESTS) + "/" + GetParam();
  if (::access(program.c_str(), X_OK) != 0) {
    GTEST_SKIP() << program << " was not built: the test rdma.rust_tests says why";
  }
  const Outcome outcome = outcome_of("TEST_TRANSPORT=rdma '" + program + "' --test-threads=2");
  EXPECT_EQ(outcome.status, 0) << outcome.text;
  EXPECT_NE(outcome.text.find("test result: ok"), std::string::npos) << outcome.text;
  EXPECT_EQ(outcome.text.find(" 0 passed"), std::string::npos) << outcome.text;
}

INSTANTIATE_TEST_SUITE_P(Of, RustTests, testing::Values("engine", "safe_layer", "tokio_wait"),
                         [](const auto& which) { return std::string(which.param); });

}  // namespace
}  // namespace te::test
