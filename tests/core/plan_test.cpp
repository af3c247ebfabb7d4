#include "core/plan.h"

#include <gtest/gtest.h>

#include "transport/fakes.h"

namespace te {
namespace {

TEST(SliceCount, CoversTheLength) {
  EXPECT_EQ(slice_count(0, 4096), 1u);
  EXPECT_EQ(slice_count(1, 4096), 1u);
  EXPECT_EQ(slice_count(4095, 4096), 1u);
  EXPECT_EQ(slice_count(4096, 4096), 1u);
  EXPECT_EQ(slice_count(4097, 4096), 2u);
  EXPECT_EQ(slice_count(8192, 4096), 2u);
  EXPECT_EQ(slice_count(8193, 4096), 3u);
  EXPECT_EQ(slice_count(uint64_t{1} << 48, 1 << 20), uint64_t{1} << 28);
}

// Three ways to a segment of two buffers; the second buffer is not reachable by "b".
class ChoosePath : public testing::Test {
 protected:
  void SetUp() override {
    target_.descriptor.transports = {{"a", 1, ""}, {"b", 2, ""}};
    target_.descriptor.locations = {"*"};
    target_.descriptor.add({0x1000, 0, 16, 0, Rights::kBoth}, {"A", "B0"});
    target_.descriptor.add({0x2000, 16, 16, 0, Rights::kBoth}, {"C", ""});
    ASSERT_TRUE(target_.descriptor.finish().ok());
    add_path(1);  // the best
    add_path(0);
    add_path(0);
  }
  void add_path(int transport) {
    target_.paths.push_back(std::make_shared<Path>(transport_, "", "", ""));
    target_.transport_of_path.push_back(transport);
  }
  Path* path(size_t index) { return target_.paths[index].get(); }
  std::string chosen_key(size_t size) {
    return key_ == nullptr ? "" : std::string(reinterpret_cast<const char*>(key_), size);
  }

