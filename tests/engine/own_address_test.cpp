#include "engine/own_address.h"

#include <gtest/gtest.h>

#include <map>

#include "engine/pair.h"

namespace te::test {
namespace {

constexpr char kLinkLocal[] = "fe80::aa";

// A machine with two NICs, and a name that /etc/hosts has at the loopback, as Debian does.
Machine machine() {
  Machine result;
  result.interfaces = {{"lo", "127.0.0.1", true, true},     {"lo", "::1", true, true},
                       {"down0", "10.9.0.1", false, false}, {"eth0", "fe80::aa%eth0", true, false},
                       {"eth0", "fd77::1", true, false},    {"eth0", "10.0.0.1", true, false},
                       {"eth1", "10.0.1.2", true, false},   {"eth1", "fd77::2", true, false}};
  result.name = "node7";
  result.look_up_hosts_file = [](const std::string& name) -> std::vector<std::string> {
    if (name == "node7") return {"127.0.1.1"};
    if (name == "second") return {"10.0.1.2"};
    if (name == "other") return {"10.5.5.5"};
    return {};
  };
  result.resolve = [](const std::string& name) -> Result<std::vector<std::string>> {
    const std::map<std::string, std::vector<std::string>> known = {
        {"node7", {"127.0.1.1"}},
        {"second", {"10.0.1.2"}},
        {"both", {"10.5.5.5", "10.0.1.2"}},
        {"by-dns", {"::1", "fd77::2"}},
        {"other", {"10.5.5.5"}}};
    const auto found = known.find(name);
    if (found == known.end()) return Status(Code::kUnavailable, "no such host");
    return found->second;
  };
  return result;
}

// Asks no name server: a test that does fails.
Machine without_name_servers() {
  Machine result = machine();
  result.resolve = [](const std::string& name) -> Result<std::vector<std::string>> {
    ADD_FAILURE() << "a name server is asked about " << name;
    return Status(Code::kUnavailable, "no such host");
  };
  return result;
}

AddressWish wish(const std::string& host, const std::string& name = "a-segment") {
  AddressWish result;
  result.host = host;
  result.name = name;
  return result;
}

AddressWish only_name(const std::string& name, bool is_address) {
  AddressWish result;
  result.name = name;
  result.name_is_address = is_address;
  return result;
}

AddressWish configured(const std::string& advertise, const std::string& bind,
                       const std::string& host = "") {
  AddressWish result;
  result.advertise_address = advertise;
  result.bind_address = bind;
  result.host = host;
  return result;
}

struct Right {
  AddressWish wish;
  std::string advertised;
  std::string bind = "";
};

void expect_right(const std::vector<Right>& cases, const Machine& on) {
  for (const auto& [asked, advertised, bind] : cases) {
    SCOPED_TRACE(testing::Message()
                 << "name '" << asked.name << "', host '" << asked.host << "', advertise '"
                 << asked.advertise_address << "', bind '" << asked.bind_address << "'");
    const Result<OwnAddress> chosen = choose_own_address(asked, on);
    ASSERT_TRUE(chosen.ok()) << chosen.status().to_string();
    EXPECT_EQ(chosen->advertised, advertised);
    EXPECT_EQ(chosen->bind, bind);
  }
}

struct Wrong {
  AddressWish wish;
  std::vector<std::string> says;
};

void expect_wrong(const std::vector<Wrong>& cases, const Machine& on) {
  for (const auto& [asked, says] : cases) {
    const Result<OwnAddress> chosen = choose_own_address(asked, on);
    ASSERT_FALSE(chosen.ok()) << "'" << asked.host << asked.name << "' gave " << chosen->advertised;
    EXPECT_EQ(chosen.code(), Code::kInvalidArgument);
    for (const std::string& part : says) {
      EXPECT_NE(chosen.status().message().find(part), std::string::npos)
          << "no '" << part << "' in: " << chosen.status().message();
    }
  }
}

TEST(OwnAddress, AHostOfThisMachineIsAdvertised) {
  expect_right({{wish("10.0.0.1"), "10.0.0.1"},
                {wish("10.0.1.2"), "10.0.1.2"},
                {wish("10.0.1.2:4000"), "10.0.1.2"},
                {wish("fd77::2"), "fd77::2"},
                {wish("[fd77::2]"), "fd77::2"},
                {wish("[FD77:0:0::2]:80"), "fd77::2"},
                {wish("::ffff:10.0.1.2"), "10.0.1.2"},
                {wish("127.0.0.1"), "127.0.0.1"},
                {wish("127.9.9.9"), "127.9.9.9"},
                {wish("::1"), "::1"},
                {wish("localhost"), "127.0.0.1"},
                {wish("second"), "10.0.1.2"},
                {wish("both"), "10.0.1.2"},
                {wish("by-dns"), "fd77::2"},
                {wish("fe80::aa%eth0"), "fe80::aa%eth0"}},
               machine());
}

TEST(OwnAddress, AHostThatIsNotOfThisMachineIsAnError) {
  expect_wrong(
      {{wish("10.9.9.9"),
        {"host '10.9.9.9' is not an address of this machine", "10.0.0.1 (eth0)", "fd77::2 (eth1)",
         "advertise_address"}},
       {wish("fd77::99"), {"host 'fd77::99'", "10.0.1.2 (eth1)"}},
       {wish("other"), {"host 'other' is 10.5.5.5, which is not an address of this machine"}},
       {wish("no-such-name"), {"host 'no-such-name' cannot be resolved", "10.0.0.1"}},
       {wish("?? !"), {"host '?? !'"}},
       {wish("[fd77::2"), {"host", "'[fd77::2'"}},
       {wish("1:2:3"), {"host", "'1:2:3'"}},
       {wish(kLinkLocal), {"link-local", "fe80::aa%eth0"}},
       {wish("fe80::aa%eth9"), {"host 'fe80::aa%eth9' is not an address of this machine"}},
       {wish("fe80::bb%eth0"), {"host 'fe80::bb%eth0'"}}},
      machine());
}

// The Rust API has one text for both; DESIGN's example calls its segment "target-seg".
TEST(OwnAddress, ANameNeedNotBeAnAddress) {
  for (const bool same_as_host : {false, true}) {
    for (const bool directory : {false, true}) {
      std::vector<Right> cases = {{only_name("target-seg", !directory), "10.0.0.1"},
                                  {only_name("node7", !directory), "10.0.0.1"},
                                  {only_name("second", !directory), "10.0.1.2"},
                                  {only_name("10.0.1.2", !directory), "10.0.1.2"},
                                  {only_name("10.0.1.2:77", !directory), "10.0.1.2"},
                                  {only_name("[fd77::2]:77", !directory), "fd77::2"},
                                  {only_name("127.0.0.1", !directory), "127.0.0.1"},
                                  {only_name("localhost:5", !directory), "127.0.0.1"}};
      if (directory) {
        cases.push_back({only_name("a:b:c", false), "10.0.0.1"});
        cases.push_back({only_name("[model", false), "10.0.0.1"});
        cases.push_back({only_name("other", false), "10.0.0.1"});
      }
      Machine on = without_name_servers();
      for (Right& each : cases) {
        if (same_as_host) each.wish.host = each.wish.name;
      }
      expect_right(cases, on);
    }
  }
  expect_right({{only_name("10.9.9.9", false), "10.0.0.1"}}, without_name_servers());
}

TEST(OwnAddress, ANameThatHasToBeAnAddressOfThisMachineIsChecked) {
  AddressWish same = only_name("10.9.9.9", false);
  same.host = same.name;
  expect_wrong({{only_name("10.9.9.9:80", true), {"name '10.9.9.9:80' is not an address"}},
                {same, {"name '10.9.9.9' is not an address of this machine"}},
                {only_name("other", true), {"'other' is 10.5.5.5"}},
                {only_name("[fd77::2", true), {"name", "'[fd77::2'"}},
                {only_name("fe80::aa", true), {"link-local"}}},
               without_name_servers());
}

TEST(OwnAddress, WhatStandsForAllIsFoundOut) {
  for (const char* host : {"", "0.0.0.0", "::", "[::]:0", "node7"}) {
    expect_right({{wish(host), "10.0.0.1"}}, machine());
  }
  Machine on = machine();
  on.towards_directory = "10.0.1.2";
  expect_right({{wish(""), "10.0.1.2"}, {wish("10.0.0.1"), "10.0.0.1"}}, on);
  on.towards_directory.clear();
  std::erase_if(on.interfaces, [](const InterfaceAddress& each) {
    return each.address.find('.') != std::string::npos;
  });
  expect_right({{wish(""), "fd77::1"}}, on);
  on.interfaces.clear();
  expect_right({{wish(""), "127.0.0.1"}}, on);
}

TEST(OwnAddress, WhereItListensIsAdvertised) {
  expect_right({{configured("", "10.0.1.2"), "10.0.1.2", "10.0.1.2"},
                {configured("", "[fd77::2]"), "fd77::2", "fd77::2"},
                {configured("", "second"), "10.0.1.2", "10.0.1.2"},
                {configured("", "127.0.0.1"), "127.0.0.1", "127.0.0.1"},
                {configured("", "localhost"), "127.0.0.1", "127.0.0.1"},
                {configured("", "fe80::aa%eth0"), "fe80::aa%eth0", "fe80::aa%eth0"},
                {configured("", "10.0.1.2", "10.0.1.2"), "10.0.1.2", "10.0.1.2"},
                {configured("", "0.0.0.0"), "10.0.0.1", "0.0.0.0"},
                {configured("", "::"), "10.0.0.1", "::"},
                {configured("", "0.0.0.0", "10.0.1.2"), "10.0.1.2", "0.0.0.0"},
                {configured("", "::", "fd77::2"), "fd77::2", "::"}},
               machine());
  AddressWish labelled = configured("", "10.0.1.2");
  labelled.name = "10.0.0.1";  // no more than a label here
  expect_right({{labelled, "10.0.1.2", "10.0.1.2"}}, machine());
  expect_wrong({{configured("", "10.9.9.9"), {"bind_address '10.9.9.9'", "10.0.0.1 (eth0)"}},
                {configured("", "other"), {"bind_address 'other' is 10.5.5.5"}},
                {configured("", "10.0.1.2:80"), {"bind_address '10.0.1.2:80' has a port"}},
                {configured("", "no such"), {"bind_address 'no such'"}},
                {configured("", kLinkLocal), {"link-local", "fe80::aa%eth0"}},
                {configured("", "10.0.1.2", "10.0.0.1"),
                 {"host '10.0.0.1'", "bind_address '10.0.1.2'", "advertise_address"}},
                {configured("", "0.0.0.0", "fd77::2"), {"'fd77::2'", "'0.0.0.0'"}},
                {configured("", "127.0.0.1", "10.0.0.1"), {"exclude each other"}}},
               machine());
}

TEST(OwnAddress, WhatIsConfiguredIsAdvertisedIfItCanBeAnAddress) {
  expect_right({{configured("203.0.113.7", ""), "203.0.113.7"},
                {configured("fd99::1", ""), "fd99::1"},
                {configured("[fd99::1]", ""), "fd99::1"},
                {configured("gateway-1.example_2.net", ""), "gateway-1.example_2.net"},
                {configured("203.0.113.7", "10.0.1.2"), "203.0.113.7", "10.0.1.2"},
                {configured("203.0.113.7", "", "no-such-name"), "203.0.113.7"},
                {configured("203.0.113.7", "", "10.9.9.9"), "203.0.113.7"},
                {configured("fe80::cc%eth5", ""), "fe80::cc%eth5"}},
               without_name_servers());
  for (const char* text :
       {"[[fd99::1]]", "[fd99::1", "[fd99::1]:80", "203.0.113.7:80", "0.0.0.0", "::", "1.2.3",
        "10.0.0.256", "two words", "-a", "a/b", "fe80::cc", "é", "[node]"}) {
    expect_wrong({{configured(text, ""), {"advertise_address"}}}, without_name_servers());
  }
}

TEST(OwnAddress, ThisMachineKnowsItself) {
  const Machine here = this_machine("");
  ASSERT_FALSE(here.interfaces.empty());
  EXPECT_FALSE(here.name.empty());
  for (const InterfaceAddress& each : here.interfaces) {
    if (!each.up) continue;
    const Result<OwnAddress> chosen = choose_own_address(wish(each.address), here);
    EXPECT_TRUE(chosen.ok()) << chosen.status().to_string();
    EXPECT_EQ(chosen->advertised, each.address);
  }
  EXPECT_TRUE(choose_own_address(wish(here.name), here).ok());
}

Result<std::string> endpoint_of(const EngineOptions& options) {
  Result<std::unique_ptr<Engine>> engine = Engine::create(options);
  if (!engine.ok()) return engine.status();
  return (*engine)->local_endpoint();
}

TEST(OwnAddress, AnEngineDoesAsItWasAsked) {
  EngineOptions options;
  options.host = "127.0.0.5";
  const std::unique_ptr<Engine> target = Engine::create(options).take();
  EXPECT_TRUE(target->local_endpoint().starts_with("127.0.0.5:"));
  options = {};
  options.config = {{"bind_address", "127.0.0.6"}};
  const std::unique_ptr<Engine> bound = Engine::create(options).take();
  EXPECT_TRUE(bound->local_endpoint().starts_with("127.0.0.6:"));
  EXPECT_TRUE(target->open_segment(bound->local_endpoint()).ok());
  options.config = {{"bind_address", "127.0.0.6"}, {"advertise_address", "[fd77::2]"}};
  const Result<std::string> forwarded = endpoint_of(options);
  ASSERT_TRUE(forwarded.ok()) << forwarded.status().to_string();
  EXPECT_TRUE(forwarded->starts_with("[fd77::2]:")) << *forwarded;
  options.config = {{"advertise_address", "[[fd77::2]]"}};
  EXPECT_TRUE(fails_with(endpoint_of(options), Code::kInvalidArgument, "advertise_address"));
  options = {};
  options.host = "192.0.2.77";
  EXPECT_TRUE(fails_with(endpoint_of(options), Code::kInvalidArgument, "host '192.0.2.77'"));
  options.host = "no-such-name.invalid";
  EXPECT_TRUE(fails_with(endpoint_of(options), Code::kInvalidArgument, "cannot be resolved"));
}

}  // namespace
}  // namespace te::test
