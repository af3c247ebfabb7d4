#include "top.h"

#include <gtest/gtest.h>

namespace te::tool {
namespace {

PathInfo path(const std::string& local, uint64_t completed, uint64_t inflight = 0) {
  PathInfo result;
  result.segment = "node-7";
  result.transport = "rdma";
  result.local_device = local;
  result.remote_device = "mlx5_9";
  result.state = "ready";
  result.completed_bytes = completed;
  result.inflight_bytes = inflight;
  return result;
}

TEST(Top, ShowsWhatMovedSinceTheLookBefore) {
  PathInfo failed = path("mlx5_1", 500);
  failed.state = "failed";
  failed.failed_slices = 3;
  failed.last_error = "the cable";
  const std::string text = top_text("here", {path("mlx5_0", 1'000'000), path("mlx5_1", 500)},
                                    {path("mlx5_0", 5'000'000, 2 << 20), failed}, 2);
  EXPECT_EQ(text,
            "here: 2 links, 2.0 MB/s, 2M in flight\n\n"
            "segment  transport  local   remote  state    bytes/s  in flight  failed  last error\n"
            "node-7   rdma       mlx5_0  mlx5_9  ready   2.0 MB/s         2M       0\n"
            "node-7   rdma       mlx5_1  mlx5_9  failed     0 B/s          0       3  the cable\n");
}

TEST(Top, LinksThatAreNewOrMadeAnewCountFromZero) {
  const std::string text =
      top_text("here", {path("mlx5_0", 9'000)}, {path("mlx5_0", 4'000), path("mlx5_1", 3'000)}, 1);
  EXPECT_NE(text.find("2 links, 7.0 kB/s"), std::string::npos) << text;
}

TEST(Top, SaysThatNothingIsOpen) {
  EXPECT_NE(top_text("here", {}, {}, 1).find("No segment is open"), std::string::npos);
}

}  // namespace
}  // namespace te::tool