  test::NullTransport transport_;
  Target target_;
  const std::byte* key_ = nullptr;
};

TEST_F(ChoosePath, TheBestThatReachesTheBuffer) {
  EXPECT_EQ(choose_path(target_, 0, MemoryKind::kHost, nullptr, &key_), path(0));
  EXPECT_EQ(chosen_key(2), "B0");
  EXPECT_EQ(choose_path(target_, 1, MemoryKind::kHost, nullptr, &key_), path(1));
  EXPECT_EQ(chosen_key(1), "C");
}

TEST_F(ChoosePath, AnotherThanTheOneToAvoid) {
  EXPECT_EQ(choose_path(target_, 0, MemoryKind::kHost, path(0), &key_), path(1));
  EXPECT_EQ(chosen_key(1), "A");
  EXPECT_EQ(choose_path(target_, 1, MemoryKind::kHost, path(1), &key_), path(2));
  EXPECT_EQ(choose_path(target_, 1, MemoryKind::kHost, path(0), &key_), path(1));
}

TEST_F(ChoosePath, TheOneToAvoidWhenThereIsNoOther) {
  target_.paths.resize(2);
  target_.transport_of_path.resize(2);
  EXPECT_EQ(choose_path(target_, 1, MemoryKind::kHost, path(1), &key_), path(1));
  EXPECT_EQ(chosen_key(1), "C");
}

// One that cannot touch some memory.
class Barred final : public Path {
 public:
  explicit Barred(Transport& owner) : Path(owner, "", "", "") {}
  bool reaches(const std::byte* key) const override { return *key != std::byte{'A'}; }
};

TEST_F(ChoosePath, OneThatDoesNotReachTheMemoryAsALastResort) {
  auto barred = std::make_shared<Barred>(transport_);
  target_.paths[1] = barred;
  EXPECT_EQ(choose_path(target_, 0, MemoryKind::kHost, path(0), &key_), path(2));
  EXPECT_EQ(choose_path(target_, 1, MemoryKind::kHost, nullptr, &key_), path(1))
      << "the other memory it reaches";
  target_.paths.resize(2);
  target_.transport_of_path.resize(2);
  EXPECT_EQ(choose_path(target_, 0, MemoryKind::kHost, path(0), &key_), path(0))
      << "rather than one that cannot";
  EXPECT_EQ(chosen_key(2), "B0");
  target_.paths.erase(target_.paths.begin());
  target_.transport_of_path.erase(target_.transport_of_path.begin());
  EXPECT_EQ(choose_path(target_, 0, MemoryKind::kHost, nullptr, &key_), path(0));
  EXPECT_EQ(chosen_key(1), "A");
}

TEST_F(ChoosePath, OneThatRestsOnlyWhenAllOthersDo) {
  path(0)->resting = true;
  EXPECT_EQ(choose_path(target_, 0, MemoryKind::kHost, nullptr, &key_), path(1));
  EXPECT_EQ(choose_path(target_, 0, MemoryKind::kHost, path(1), &key_), path(2));
  path(2)->resting = true;
  EXPECT_EQ(choose_path(target_, 0, MemoryKind::kHost, path(1), &key_), path(1))
      << "rather the one to avoid";
  path(1)->resting = true;
  EXPECT_EQ(choose_path(target_, 0, MemoryKind::kHost, nullptr, &key_), path(0));
  EXPECT_EQ(chosen_key(2), "B0");
  path(0)->resting = false;
  EXPECT_EQ(choose_path(target_, 0, MemoryKind::kHost, path(2), &key_), path(0));
}

TEST_F(ChoosePath, NoneThatReachesTheBuffer) {
  target_.paths.resize(1);
  target_.transport_of_path.resize(1);
  key_ = reinterpret_cast<const std::byte*>("x");
  EXPECT_EQ(choose_path(target_, 1, MemoryKind::kHost, nullptr, &key_), nullptr);
  EXPECT_EQ(key_, nullptr);
  target_.paths.clear();
  target_.transport_of_path.clear();
  EXPECT_EQ(choose_path(target_, 0, MemoryKind::kHost, nullptr, &key_), nullptr);
}

constexpr auto kOther = static_cast<MemoryKind>(40);

// One path each over "host", which reaches host memory alone, and "mixed", which reaches other
// memory here and host memory there. Of the buffers, both know the first, which is host memory; the
// target stages the second; nobody knows the third.
class MemoryKindsOfPaths : public testing::Test {
 protected:
  void SetUp() override {
    target_.segment = "there";
    target_.descriptor.transports = {{"host", 1, ""}, {"mixed", 1, ""}, {"staging", 20, ""}};
    target_.descriptor.locations = {"*"};
    const std::string key(20, 'k');
    target_.descriptor.add({0x1000, 0, 16, 0}, {"H", "M", ""});
    target_.descriptor.add({0x2000, 16, 16, 0, Rights::kBoth, kOther}, {"", "", key});
    target_.descriptor.add({0x3000, 32, 16, 0, Rights::kBoth, kOther}, {"", "", ""});
    ASSERT_TRUE(target_.descriptor.finish().ok());
    for (const int transport : {0, 1}) {
      target_.paths.push_back(std::make_shared<Path>(transport_, "", "", ""));
      target_.transport_of_path.push_back(transport);
    }
    target_.paths[1]->reach.local.add(kOther);
  }
  Path* chosen(size_t buffer, MemoryKind local) {
    return choose_path(target_, buffer, local, nullptr, &key_);
  }
  std::string staged(size_t buffer, MemoryKind local) {
    const StagedEnds ends = find_staged_ends(target_, buffer, local, &key_);
    return std::string(ends.local ? "local " : "") + (ends.remote ? "remote" : "");
  }
  void keep_only(size_t path) {
    target_.paths = {target_.paths[path]};
    target_.transport_of_path = {target_.transport_of_path[path]};
  }

