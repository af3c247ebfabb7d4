// What every directory with a server must do, run over each of them.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "backends.h"
#include "base/log.h"
#include "directory/record.h"

namespace te::test {
namespace {

struct BackendCase {
  const char* name;
  std::unique_ptr<Backend> (*make)();
};

std::ostream& operator<<(std::ostream& out, const BackendCase& backend) {
  return out << backend.name;
}

const Locator kOurs{"10.0.0.1", 1111, 0xaaaa};
const Locator kTheirs{"10.0.0.2", 2222, 0xbbbb};

bool says_alive(const Locator&) { return true; }
bool says_dead(const Locator&) { return false; }

class Conformance : public testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override {
    backend_ = GetParam().make();
    if (!backend_->missing().empty()) GTEST_SKIP() << backend_->missing() << " is not installed";
    const Status status = backend_->start();
    ASSERT_TRUE(status.ok()) << status.to_string();
    options_.lease = std::chrono::seconds(1);
    options_.timeout = std::chrono::milliseconds(3000);
    backend_->secure(options_);
  }

  std::unique_ptr<Directory> open() {
    Result<std::unique_ptr<Directory>> directory = open_directory(backend_->url(), options_);
    EXPECT_TRUE(directory.ok()) << directory.status().to_string();
    return directory.ok() ? directory.take() : nullptr;
  }

  std::unique_ptr<Store> store() { return open_store(backend_->url(), options_); }

  static std::string record(const Locator& locator) { return *encode_record(locator); }
  static std::string key(const std::string& name) { return *record_key(name); }

  std::unique_ptr<Backend> backend_;
  DirectoryOptions options_;
};

TEST_P(Conformance, PublishResolveWithdraw) {
  const auto owner = open();
  const auto other = open();
  EXPECT_EQ(other->resolve("seg").code(), Code::kNotFound);
  ASSERT_TRUE(owner->publish("seg", kOurs, says_alive).ok());
  for (const auto& directory : {owner.get(), other.get()}) {
    const Result<Locator> resolved = directory->resolve("seg");
    ASSERT_TRUE(resolved.ok()) << resolved.status().to_string();
    EXPECT_EQ(*resolved, kOurs);
  }
  EXPECT_EQ(other->withdraw("seg").code(), Code::kNotFound);
  EXPECT_TRUE(other->resolve("seg").ok());
  EXPECT_TRUE(owner->withdraw("seg").ok());
  EXPECT_EQ(other->resolve("seg").code(), Code::kNotFound);
  EXPECT_EQ(owner->withdraw("seg").code(), Code::kNotFound);
}

TEST_P(Conformance, DescribesItselfAndItsLocalAddress) {
  const auto directory = open();
  EXPECT_NE(directory->describe().find(backend_->endpoint()), std::string::npos);
  EXPECT_EQ(directory->local_address(), "127.0.0.1");
}

TEST_P(Conformance, TheSameInstanceMayPublishAgain) {
  const auto directory = open();
  ASSERT_TRUE(directory->publish("seg", kOurs, says_alive).ok());
  EXPECT_TRUE(directory->publish("seg", kOurs, says_alive).ok());
  const Locator moved{"10.9.9.9", 9, kOurs.instance};
  EXPECT_TRUE(directory->publish("seg", moved, says_alive).ok());
  EXPECT_EQ(*directory->resolve("seg"), moved);
}

TEST_P(Conformance, ALiveHolderIsRefused) {
  const auto owner = open();
  const auto other = open();
  ASSERT_TRUE(owner->publish("seg", kOurs, says_alive).ok());
  Locator asked;
  const Status status = other->publish("seg", kTheirs, [&](const Locator& holder) {
    asked = holder;
    return true;
  });
  EXPECT_EQ(status.code(), Code::kAlreadyExists);
  EXPECT_NE(status.message().find("10.0.0.1:1111"), std::string::npos) << status.message();
  EXPECT_EQ(asked, kOurs);
  EXPECT_EQ(*owner->resolve("seg"), kOurs);
}

TEST_P(Conformance, ADeadHolderIsReplaced) {
  const auto owner = open();
  const auto other = open();
  ASSERT_TRUE(owner->publish("seg", kOurs, says_alive).ok());
  const Status status = other->publish("seg", kTheirs, says_dead);
  ASSERT_TRUE(status.ok()) << status.to_string();
  EXPECT_EQ(*other->resolve("seg"), kTheirs);
  EXPECT_TRUE(owner->withdraw("seg").ok());
  EXPECT_EQ(*other->resolve("seg"), kTheirs) << "the old owner took out what is not its own";
}

TEST_P(Conformance, TheDestructorWithdraws) {
  const auto other = open();
  {
    const auto owner = open();
    ASSERT_TRUE(owner->publish("one", kOurs, says_alive).ok());
    ASSERT_TRUE(owner->publish("two", kOurs, says_alive).ok());
  }
  EXPECT_EQ(other->resolve("one").code(), Code::kNotFound);
  EXPECT_EQ(other->resolve("two").code(), Code::kNotFound);
}

TEST_P(Conformance, ACrashedOwnersNameEndsAndALiveOnesStays) {
  if (!backend_->has_leases()) GTEST_SKIP() << "this server has no leases";
  const auto owner = open();
  ASSERT_TRUE(owner->publish("alive", kOurs, says_alive).ok());
  // Twice: once could also be the first lease that has not ended yet.
  for (const char* name : {"crashed-1", "crashed-2"}) {
    const Result<bool> created = store()->create(key(name), record(kTheirs));
    ASSERT_TRUE(created.ok() && *created) << created.status().to_string();
    ASSERT_TRUE(owner->resolve(name).ok());
    EXPECT_TRUE(eventually([&] { return owner->resolve(name).code() == Code::kNotFound; }));
    EXPECT_TRUE(owner->resolve("alive").ok());
  }
}

TEST_P(Conformance, AStoppedServerIsUnavailable) {
  const auto directory = open();
  ASSERT_TRUE(directory->publish("seg", kOurs, says_alive).ok());
  backend_->stop();
  const auto begin = std::chrono::steady_clock::now();
  const Status status = directory->resolve("seg").status();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, options_.timeout + std::chrono::seconds(1));
  EXPECT_EQ(status.code(), Code::kUnavailable) << status.to_string();
  EXPECT_NE(status.message().find(backend_->endpoint()), std::string::npos) << status.message();
  EXPECT_EQ(directory->publish("new", kOurs, says_alive).code(), Code::kUnavailable);
}

