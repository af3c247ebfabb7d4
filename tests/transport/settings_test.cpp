#include <gtest/gtest.h>

#include <map>
#include <set>

#include "transport/factory.h"

namespace te {
namespace {

struct Limits {
  uint64_t standard, min, max;
  auto operator<=>(const Limits&) const = default;
};

// What users rely on.
const std::map<std::string, Limits> kNumbers = {
    {"tcp_connections", {0, 0, 64}},
    {"tcp_threads", {0, 0, 64}},
    {"tcp_spin_us", {100, 0, 1'000'000}},
    {"copy_threads", {2, 1, 64}},
    {"fabric_spin_us", {1000, 0, 1'000'000}},
    {"fabric_max_registration", {0, 0, uint64_t{1} << 48}},
    {"fabric_max_operation", {0, 0, uint64_t{1} << 48}},
    {"rdma_endpoints", {1'024, 1, 1'000'000}},
    {"rdma_inbound_endpoints", {4'096, 1, 1'000'000}},
    {"rdma_spin_us", {100, 0, 1'000'000}},
    {"rdma_max_registration", {0, 0, uint64_t{1} << 48}},
};
const std::set<std::string> kTexts = {"tcp_zero_copy", "fabric_library", "fabric_addresses",
                                      "rdma_library"};

TEST(TransportSettings, AreThoseThatAreDocumented) {
  std::map<std::string, Limits> numbers;
  std::set<std::string> texts;
  for (const Setting* setting : transport_settings()) {
    EXPECT_FALSE(setting->help.empty()) << setting->name;
    const std::string name(setting->name);
    if (const auto* number = std::get_if<Setting::Number>(&setting->kind)) {
      EXPECT_TRUE(numbers.emplace(name, Limits{number->standard, number->min, number->max}).second)
          << name << " is there twice";
    } else {
      EXPECT_TRUE(texts.insert(name).second) << name << " is there twice";
    }
  }
  EXPECT_EQ(numbers, kNumbers);
  EXPECT_EQ(texts, kTexts);
}

TEST(TransportSettings, AreReadWithinTheirLimits) {
  const char* const nothing[] = {nullptr};
  const auto load = [&](const std::string& name, uint64_t value) {
    return Config::load({{name, std::to_string(value)}}, transport_settings(), nothing);
  };
  for (const Setting* setting : transport_settings()) {
    const auto found = kNumbers.find(std::string(setting->name));
    if (found == kNumbers.end()) continue;
    const auto& [name, limits] = *found;
    EXPECT_EQ(Config().number(*setting), limits.standard) << name;
    for (const uint64_t value : {limits.min, limits.max}) {
      const Result<Config> config = load(name, value);
      ASSERT_TRUE(config.ok()) << config.status().to_string();
      EXPECT_EQ(config->number(*setting), value) << name;
    }
    EXPECT_FALSE(load(name, limits.max + 1).ok()) << name;
    if (limits.min > 0) {
      EXPECT_FALSE(load(name, limits.min - 1).ok()) << name;
    }
  }
}

}  // namespace
}  // namespace te
