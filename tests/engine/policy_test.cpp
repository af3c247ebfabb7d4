// What a policy lets peers do: asked for in every way, changed while they work.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/log.h"
#include "engine/fabric.h"
#include "engine/security_support.h"

namespace te::test {
namespace {

class PolicyTest : public testing::Test {
 protected:
  explicit PolicyTest(const std::string& text =
                          "reader open read\n"
                          "writer open, write\n"
                          "watcher watch\n"
                          "notifier open notify\n"
                          "owner all\n") {
    tls::Files files = cluster_.member("target");
    files.policy = cluster_.write("policy", text);
    target_ = make_engine(tls_settings(files));
    remote_ = std::make_unique<Registered>(*target_, kSize);
    std::memset(remote_->data(), 't', kSize);
  }
  std::unique_ptr<Engine> peer(const std::string& name) {
    return make_engine(tls_settings(cluster_.member(name, {"DNS:" + name})));
  }
  std::string name() const { return target_->local_endpoint(); }
  void policy(const std::string& text) { cluster_.write("policy", text); }
  bool untouched() const {
    return std::all_of(remote_->data(), remote_->data() + kSize,
                       [](std::byte each) { return each == std::byte{'t'}; });
  }

  static constexpr uint64_t kSize = 1 << 20;
  const Cluster cluster_;
  std::unique_ptr<Engine> target_;
  std::unique_ptr<Registered> remote_;
};

TEST_F(PolicyTest, WhoMayReadCannotWrite) {
  std::unique_ptr<Engine> reader = peer("reader");
  Registered local(*reader, kSize);
  const Result<SegmentId> id = reader->open_segment(name());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  EXPECT_TRUE(failure_of(*reader, {Opcode::kRead, local.data(), *id, 0, kSize}).ok());
  EXPECT_EQ(std::memcmp(local.data(), remote_->data(), kSize), 0);
  EXPECT_TRUE(fails_with(failure_of(*reader, {Opcode::kWrite, local.data(), *id, 0, kSize}),
                         Code::kPermission, "READ only"));
  EXPECT_TRUE(fails_with(reader->notify(*id, {"n", "m"}), Code::kPermission, "may open, read"));
  EXPECT_EQ(reader->describe_segment(*id)->buffers[0].access, Access::kRead);
  EXPECT_TRUE(untouched());
}

TEST_F(PolicyTest, WhoMayWriteCannotRead) {
  std::unique_ptr<Engine> writer = peer("writer");
  Registered local(*writer, kSize);
  const Result<SegmentId> id = writer->open_segment(name());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  stamp(local.data(), kSize, 1);
  EXPECT_TRUE(failure_of(*writer, {Opcode::kWrite, local.data(), *id, 0, kSize}).ok());
  EXPECT_EQ(difference(remote_->data(), kSize, 1), kSame);
  EXPECT_TRUE(fails_with(failure_of(*writer, {Opcode::kRead, local.data(), *id, 0, kSize}),
                         Code::kPermission, "WRITE only"));
}

TEST_F(PolicyTest, WhoIsInNoLineSeesNothing) {
  std::unique_ptr<Engine> stranger = peer("stranger"), watcher = peer("watcher");
  EXPECT_TRUE(fails_with(stranger->open_segment(name()).status(), Code::kPermission,
                         "does not let 'stranger' open: it may none"));
  EXPECT_TRUE(fails_with(stranger->paths_of(name()).status(), Code::kPermission, "watch"));
  EXPECT_TRUE(watcher->paths_of(name()).ok());
  EXPECT_EQ(watcher->open_segment(name()).code(), Code::kPermission);
  std::unique_ptr<Engine> notifier = peer("notifier");
  const Result<SegmentId> id = notifier->open_segment(name());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  EXPECT_TRUE(notifier->notify(*id, {"n", "m"}).ok());
  EXPECT_TRUE(eventually([&] { return target_->take_notifications().size() == 1; }));
  Registered local(*notifier, kSize);
  EXPECT_EQ(failure_of(*notifier, {Opcode::kRead, local.data(), *id, 0, kSize}).code(),
            Code::kPermission);
  EXPECT_TRUE(untouched());
}

// From one moment on WRITEs are refused, whatever was known before, and nothing arrives any more.
TEST_F(PolicyTest, APermissionThatIsTakenInTheMiddleIsGone) {
  std::unique_ptr<Engine> owner = peer("owner");
  Registered local(*owner, kSize);
  const Result<SegmentId> id = owner->open_segment(name());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  const TransferRequest write{Opcode::kWrite, local.data(), *id, 0, kSize};
  ASSERT_TRUE(failure_of(*owner, write).ok());
  std::atomic<bool> taken{false};
  Status why;
  std::thread writing([&] {
    while (why.ok()) why = failure_of(*owner, write);
    taken = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  policy("owner open read\n");
  EXPECT_TRUE(eventually([&] { return taken.load(); }));
  writing.join();
  EXPECT_EQ(why.code(), Code::kPermission) << why.to_string();
  std::memset(remote_->data(), 't', kSize);
  EXPECT_EQ(failure_of(*owner, write).code(), Code::kPermission);
  EXPECT_TRUE(failure_of(*owner, {Opcode::kRead, local.data(), *id, 0, kSize}).ok());
  EXPECT_TRUE(untouched());
  policy("owner all\n");
  EXPECT_TRUE(eventually([&] { return failure_of(*owner, write).ok(); })) << "it is given back";
}

// A NIC serves whoever shows a key. So the keys end with the rights of a peer that knows them.
TEST_F(PolicyTest, KeysOfNicsEndWithTheRights) {
  const auto over_fabric = [](tls::Files files) {
    Settings config = tls_settings(files);
    config["tls_allow_plaintext_fabrics"] = "true";
    config.merge(Settings(kOneNic));
    return config;
  };
  tls::Files files = cluster_.member("fabric-target");
  files.policy = cluster_.write("fabric-policy", "owner all\n");
  std::string why_not;
  std::unique_ptr<Engine> target = make_fabric_engine(over_fabric(files), &why_not);
  if (!target) GTEST_SKIP() << why_not;
  std::unique_ptr<Engine> owner =
      make_fabric_engine(over_fabric(cluster_.member("owner", {"DNS:owner"})), &why_not);
  Registered local(*owner, kSize), remote(*target, kSize);
  const Result<SegmentId> id = owner->open_segment(target->local_endpoint());
  ASSERT_TRUE(id.ok()) << id.status().to_string();
  const TransferRequest write{Opcode::kWrite, local.data(), *id, 0, kSize};
  ASSERT_TRUE(failure_of(*owner, write).ok());
  for (const PathInfo& path : owner->paths()) EXPECT_EQ(path.encryption, "none");
  cluster_.write("fabric-policy", "owner open read\n");
  EXPECT_TRUE(eventually([&] { return !failure_of(*owner, write).ok(); }));
  std::memset(remote.data(), 't', kSize);
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(failure_of(*owner, write).ok());
  EXPECT_EQ(std::count(remote.data(), remote.data() + kSize, std::byte{'t'}),
            static_cast<ptrdiff_t>(kSize));
}

TEST_F(PolicyTest, AWrongPolicyLeavesTheOldOne) {
  std::unique_ptr<Engine> reader = peer("reader");
  policy("reader everything\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(600));
  EXPECT_TRUE(reader->open_segment(name()).ok());
  tls::Files files = cluster_.member("other");
  files.policy = cluster_.path("policy");
  EngineOptions options;
  options.host = "127.0.0.1";
  options.config = tls_settings(files);
  EXPECT_TRUE(fails_with(Engine::create(options).status(), Code::kInvalidArgument,
                         "line 1: there is no right 'everything'"));
}

}  // namespace
}  // namespace te::test
