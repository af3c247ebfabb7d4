#include "base/options.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace te {
namespace {

using Settings = std::map<std::string, std::string>;

// Those that are no members of Config.
constexpr Setting kConnections{"tcp_connections", "", "how many", Setting::Number{0, 0, 64}};
constexpr Setting kThreads{"tcp_threads", "", "how many", Setting::Number{2, 1, 64}};
constexpr Setting kCopies{"copy_threads", "", "how many", Setting::Number{2, 1, 64}};
constexpr std::string_view kModes[] = {"off", "auto", "on"};
constexpr Setting kMode{"tcp_zero_copy", "", "off, auto or on", Setting::Text{"off", kModes}};

Result<Config> load(const Settings& settings, std::vector<const char*> environment = {}) {
  environment.push_back(nullptr);
  return Config::load(settings, {&kConnections, &kThreads, &kCopies, &kMode}, environment.data());
}

void expect_refused(const Settings& settings, std::vector<const char*> environment,
                    const std::vector<std::string>& says) {
  const Result<Config> config = load(settings, std::move(environment));
  ASSERT_FALSE(config.ok()) << testing::PrintToString(settings);
  EXPECT_EQ(config.code(), Code::kInvalidArgument);
  for (const std::string& part : says) {
    EXPECT_NE(config.status().message().find(part), std::string::npos)
        << "no '" << part << "' in: " << config.status().message();
  }
}

struct Limits {
  const char* name;
  uint64_t Config::*member;
  uint64_t min;
  uint64_t max;
};

const Limits kNumbers[] = {
    {"transfer_timeout_ms", &Config::transfer_timeout_ms, 1, 86'400'000},
    {"retry_window_ms", &Config::retry_window_ms, 0, 86'400'000},
    {"connect_timeout_ms", &Config::connect_timeout_ms, 1, 86'400'000},
    {"hello_timeout_ms", &Config::hello_timeout_ms, 1, 86'400'000},
    {"stall_timeout_ms", &Config::stall_timeout_ms, 1, 86'400'000},
    {"unregister_timeout_ms", &Config::unregister_timeout_ms, 1, 86'400'000},
    {"directory_timeout_ms", &Config::directory_timeout_ms, 1, 86'400'000},
    {"directory_lease_s", &Config::directory_lease_s, 1, 3'600},
    {"slice_bytes", &Config::slice_bytes, 4'096, 1 << 30},
    {"staging_part_bytes", &Config::staging_part_bytes, 4'096, 64 << 20},
    {"staging_bytes", &Config::staging_bytes, 0, uint64_t{1} << 40},
    {"max_inbound_connections", &Config::max_inbound_connections, 0, 1'000'000},
    {"max_pending_connections", &Config::max_pending_connections, 0, 100'000},
    {"max_notifications", &Config::max_notifications, 1, 10'000'000},
};

TEST(Options, DefaultsLoad) {
  const Result<Config> config = load({});
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_EQ(config->transfer_timeout_ms, 30'000u);
  EXPECT_EQ(config->log_level, "warning");
  EXPECT_TRUE(config->origins.empty());
}

TEST(Options, EveryNumberHasItsLimits) {
  for (const Limits& limits : kNumbers) {
    SCOPED_TRACE(limits.name);
    for (const uint64_t good : {limits.min, limits.max}) {
      const Result<Config> config = load({{limits.name, std::to_string(good)}});
      ASSERT_TRUE(config.ok()) << config.status().to_string();
      EXPECT_EQ((*config).*limits.member, good);
    }
    const std::string above = std::to_string(limits.max + 1);
    expect_refused({{limits.name, above}}, {}, {limits.name, "'" + above + "'"});
    if (limits.min > 0) {
      const std::string below = std::to_string(limits.min - 1);
      expect_refused({{limits.name, below}}, {}, {limits.name, "'" + below + "'"});
    }
  }
}

TEST(Options, EveryDefaultIsWithinItsLimits) {
  const Config defaults;
  for (const Limits& limits : kNumbers) {
    EXPECT_GE(defaults.*limits.member, limits.min) << limits.name;
    EXPECT_LE(defaults.*limits.member, limits.max) << limits.name;
  }
}

TEST(Options, MalformedNumbersAreRefused) {
  for (const char* value : {"",
                            " ",
                            "abc",
                            "1x",
                            "x1",
                            "1 ",
                            " 1",
                            "\t1",
                            "1\n",
                            "+1",
                            "-1",
                            "-0",
                            "0x10",
                            "1e3",
                            "1.5",
                            "1,000",
                            "10ms",
                            "true",
                            "18446744073709551616",
                            "99999999999999999999999999",
                            "١"}) {
    expect_refused({{"transfer_timeout_ms", value}}, {},
                   {"transfer_timeout_ms='" + std::string(value) + "'",
                    "a whole number of ms from 1 to 86400000", "time a submission may take"});
  }
  expect_refused({{"tcp_connections", std::string("2\0", 2)}}, {}, {"tcp_connections"});
}

TEST(Options, TextOfAFixedSetIsChecked) {
  for (const char* level : {"error", "warning", "info", "debug"}) {
    const Result<Config> config = load({{"log_level", level}});
    ASSERT_TRUE(config.ok()) << config.status().to_string();
    EXPECT_EQ(config->log_level, level);
  }
  for (const char* level : {"", "WARNING", "warn", "0", "info "}) {
    expect_refused({{"log_level", level}}, {},
                   {"log_level='" + std::string(level) + "'", "error, warning, info or debug"});
  }
}

TEST(Options, ZeroCopyIsOffAutoOrOn) {
  EXPECT_EQ(Config().text(kMode), "off");
  for (const char* mode : {"auto", "off", "on"}) {
    const Result<Config> config = load({{"tcp_zero_copy", mode}});
    ASSERT_TRUE(config.ok()) << config.status().to_string();
    EXPECT_EQ(config->text(kMode), mode);
  }
  expect_refused({}, {"TE_TCP_ZERO_COPY=yes"}, {"TE_TCP_ZERO_COPY='yes'", "off, auto or on"});
}

TEST(Options, GuardedCopiesAreByTheHandlerOrTheKernel) {
  EXPECT_EQ(Config().guarded_copies, "handler");
  EXPECT_TRUE(load({{"guarded_copies", "kernel"}}).ok());
  expect_refused({{"guarded_copies", "no"}}, {}, {"guarded_copies='no'", "handler or kernel"});
}

TEST(Options, FreeTextIsTaken) {
  const Result<Config> config =
      load({{"bind_address", "::1"}, {"advertise_address", "node-1"}}, {});
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->bind_address, "::1");
  EXPECT_EQ(config->advertise_address, "node-1");
}

TEST(Options, APasswordIsTakenAndShownNowhere) {
  const Result<Config> config =
      load({}, {"TRANSFER_ENGINE_DIRECTORY_PASSWORD=hunter2", "TE_DIRECTORY_PASSWORD=hunter3",
                "TRANSFER_ENGINE_DIRECTORY_TOKEN=hunter4"});
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_EQ(config->directory_password.view(), "hunter2");
  EXPECT_EQ(config->directory_token.view(), "hunter4");
  ASSERT_EQ(config->warnings.size(), 1u);
  EXPECT_EQ(config->warnings[0],
            "TE_DIRECTORY_PASSWORD='***' has no effect: TRANSFER_ENGINE_DIRECTORY_PASSWORD='***' "
            "is set too, and counts");
  EXPECT_EQ(config->to_json().find("hunter"), std::string::npos);
  size_t shown = 0;
  for (const auto& row : nlohmann::json::parse(config->to_json())) {
    const bool set = row["name"] == "directory_password" || row["name"] == "directory_token";
    EXPECT_EQ(row["value"] == "***", set) << row.dump();
    shown += set;
  }
  EXPECT_EQ(shown, 2u);
}

TEST(Options, AnEmptyPasswordIsNotSet) {
  const char* const empty = "TRANSFER_ENGINE_DIRECTORY_PASSWORD=";
  const char* const set = "TRANSFER_ENGINE_DIRECTORY_PASSWORD=hunter2";
  const auto shown_row = [](const Config& config) {
    for (auto& row : nlohmann::json::parse(config.to_json())) {
      if (row["name"] == "directory_password") return row;
    }
    return nlohmann::json();
  };
  for (const Result<Config>& config : {load({{"directory_password", ""}}), load({}, {empty}),
                                       load({{"directory_password", ""}}, {set})}) {
    ASSERT_TRUE(config.ok()) << config.status().to_string();
    EXPECT_TRUE(config->directory_password.empty());
    const nlohmann::json row = shown_row(*config);
    EXPECT_EQ(row["value"], "") << row.dump();
    EXPECT_EQ(row["origin"], "default") << row.dump();
  }
  const Result<Config> config = load({{"directory_password", "hunter3"}}, {empty});
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(shown_row(*config)["value"], "***");
  EXPECT_EQ(shown_row(*config)["origin"], "engine");
}

TEST(Options, UnknownSettingSuggestsTheNearest) {
  expect_refused({{"tcp_conections", "2"}}, {},
                 {"'tcp_conections'", "did you mean 'tcp_connections'?"});
  expect_refused({{"timeout", "2"}}, {}, {"'timeout'", "did you mean 'transfer_timeout_ms'"});
  for (const char* far : {"", "nope", "x", "completely_different"}) {
    const Result<Config> refused = load({{far, "2"}});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.status().message().find("did you mean"), std::string::npos)
        << refused.status().message();
    EXPECT_NE(refused.status().message().find("`te info` lists them"), std::string::npos);
  }
  expect_refused({{"", "2"}}, {}, {"there is no setting ''"});
  expect_refused({{"TCP_CONNECTIONS", "2"}}, {},
                 {"there is no setting 'TCP_CONNECTIONS': did you mean 'tcp_connections'?"});
}

TEST(Options, UnknownVariableOfOursIsAWarningThatSuggestsTheNearest) {
  const Result<Config> config =
      load({}, {"TRANSFER_ENGINE_SLICE_BYTE=8192", "TRANSFER_ENGINE_=1",
                "TRANSFER_ENGINE_tcp_threads=1", "TRANSFER_ENGINE_COPY_THREADS=3"});
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  ASSERT_EQ(config->warnings.size(), 3u) << testing::PrintToString(config->warnings);
  for (const char* part :
       {"TRANSFER_ENGINE_SLICE_BYTE has no effect", "did you mean TRANSFER_ENGINE_SLICE_BYTES?"}) {
    EXPECT_NE(config->warnings[0].find(part), std::string::npos) << config->warnings[0];
  }
  EXPECT_NE(config->warnings[1].find("TRANSFER_ENGINE_ has no effect"), std::string::npos);
  EXPECT_NE(config->warnings[2].find("TRANSFER_ENGINE_TCP_THREADS?"), std::string::npos);
  EXPECT_EQ(config->number(kCopies), 3u);
  EXPECT_EQ(config->number(kThreads), Config().number(kThreads));
  EXPECT_EQ(config->slice_bytes, Config().slice_bytes);
}

TEST(Options, TheOlderSpellingOfAVariableCountsToo) {
  const Result<Config> config = load({}, {"TE_SLICE_BYTES=8192", "TE_LOG_LEVEL=info"});
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_EQ(config->slice_bytes, 8192u);
  EXPECT_EQ(config->log_level, "info");
  EXPECT_EQ(config->origins,
            (Settings{{"slice_bytes", "environment"}, {"log_level", "environment"}}));
  EXPECT_TRUE(config->warnings.empty()) << config->warnings.front();
}

TEST(Options, OfTwoSpellingsTheNewerCounts) {
  for (const bool older_first : {true, false}) {
    std::vector<const char*> environment = {"TE_SLICE_BYTES=8192",
                                            "TRANSFER_ENGINE_SLICE_BYTES=16384",
                                            "TE_COPY_THREADS=3", "TRANSFER_ENGINE_COPY_THREADS=3"};
    if (!older_first) std::ranges::reverse(environment);
    const Result<Config> config = load({}, environment);
    ASSERT_TRUE(config.ok()) << config.status().to_string();
    EXPECT_EQ(config->slice_bytes, 16384u);
    ASSERT_EQ(config->warnings.size(), 1u) << "one differs";
    for (const char* part :
         {"TE_SLICE_BYTES='8192' has no effect", "TRANSFER_ENGINE_SLICE_BYTES='16384'"}) {
      EXPECT_NE(config->warnings[0].find(part), std::string::npos) << config->warnings[0];
    }
  }
  expect_refused({}, {"TE_SLICE_BYTES=many", "TRANSFER_ENGINE_SLICE_BYTES=8192"},
                 {"TE_SLICE_BYTES='many'"});
}

TEST(Options, BadVariableIsNamedAsTheVariable) {
  expect_refused({}, {"TE_RETRY_WINDOW_MS=soon"},
                 {"TE_RETRY_WINDOW_MS='soon'", "a whole number of ms from 0 to 86400000"});
  expect_refused({}, {"TRANSFER_ENGINE_LOG_LEVEL=loud"}, {"TRANSFER_ENGINE_LOG_LEVEL='loud'"});
  expect_refused({}, {"TE_RETRY_WINDOW_MS="}, {"TE_RETRY_WINDOW_MS=''"});
}

TEST(Options, ForeignVariablesAreIgnored) {
  const Result<Config> config =
      load({}, {"PATH=/bin", "TERM=xterm", "te_tcp_threads=9", "XTE_TCP_THREADS=9", "TE_NO_EQUALS",
                "", "=", "TE", "TE_PATH=/opt/te", "TE_=1", "TE_SLICE_BYTE=1", "TE_tcp_threads=9",
                "TRANSFER_ENGINE_NO_EQUALS", "TRANSFER_ENGINE_LIB_DIR=/opt/lib",
                "TRANSFER_ENGINE_USE_INSTALLED=1"});
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_TRUE(config->warnings.empty()) << config->warnings.front();
  EXPECT_EQ(config->number(kThreads), Config().number(kThreads));
  EXPECT_TRUE(config->origins.empty());
}

TEST(Options, SettingsOverlayTheEnvironmentOverlaysTheDefaults) {
  const Result<Config> config = load({{"tcp_threads", "5"}, {"copy_threads", "7"}},
                                     {"TRANSFER_ENGINE_TCP_THREADS=4", "TE_TCP_CONNECTIONS=3",
                                      "TRANSFER_ENGINE_BIND_ADDRESS=a=b"});
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_EQ(config->number(kThreads), 5u);
  EXPECT_EQ(config->number(kCopies), 7u);
  EXPECT_EQ(config->number(kConnections), 3u);
  EXPECT_EQ(config->bind_address, "a=b");
  EXPECT_EQ(config->slice_bytes, Config().slice_bytes);
  EXPECT_EQ(config->origins, (Settings{{"tcp_threads", "engine"},
                                       {"copy_threads", "engine"},
                                       {"tcp_connections", "environment"},
                                       {"bind_address", "environment"}}));
}

TEST(Options, ABadVariableIsAnErrorEvenUnderASetting) {
  expect_refused({{"tcp_threads", "5"}}, {"TE_TCP_THREADS=many"}, {"TE_TCP_THREADS='many'"});
}

TEST(Options, ReadsTheEnvironmentOfTheProcess) {
  ASSERT_EQ(::setenv("TRANSFER_ENGINE_MAX_NOTIFICATIONS", "77", 1), 0);
  const Result<Config> config = Config::load({});
  ::unsetenv("TRANSFER_ENGINE_MAX_NOTIFICATIONS");
  ASSERT_TRUE(config.ok()) << config.status().to_string();
  EXPECT_EQ(config->max_notifications, 77u);
}

// The soft limit of this process, as it was again afterwards.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t most) {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit limit{most, before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  }
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  rlimit before_{};
};

TEST(Options, ConnectionsFollowTheLimitOnDescriptors) {
  const Config config = load({}).take();
  for (const rlim_t most : {64, 256, 512}) {
    const DescriptorLimit limit(most);
    EXPECT_EQ(config.inbound_limit(), most * 3 / 8);
    EXPECT_EQ(config.pending_limit(), most / 8);
    EXPECT_EQ(config.local_inbound_limit(), most * 3 / 16);
    // A connection of the last kind takes two.
    EXPECT_LE(config.inbound_limit() + 2 * config.local_inbound_limit(), most * 3 / 4);
    EXPECT_TRUE(config.limits_without_descriptors().empty());
  }
  const DescriptorLimit none(1);
  EXPECT_GE(config.inbound_limit(), 1u);
  EXPECT_GE(config.pending_limit(), 1u);
}

TEST(Options, GivenNumbersOfConnectionsCountAndAreChecked) {
  const Config config =
      load({{"max_inbound_connections", "5000"}, {"max_pending_connections", "9"}}).take();
  const DescriptorLimit limit(64);
  EXPECT_EQ(config.inbound_limit(), 5000u);
  EXPECT_EQ(config.local_inbound_limit(), 5000u);
  EXPECT_EQ(config.pending_limit(), 9u);
  const std::vector<std::string> warnings = config.limits_without_descriptors();
  ASSERT_EQ(warnings.size(), 1u);
  for (const char* part : {"max_inbound_connections=5000", "RLIMIT_NOFILE is 64", "ulimit -n"}) {
    EXPECT_NE(warnings[0].find(part), std::string::npos) << warnings[0];
  }
}

TEST(Options, JsonTellsEverySetting) {
  const Result<Config> config = load({{"tcp_threads", "5"}}, {"TE_SLICE_BYTES=8192"});
  ASSERT_TRUE(config.ok());
  const nlohmann::json rows = nlohmann::json::parse(config->to_json());
  ASSERT_TRUE(rows.is_array());
  EXPECT_EQ(rows.size(), std::size(kNumbers) + 28);  // and those of text
  std::map<std::string, nlohmann::json> by_name;
  for (const nlohmann::json& row : rows) {
    for (const char* field : {"name", "value", "default", "unit", "origin", "help", "variable"}) {
      ASSERT_TRUE(row.contains(field) && row[field].is_string()) << row.dump() << field;
    }
    EXPECT_NE(row["help"], "") << row.dump();
    EXPECT_TRUE(by_name.emplace(row["name"], row).second) << row.dump();
  }
  for (const Limits& limits : kNumbers) {
    ASSERT_TRUE(by_name.contains(limits.name)) << limits.name;
    EXPECT_EQ(by_name[limits.name]["default"], std::to_string(Config().*limits.member));
  }
  EXPECT_EQ(by_name["tcp_threads"]["value"], "5");
  EXPECT_EQ(by_name["tcp_threads"]["origin"], "engine");
  EXPECT_EQ(by_name["tcp_threads"]["variable"], "TRANSFER_ENGINE_TCP_THREADS");
  EXPECT_EQ(by_name["slice_bytes"]["value"], "8192");
  EXPECT_EQ(by_name["slice_bytes"]["origin"], "environment");
  EXPECT_EQ(by_name["slice_bytes"]["unit"], "bytes");
  EXPECT_EQ(by_name["copy_threads"]["origin"], "default");
}

TEST(Options, JsonSurvivesTextThatIsNotUtf8) {
  const Result<Config> config = load({{"bind_address", "\xff\"\\\n"}});
  ASSERT_TRUE(config.ok());
  EXPECT_TRUE(nlohmann::json::accept(config->to_json()));
}

}  // namespace
}  // namespace te
