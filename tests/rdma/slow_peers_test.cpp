// Peers that a NIC does not find: their links are up, but all packets to and from them are lost.
// The kernel looks for each for a second.
#include "rdma/pair.h"

namespace te::test {
namespace {

constexpr size_t kSlow = 6;
constexpr int kLost = 0, kFound = 1, kOpposite = 2;  // devices

void run(const std::string& command) { EXPECT_EQ(::system(command.c_str()), 0) << command; }

class SlowPeers : public testing::Test {
 protected:
  static void lose_packets() {
    run(fmt::format("tc qdisc add dev eth{} root netem loss 100%", kLost));
    run(fmt::format("tc qdisc add dev port{} root netem loss 100%", kLost));
    // What was found before is looked for again.
    run(fmt::format("ip neigh flush dev eth{}", kLost));
    run(fmt::format("ip neigh flush to 10.77.0.{}", kLost + 1));
  }
  void TearDown() override {
    if (vm_nics() == 0) return;
    run(fmt::format("tc qdisc del dev eth{} root", kLost));
    run(fmt::format("tc qdisc del dev port{} root", kLost));
  }

  static std::unique_ptr<Engine> engine_on(int device) {
    return make_rdma_engine({{"nics", fmt::format("rxe{}", device)}}, {"rdma"});
  }
  static std::vector<std::unique_ptr<Engine>> slow_engines() {
    std::vector<std::unique_ptr<Engine>> engines;
    for (size_t i = 0; i < kSlow; ++i) engines.push_back(engine_on(kLost));
    return engines;
  }
  struct Pair {
    Engine* from;
    Engine* to;
  };
  static std::string opened(const Pair& pair) {
    const std::string name = pair.to->local_endpoint();
    const Result<SegmentId> id = pair.from->open_segment(name);
    EXPECT_TRUE(id.ok()) << id.status().to_string();
    return name;
  }
  static bool connecting(Engine& engine, size_t paths) {
    size_t count = 0;
    for (const PathInfo& path : engine.paths()) {
      count += path.transport == "rdma" && path.state == "connecting" ? 1u : 0u;
    }
    return count >= paths;
  }
  // `sound` connects while all of `slow` try to. How long that took.
  static int64_t connects_meanwhile(const std::vector<Pair>& slow, size_t paths_of_each,
                                    const Pair& sound) {
    std::vector<std::string> names;
    for (const Pair& pair : slow) names.push_back(opened(pair));
    const std::string name = opened(sound);
    lose_packets();
    std::vector<std::thread> tries;
    for (size_t i = 0; i < slow.size(); ++i) {
      tries.emplace_back([&, i] {
        EXPECT_FALSE(slow[i].from->warmup_segment(names[i]).ok()) << "packets were to be lost";
      });
    }
    EXPECT_TRUE(eventually([&] {
      return std::all_of(slow.begin(), slow.end(),
                         [&](const Pair& pair) { return connecting(*pair.from, paths_of_each); });
    }));
    const Stopwatch watch;
    const Status status = sound.from->warmup_segment(name);
    const int64_t took = watch.ms();
    EXPECT_TRUE(status.ok()) << status.to_string();
    for (std::thread& thread : tries) thread.join();
    return took;
  }
  // So that only those that are lost have to be looked for.
  static void find(Engine& from, Engine& to) {
    const std::string name = opened({&from, &to});
    EXPECT_TRUE(eventually([&] { return from.warmup_segment(name).ok(); }));
  }
};

TEST_F(SlowPeers, ThatConnectHereDelayNobodyElse) {
  TE_NEEDS_RDMA_VM();
  const std::unique_ptr<Engine> target = engine_on(kOpposite);
  const std::vector<std::unique_ptr<Engine>> lost = slow_engines();
  const std::unique_ptr<Engine> before = engine_on(kFound), sound = engine_on(kFound);
  find(*before, *target);
  std::vector<Pair> slow;
  for (const std::unique_ptr<Engine>& engine : lost) slow.push_back({engine.get(), target.get()});
  EXPECT_LT(connects_meanwhile(slow, 1, {sound.get(), target.get()}), 700);
}

TEST_F(SlowPeers, ThatThisEngineConnectsToDelayNobodyElse) {
  TE_NEEDS_RDMA_VM();
  const std::unique_ptr<Engine> initiator = engine_on(kOpposite);
  const std::vector<std::unique_ptr<Engine>> lost = slow_engines();
  const std::unique_ptr<Engine> before = engine_on(kFound), sound = engine_on(kFound);
  find(*initiator, *before);
  std::vector<Pair> slow;
  for (const std::unique_ptr<Engine>& engine : lost) {
    slow.push_back({initiator.get(), engine.get()});
  }
  EXPECT_LT(connects_meanwhile(slow, kSlow, {initiator.get(), sound.get()}), 700);
}

}  // namespace
}  // namespace te::test
