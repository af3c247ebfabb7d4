// Memory of a peer's GPU that this process cannot open, with the transports that an engine has by
// default: transfers go on by another way, with the right bytes, and the path says why.
#include <gtest/gtest.h>
#include <sched.h>

#include <chrono>
#include <optional>

#include "cuda/same_host.h"
#include "support/child.h"
#include "support/fails_with.h"
#include "support/no_descriptors.h"

namespace te::test {
namespace {

using cuda::CuResult;

enum class Cause : uint8_t {
  kRefused,        // the driver does not open it
  kNoDescriptors,  // this process has none left for the one that comes
  kOwnPids,        // the peer's processes are not to be seen here, as those of containers
};

struct Case {
  const char* title;
  const char* kind;  // of the memory there
  const char* call;  // of the driver, that fails
  Cause cause;
  CuResult result = CuResult::kSuccess;
};

void PrintTo(const Case& one, std::ostream* out) { *out << one.title; }

class Unopened : public SameHost, public testing::WithParamInterface<Case> {
 protected:
  std::byte* data() override { return here_->data(); }
  std::byte* view() override { return here_->view(); }

  void SetUp() override {
    SameHost::SetUp();
    if (GetParam().cause != Cause::kOwnPids) return;
    const ChildEnd can = run_in_child(
        [] { return ::unshare(CLONE_NEWPID) == 0 ? 0 : static_cast<int>(ChildEnd::kNotPossible); });
    if (can.not_possible()) GTEST_SKIP() << "only root makes a pid namespace here";
  }
  // gpu < 0: of host memory, which GPU 0 copies.
  void connect(int gpu) {
    here_.emplace(gpu);
    PeerOptions options;
    options.gpu = 1;
    options.gpu_kind = GetParam().kind;
    options.own_pids = GetParam().cause == Cause::kOwnPids;
    start_peer(options);
    open_segment("");
    if (GetParam().cause == Cause::kRefused) fake_cuda::fail(GetParam().call, GetParam().result);
  }
  void disconnect() {
    initiator_.reset();
    peer_.reset();
    here_.reset();
    segment_ = -1;
    seed_ = kSeed;
    fake_cuda::reset();
  }

  // Requests reach the memory while the cause is there.
  void meet_cause() {
    if (GetParam().cause != Cause::kNoDescriptors) return expect_moves(0, kSize);
    const NoDescriptors none;
    if (here_->on_gpu) {  // host memory here, through which it goes then, takes a descriptor, too
      const Status status = error_of(request(Opcode::kRead, 0, kSize));
      EXPECT_TRUE(fails_with(status, Code::kResource, "raise it with `ulimit -n`"));
    } else {
      expect_moves(0, kSize);
    }
    EXPECT_GT(fake_cuda::calls(GetParam().call), 0u);
  }
  void expect_another_way() {
    meet_cause();
    expect_moves(0, kSize);
    expect_moves(kChunk - 8, 16);
    expect_moves(777, 2 * kChunk);
    EXPECT_EQ(fake_cuda::open_ipc_handles(), 0);
    EXPECT_EQ(fake_cuda::chunk_handles(), 0);
    expect_reason(std::string(GetParam().call) + " failed");
  }

  // Of a GPU, or of the host.
  struct Here {
    explicit Here(int gpu) {
      if (gpu >= 0) on_gpu.emplace(gpu, kSize);
      if (gpu < 0) host.resize(kSize);
    }
    std::byte* data() { return on_gpu ? on_gpu->data() : host.data(); }
    std::byte* view() { return on_gpu ? on_gpu->view() : host.data(); }
    std::optional<GpuMemory> on_gpu;
    std::vector<std::byte> host;
  };
  GpuMemory used_{0, kChunk};  // by the application
  std::optional<Here> here_;
};

TEST_P(Unopened, TransfersGoOnByAnotherWay) {
  for (const int gpu : {0, -1}) {
    connect(gpu);
    expect_another_way();
    disconnect();
  }
}

// Of a cause that goes.
class OpenedLater : public Unopened {};

TEST_P(OpenedLater, WhereItIsRegisteredAnew) {
  connect(0);
  meet_cause();
  fake_cuda::reset();
  const uint64_t staged_there = peer_calls("cuMemcpyAsync");
  ASSERT_EQ(peer_->ask("unregister"), "ok");
  ASSERT_EQ(peer_->ask("register"), "ok");
  expect_moves(0, kSize);
  const bool is_whole = std::string(GetParam().kind) == "whole";
  EXPECT_EQ(fake_cuda::copies(), is_whole ? 2 : 2 * kSize / kChunk) << "it is staged";
  EXPECT_EQ(peer_calls("cuMemcpyAsync"), staged_there);
}

std::string title_of(const testing::TestParamInfo<Case>& each) { return each.param.title; }

INSTANTIATE_TEST_SUITE_P(Memory, Unopened,
                         testing::Values(Case{"of_a_container", "whole", "cuIpcOpenMemHandle",
                                              Cause::kOwnPids},
                                         Case{"in_fabric_chunks_of_a_container", "fabric",
                                              "cuMemImportFromShareableHandle", Cause::kOwnPids}),
                         title_of);

const auto kGoing = testing::Values(
    Case{"that_the_driver_refuses", "whole", "cuIpcOpenMemHandle", Cause::kRefused,
         CuResult::kNotSupported},
    Case{"where_the_driver_has_none_left", "whole", "cuIpcOpenMemHandle", Cause::kRefused,
         CuResult::kOutOfMemory},
    Case{"in_chunks_that_the_driver_refuses", "chunks", "cuMemImportFromShareableHandle",
         Cause::kRefused, CuResult::kInvalidValue},
    Case{"in_chunks_that_cannot_be_mapped", "chunks", "cuMemMap", Cause::kRefused,
         CuResult::kOutOfMemory},
    Case{"in_chunks_without_a_descriptor_left", "chunks", "cuMemImportFromShareableHandle",
         Cause::kNoDescriptors});
INSTANTIATE_TEST_SUITE_P(GoingMemory, Unopened, kGoing, title_of);
INSTANTIATE_TEST_SUITE_P(GoingMemory, OpenedLater, kGoing, title_of);

}  // namespace
}  // namespace te::test
