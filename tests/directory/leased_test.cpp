// Claiming and keeping names, over a store in memory that fails when told to.
#include "directory/leased.h"

#include <gtest/gtest.h>

#include <atomic>
#include <map>

#include "backends.h"
#include "directory/record.h"

namespace te::test {
namespace {

struct FakeServer {
  std::map<std::string, std::string> values;
  Status failure;  // of every call, when not ok
  int keep_alives = 0;
  int removes = 0;
};

class FakeStore final : public Store {
 public:
  template <typename Body>
  auto locked(Body body) TE_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return body(server_);
  }

  std::string describe() const override { return "fake"; }
  std::string local_address() const override { return "1.2.3.4"; }
  Status check() override { return {}; }

  Result<std::optional<std::string>> get(const std::string& key) override {
    MutexLock lock(mutex_);
    if (!server_.failure.ok()) return server_.failure;
    const auto it = server_.values.find(key);
    return it == server_.values.end() ? std::nullopt : std::optional(it->second);
  }
  Result<bool> create(const std::string& key, const std::string& value) override {
    MutexLock lock(mutex_);
    if (!server_.failure.ok()) return server_.failure;
    return server_.values.emplace(key, value).second;
  }
  Result<bool> replace(const std::string& key, const std::string& expected,
                       const std::string& value) override {
    MutexLock lock(mutex_);
    if (!server_.failure.ok()) return server_.failure;
    if (!holds(key, expected)) return false;
    server_.values[key] = value;
    return true;
  }
  Result<bool> keep_alive(const std::string& key, const std::string& value) override {
    MutexLock lock(mutex_);
    ++server_.keep_alives;
    if (!server_.failure.ok()) return server_.failure;
    return holds(key, value);
  }
  Result<bool> remove(const std::string& key, const std::string& expected) override {
    MutexLock lock(mutex_);
    ++server_.removes;
    if (!server_.failure.ok()) return server_.failure;
    if (!holds(key, expected)) return false;
    server_.values.erase(key);
    return true;
  }

 private:
  bool holds(const std::string& key, const std::string& value) TE_REQUIRES(mutex_) {
    const auto it = server_.values.find(key);
    return it != server_.values.end() && it->second == value;
  }

  Mutex mutex_;
  FakeServer server_ TE_GUARDED_BY(mutex_);
};

// Lets the test keep the store after the directory that owns this is gone.
class SharedStore final : public Store {
 public:
  explicit SharedStore(std::shared_ptr<FakeStore> store) : store_(std::move(store)) {}
  std::string describe() const override { return store_->describe(); }
  std::string local_address() const override { return store_->local_address(); }
  Status check() override { return store_->check(); }
  Result<std::optional<std::string>> get(const std::string& key) override {
    return store_->get(key);
  }
  Result<bool> create(const std::string& key, const std::string& value) override {
    return store_->create(key, value);
  }
  Result<bool> replace(const std::string& key, const std::string& expected,
                       const std::string& value) override {
    return store_->replace(key, expected, value);
  }
  Result<bool> keep_alive(const std::string& key, const std::string& value) override {
    return store_->keep_alive(key, value);
  }
  Result<bool> remove(const std::string& key, const std::string& expected) override {
    return store_->remove(key, expected);
  }

 private:
  const std::shared_ptr<FakeStore> store_;
};

const Locator kOurs{"10.0.0.1", 1111, 0xaaaa};
const Locator kTheirs{"10.0.0.2", 2222, 0xbbbb};

class Leased : public testing::Test {
 protected:
  std::unique_ptr<LeasedDirectory> open(std::chrono::seconds lease) {
    DirectoryOptions options;
    options.lease = lease;
    return std::make_unique<LeasedDirectory>(std::make_unique<SharedStore>(store_), options);
  }
  void set_failure(const Status& failure) {
    store_->locked([&](FakeServer& server) { server.failure = failure; });
  }
  int keep_alives() {
    return store_->locked([](FakeServer& server) { return server.keep_alives; });
  }
  bool await_rounds(int rounds) {
    const int wanted = keep_alives() + rounds;
    return eventually([&] { return keep_alives() >= wanted; });
  }

