#include "engine/links.h"

#include <gtest/gtest.h>

#include "engine/pair.h"

namespace te {
namespace {

TEST(Links, SurviveTheirText) {
  PathInfo path;
  path.segment = "a \"segment\"";
  path.transport = "rdma";
  path.local_device = "mlx5_0";
  path.remote_device = "mlx5_1";
  path.remote_address = "10.0.0.1:1";
  path.encryption = "none";
  path.state = "failed";
  path.last_error = "\xff not UTF-8";
  path.inflight_bytes = 1;
  path.completed_bytes = UINT64_MAX;
  path.staged_bytes = 2;
  path.completed_slices = 3;
  path.failed_slices = 4;
  const std::string text = links_as_json({path, PathInfo()});
  const Result<std::vector<PathInfo>> got = links_from_json(text);
  ASSERT_TRUE(got.ok()) << got.status().to_string();
  ASSERT_EQ(got->size(), 2u);
  EXPECT_EQ(links_as_json(*got), text);
  EXPECT_EQ(got->front().completed_bytes, UINT64_MAX);
}

TEST(Links, TakeWhatALaterVersionAdds) {
  EXPECT_EQ(links_from_json(R"([{"segment": "s", "colour": 1}])")->front().segment, "s");
}

TEST(Links, RefuseWhatTheyAreNot) {
  for (const char* text : {"", "{", "[1]", R"([{"segment": 1}])", R"([{"inflight_bytes": "x"}])"}) {
    EXPECT_EQ(links_from_json(text).code(), Code::kProtocol) << text;
  }
}

TEST(Links, OfTheLocalSegmentLeadToThisEngine) {
  for (const char* transport : {"tcp", "shm"}) {
    test::Pair pair({}, transport);
    TransferRequest request = pair.write(0, 100);
    request.target_id = kLocalSegment;
    request.target_offset = reinterpret_cast<uint64_t>(pair.local() + 4096);
    ASSERT_EQ(test::transfer(pair.initiator(), {request}).state, TaskState::kCompleted);
    size_t own = 0;
    for (const PathInfo& path : pair.initiator().paths()) {
      if (path.segment != pair.initiator().local_name()) continue;
      ++own;
      EXPECT_EQ(path.remote_address, "this engine") << path.transport;
    }
    EXPECT_GE(own, 1u);
  }
}

TEST(Links, OfAnotherEngineCanBeAskedFor) {
  test::Pair pair;
  ASSERT_TRUE(pair.works());
  const Result<std::vector<PathInfo>> paths =
      pair.target().paths_of(pair.initiator().local_endpoint());
  ASSERT_TRUE(paths.ok()) << paths.status().to_string();
  uint64_t moved = 0;
  for (const PathInfo& path : *paths) moved += path.completed_bytes;
  EXPECT_GE(moved, 600'000u);
  EXPECT_EQ(pair.target().paths_of("127.0.0.1:1").code(), Code::kUnavailable);
}

}  // namespace
}  // namespace te