TEST_P(Conformance, ARestartedEmptyServerGetsTheNamesBack) {
  LogCapture log(LogLevel::kInfo);
  const auto directory = open();
  ASSERT_TRUE(directory->publish("one", kOurs, says_alive).ok());
  ASSERT_TRUE(directory->publish("two", kOurs, says_alive).ok());
  backend_->stop();
  ASSERT_TRUE(eventually([&] { return log.count(LogLevel::kWarning, "keep segment names") == 1; }));
  const Status started = backend_->restart_empty();
  ASSERT_TRUE(started.ok()) << started.to_string();
  const auto other = open();
  for (const char* name : {"one", "two"}) {
    EXPECT_TRUE(eventually([&] { return other->resolve(name).ok(); })) << name;
  }
  EXPECT_TRUE(eventually([&] { return log.count(LogLevel::kInfo, "is back") == 1; }));
  EXPECT_EQ(log.count(LogLevel::kWarning, ""), 1u) << log.all();
  EXPECT_TRUE(directory->withdraw("one").ok());
  EXPECT_EQ(other->resolve("one").code(), Code::kNotFound);
}

TEST_P(Conformance, ADeletedNameIsPublishedAgain) {
  const auto directory = open();
  ASSERT_TRUE(directory->publish("seg", kOurs, says_alive).ok());
  const Result<bool> removed = store()->remove(key("seg"), record(kOurs));
  ASSERT_TRUE(removed.ok() && *removed) << removed.status().to_string();
  EXPECT_TRUE(eventually([&] { return directory->resolve("seg").ok(); }));
}

TEST_P(Conformance, ANameThatALiveEngineTookIsNotStolenBack) {
  LogCapture log(LogLevel::kWarning);
  const auto directory = open();
  std::atomic<int> asked{0};
  ASSERT_TRUE(directory
                  ->publish("seg", kOurs,
                            [&](const Locator& holder) {
                              EXPECT_EQ(holder, kTheirs);
                              ++asked;
                              return true;
                            })
                  .ok());
  const auto thief = store();
  ASSERT_TRUE(*thief->replace(key("seg"), record(kOurs), record(kTheirs)));
  // Asked in each round, answered by one warning.
  const auto still_theirs = [&] { return *thief->keep_alive(key("seg"), record(kTheirs)); };
  EXPECT_TRUE(eventually([&] { return still_theirs() && asked >= 3; }));
  EXPECT_EQ(*directory->resolve("seg"), kTheirs);
  EXPECT_EQ(log.count(LogLevel::kWarning, "10.0.0.2:2222"), 1u) << log.all();
  ASSERT_TRUE(*thief->remove(key("seg"), record(kTheirs)));
  EXPECT_TRUE(eventually([&] {
    const Result<Locator> resolved = directory->resolve("seg");
    return resolved.ok() && *resolved == kOurs;
  }));
}