  std::shared_ptr<FakeStore> store_ = std::make_shared<FakeStore>();
};

TEST_F(Leased, AnOutageIsSaidOnceAndItsEndOnce) {
  LogCapture log(LogLevel::kInfo);
  const auto directory = open(std::chrono::seconds(1));
  ASSERT_TRUE(directory->publish("seg", kOurs, nullptr).ok());
  for (int outage = 1; outage <= 2; ++outage) {
    set_failure({Code::kUnavailable, "nobody there"});
    ASSERT_TRUE(await_rounds(3));
    set_failure({});
    const auto outages = static_cast<size_t>(outage);
    EXPECT_TRUE(eventually([&] { return log.count(LogLevel::kInfo, "is back") == outages; }));
    EXPECT_EQ(log.count(LogLevel::kWarning, "nobody there"), outages) << log.all();
  }
  ASSERT_TRUE(await_rounds(2));
  EXPECT_EQ(log.count(LogLevel::kInfo, ""), 2u) << log.all();
}

TEST_F(Leased, NothingIsKeptAliveThatWasNotPublished) {
  const auto directory = open(std::chrono::seconds(1));
  set_failure({Code::kUnavailable, "nobody there"});
  EXPECT_EQ(directory->publish("seg", kOurs, nullptr).code(), Code::kUnavailable);
  EXPECT_EQ(directory->withdraw("seg").code(), Code::kNotFound);
  set_failure({});
  ASSERT_TRUE(directory->publish("other", kOurs, nullptr).ok());
  ASSERT_TRUE(await_rounds(2));
  EXPECT_EQ(directory->resolve("seg").code(), Code::kNotFound);
}

TEST_F(Leased, AWithdrawnNameStaysAway) {
  const auto directory = open(std::chrono::seconds(1));
  ASSERT_TRUE(directory->publish("stays", kOurs, nullptr).ok());
  ASSERT_TRUE(directory->publish("goes", kOurs, nullptr).ok());
  EXPECT_TRUE(directory->withdraw("goes").ok());
  ASSERT_TRUE(await_rounds(2));
  EXPECT_EQ(directory->resolve("goes").code(), Code::kNotFound);
}

TEST_F(Leased, WithdrawingDuringAnOutageEndsTheClaim) {
  const auto directory = open(std::chrono::seconds(1));
  ASSERT_TRUE(directory->publish("stays", kOurs, nullptr).ok());
  ASSERT_TRUE(directory->publish("goes", kOurs, nullptr).ok());
  set_failure({Code::kUnavailable, "nobody there"});
  EXPECT_EQ(directory->withdraw("goes").code(), Code::kUnavailable);
  store_->locked([](FakeServer& server) {
    server.values.clear();
    server.failure = {};
  });
  EXPECT_TRUE(eventually([&] { return directory->resolve("stays").ok(); }));
  ASSERT_TRUE(await_rounds(2));
  EXPECT_EQ(directory->resolve("goes").code(), Code::kNotFound);
}

TEST_F(Leased, WithoutAQuestionAHolderCountsAsAlive) {
  const auto directory = open(std::chrono::seconds(3600));
  ASSERT_TRUE(store_->create(*record_key("seg"), *encode_record(kTheirs)).ok());
  EXPECT_EQ(directory->publish("seg", kOurs, nullptr).code(), Code::kAlreadyExists);
}

TEST_F(Leased, OneBadKeyDoesNotEndTheOthers) {
  LogCapture log(LogLevel::kWarning);
  const auto directory = open(std::chrono::seconds(1));
  ASSERT_TRUE(directory->publish("a", kOurs, nullptr).ok());
  ASSERT_TRUE(directory->publish("b", kOurs, nullptr).ok());
  store_->locked([](FakeServer& server) {
    server.values[*record_key("a")] = "garbage";
    server.values.erase(*record_key("b"));
  });
  EXPECT_TRUE(eventually([&] { return directory->resolve("b").ok(); }));
  EXPECT_EQ(directory->resolve("a").code(), Code::kProtocol);
  ASSERT_TRUE(await_rounds(4));
  EXPECT_EQ(log.count(LogLevel::kWarning, ""), 1u) << log.all();
}

TEST_F(Leased, ADeadSuccessorIsReplacedByTheKeeper) {
  const auto directory = open(std::chrono::seconds(1));
  ASSERT_TRUE(directory->publish("seg", kOurs, [](const Locator&) { return false; }).ok());
  store_->locked(
      [](FakeServer& server) { server.values[*record_key("seg")] = *encode_record(kTheirs); });
  EXPECT_TRUE(eventually([&] {
    const Result<Locator> resolved = directory->resolve("seg");
    return resolved.ok() && *resolved == kOurs;
  }));
}

TEST_F(Leased, TheDestructorDoesNotWaitForTheNextRound) {
  const auto begin = std::chrono::steady_clock::now();
  {
    const auto directory = open(std::chrono::seconds(3600));
    ASSERT_TRUE(directory->publish("seg", kOurs, nullptr).ok());
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_TRUE(store_->locked([](FakeServer& server) { return server.values.empty(); }));
}

TEST_F(Leased, TheDestructorAsksAnUnreachableServerOnce) {
  auto directory = open(std::chrono::seconds(3600));
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(directory->publish(name, kOurs, nullptr).ok());
  }
  set_failure({Code::kUnavailable, "nobody there"});
  directory.reset();
  EXPECT_EQ(store_->locked([](FakeServer& server) { return server.removes; }), 1);
}

// Loses every race: the key is there for create(), gone for get().
class FlickeringStore final : public Store {
 public:
  std::string describe() const override { return "flickering"; }
  std::string local_address() const override { return {}; }
  Status check() override { return {}; }
  Result<std::optional<std::string>> get(const std::string&) override {
    return std::optional<std::string>();
  }
  Result<bool> create(const std::string&, const std::string&) override { return false; }
  Result<bool> replace(const std::string&, const std::string&, const std::string&) override {
    return false;
  }
  Result<bool> keep_alive(const std::string&, const std::string&) override { return false; }
  Result<bool> remove(const std::string&, const std::string&) override { return false; }
};

TEST(LeasedRaces, AClaimThatLosesEveryRaceEnds) {
  LeasedDirectory directory(std::make_unique<FlickeringStore>(), {});
  EXPECT_EQ(directory.publish("seg", kOurs, nullptr).code(), Code::kBusy);
}

}  // namespace
}  // namespace te::test