  test::NullTransport transport_;
  Target target_;
  const std::byte* key_ = nullptr;
};

TEST_F(MemoryKindsOfPaths, APathReachesBothEnds) {
  EXPECT_EQ(chosen(0, MemoryKind::kHost), target_.paths[0].get());
  EXPECT_EQ(chosen(0, kOther), target_.paths[1].get()) << "the other does not reach local memory";
  EXPECT_EQ(*key_, std::byte{'M'});
  EXPECT_EQ(chosen(1, MemoryKind::kHost), nullptr);
  EXPECT_EQ(chosen(1, kOther), nullptr);
  EXPECT_EQ(key_, nullptr);
}

// A key alone, such as that of a target whose end reaches more than this one, is not enough.
TEST_F(MemoryKindsOfPaths, AKeyOfAKindThatThisEndDoesNotReachIsOfNoUse) {
  Descriptor descriptor;
  descriptor.transports = target_.descriptor.transports;
  descriptor.locations = {"*"};
  descriptor.add({0x1000, 0, 16, 0, Rights::kBoth, kOther}, {"H", "M", ""});
  ASSERT_TRUE(descriptor.finish().ok());
  target_.descriptor = descriptor;
  EXPECT_EQ(chosen(0, MemoryKind::kHost), nullptr);
  target_.paths[0]->reach.remote.add(kOther);
  EXPECT_EQ(chosen(0, MemoryKind::kHost), target_.paths[0].get());
}

TEST_F(MemoryKindsOfPaths, TheFewestEndsAreStaged) {
  EXPECT_EQ(staged(1, MemoryKind::kHost), "remote");
  ASSERT_NE(key_, nullptr);
  EXPECT_EQ(*key_, std::byte{'k'});
  EXPECT_EQ(staged(1, kOther), "remote") << "one path reaches the local end";
  keep_only(0);
  EXPECT_EQ(staged(1, kOther), "local remote");
  EXPECT_EQ(staged(0, kOther), "local ");
  EXPECT_EQ(staged(2, kOther), "") << "the target does not stage that buffer";
  target_.paths.clear();
  target_.transport_of_path.clear();
  EXPECT_EQ(staged(1, MemoryKind::kHost), "") << "nothing leads there";
}

// One that reaches the kind of the local memory, but not that memory.
class Unknowing final : public Path {
 public:
  explicit Unknowing(Transport& owner) : Path(owner, "", "", "") {}
  bool moves(MemoryKind local, const void* at, MemoryKind remote,
             const std::byte* key) const override {
    return Path::moves(local, at, remote, key) && (local == MemoryKind::kHost || at != this);
  }
};

// One that moves bytes within a kind, and knows which buffers it cannot.
class Within final : public Path {
 public:
  explicit Within(Transport& owner) : Path(owner, "", "", "") {}
  bool moves(MemoryKind local, const void*, MemoryKind remote,
             const std::byte* key) const override {
    return local == remote && (key == nullptr || *key != refused);
  }
  std::byte refused{};
};

TEST_F(MemoryKindsOfPaths, APathSaysItselfBetweenWhichMemoryItMoves) {
  Descriptor descriptor;
  descriptor.transports = target_.descriptor.transports;
  descriptor.locations = {"*"};
  descriptor.add({0x2000, 0, 16, 0, Rights::kBoth, kOther}, {"", "M", std::string(20, 'k')});
  ASSERT_TRUE(descriptor.finish().ok());
  target_.descriptor = descriptor;
  const auto path = std::make_shared<Within>(transport_);
  target_.paths[1] = path;
  ASSERT_EQ(chosen(0, kOther), path.get());
  EXPECT_EQ(*key_, std::byte{'M'});
  EXPECT_EQ(chosen(0, MemoryKind::kHost), nullptr);
  EXPECT_EQ(staged(0, MemoryKind::kHost), "remote");
  path->refused = std::byte{'M'};
  EXPECT_EQ(chosen(0, kOther), nullptr);
  EXPECT_EQ(staged(0, kOther), "local remote");
}

TEST_F(MemoryKindsOfPaths, LocalMemoryThatNoNicKnowsIsStaged) {
  const auto path = std::make_shared<Unknowing>(transport_);
  path->reach.local.add(kOther);
  target_.paths[1] = path;
  const void* const known = &target_;
  EXPECT_EQ(choose_path(target_, 0, {kOther, known}, nullptr, &key_), path.get());
  EXPECT_EQ(choose_path(target_, 0, {kOther, path.get()}, nullptr, &key_), nullptr);
  const StagedEnds ends = find_staged_ends(target_, 0, {kOther, path.get()}, &key_);
  EXPECT_TRUE(ends.local && !ends.remote);
  EXPECT_EQ(choose_path(target_, 0, {MemoryKind::kHost, path.get()}, nullptr, &key_),
            target_.paths[0].get());
}

TEST_F(MemoryKindsOfPaths, AStagingKeyOfAnotherSizeIsNone) {
  target_.descriptor = Descriptor();
  target_.descriptor.transports = {{"host", 1, ""}, {"mixed", 1, ""}, {"staging", 19, ""}};
  target_.descriptor.locations = {"*"};
  target_.descriptor.add({0x2000, 0, 16, 0, Rights::kBoth, kOther}, {"", "", std::string(19, 'k')});
  ASSERT_TRUE(target_.descriptor.finish().ok());
  EXPECT_EQ(staged(0, MemoryKind::kHost), "");
  EXPECT_EQ(key_, nullptr);
}

TEST_F(MemoryKindsOfPaths, TheErrorNamesTheKindsTheTransportsAndWhatToDo) {
  const Status why = no_path(target_, 2, MemoryKind::kHost);
  EXPECT_EQ(why.code(), Code::kUnsupported);
  for (const char* part : {"'there'", "host, mixed", "host memory here", "memory of kind 40",
                           "0x3000", "install a transport that reaches both", "host memory"}) {
    EXPECT_NE(why.message().find(part), std::string::npos) << part << ": " << why.message();
  }
  EXPECT_EQ(no_path(target_, 0, MemoryKind::kHost).code(), Code::kUnavailable);
  target_.paths.clear();
  EXPECT_EQ(no_path(target_, 2, kOther).code(), Code::kUnavailable) << "one may be installed";
}

}  // namespace
}  // namespace te