TEST_P(Conformance, HostileValuesAreRefused) {
  const auto directory = open();
  const std::string values[] = {
      "",
      "not json",
      std::string(5000, 'x'),
      std::string(100'000, ' '),
      R"({"host":"h","port":-1,"instance":"0000000000000001","version":1})",
      R"({"host":["h"],"port":1,"instance":"0000000000000001","version":1})",
      std::string("\0\xff\xfe", 3),
  };
  int number = 0;
  options_.lease = std::chrono::seconds(60);
  const auto planter = store();
  for (const std::string& value : values) {
    const std::string name = "bad-" + std::to_string(number++);
    const Result<bool> created = planter->create(key(name), value);
    if (created.code() == Code::kResource) continue;  // this server refuses such sizes itself
    ASSERT_TRUE(created.ok() && *created) << created.status().to_string();
    const Status status = directory->resolve(name).status();
    EXPECT_EQ(status.code(), Code::kProtocol) << status.to_string();
    EXPECT_EQ(directory->publish(name, kOurs, says_dead).code(), Code::kProtocol);
  }
}

TEST_P(Conformance, OddNames) {
  const auto owner = open();
  const auto other = open();
  const std::string names[] = {"a b",
                               "a/b/../c",
                               "100%25",
                               "a+b&key=c?d#e",
                               "\xe6\x97\xa5\xe6\x9c\xac",
                               "\"quoted\\\"",
                               std::string("nul\0nul", 7),
                               "\xff\xfe",
                               std::string(1024, 'x'),
                               "\r\nQUIT\r\n",
                               " ",
                               "{}"};
  uint16_t port = 1;
  for (const std::string& name : names) {
    const Status status = owner->publish(name, {"h", port++, 1}, says_alive);
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  std::string full;
  for (int i = 0; i < 256; ++i) full += "\xe2\x82\xac+";  // 1 KiB that triples when it is encoded
  ASSERT_EQ(full.size(), 1024u);
  EXPECT_TRUE(owner->publish(full, {"h", port, 1}, says_alive).ok());
  port = 1;
  for (const std::string& name : names) {
    const Result<Locator> resolved = other->resolve(name);
    ASSERT_TRUE(resolved.ok()) << resolved.status().to_string();
    EXPECT_EQ(resolved->port, port++) << name;
    EXPECT_TRUE(owner->withdraw(name).ok());
    EXPECT_EQ(other->resolve(name).code(), Code::kNotFound);
  }
  EXPECT_TRUE(other->resolve(full).ok());
  EXPECT_EQ(owner->publish("", kOurs, says_alive).code(), Code::kInvalidArgument);
  EXPECT_EQ(other->resolve(std::string(1025, 'x')).code(), Code::kInvalidArgument);
}

TEST_P(Conformance, EightThreadsShareADirectory) {
  const auto directory = open();
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (uint16_t t = 1; t <= 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 5; ++i) {
        const std::string name = fmt::format("seg-{}-{}", t, i);
        const Locator locator{"h", t, 7};
        failures += !directory->publish(name, locator, says_alive).ok();
        const Result<Locator> resolved = directory->resolve(name);
        failures += !resolved.ok() || !(*resolved == locator);
        if (i % 2 == 0) failures += !directory->withdraw(name).ok();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  EXPECT_EQ(directory->resolve("seg-3-2").code(), Code::kNotFound);
  EXPECT_TRUE(directory->resolve("seg-3-3").ok());
}

TEST_P(Conformance, OneOfEightClaimantsWins) {
  std::vector<std::unique_ptr<Directory>> directories;
  for (int t = 0; t < 8; ++t) directories.push_back(open());
  std::atomic<int> won{0}, refused{0};
  std::vector<std::thread> threads;
  for (uint16_t t = 1; t <= 8; ++t) {
    threads.emplace_back([&, t] {
      const Status status = directories[t - 1]->publish("seg", {"h", t, t}, says_alive);
      won += status.ok();
      refused += status.code() == Code::kAlreadyExists;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(won, 1);
  EXPECT_EQ(refused, 7);
}

INSTANTIATE_TEST_SUITE_P(
    Directory, Conformance,
    testing::Values(BackendCase{"http", [] { return make_http_backend(); }},
                    BackendCase{"http_tls", [] { return make_http_tls_backend(); }},
                    BackendCase{"redis_tls", [] { return make_redis_tls_backend(); }},
                    BackendCase{"etcd_tls", [] { return make_etcd_tls_backend(); }},
                    BackendCase{"etcd_user", [] { return make_etcd_user_backend(); }},
                    BackendCase{"redis", [] { return make_redis_backend(); }},
                    BackendCase{"redis_password", [] { return make_redis_backend("s3cret"); }},
                    BackendCase{"etcd", [] { return make_etcd_backend(); }},
                    BackendCase{"etcd_failover", [] { return make_etcd_failover_backend(); }}),
    [](const testing::TestParamInfo<BackendCase>& backend) { return backend.param.name; });

}  // namespace
}  // namespace te::test
