#include <gtest/gtest.h>

#include "directory/directory.h"

namespace te {
namespace {

std::unique_ptr<Directory> open_p2p() {
  Result<std::unique_ptr<Directory>> directory = open_directory("P2PHANDSHAKE", {});
  return directory.ok() ? directory.take() : nullptr;
}

TEST(P2p, TheNameIsTheAddress) {
  const auto directory = open_p2p();
  ASSERT_NE(directory, nullptr);
  const std::pair<const char*, Locator> cases[] = {
      {"10.0.0.1:12345", {"10.0.0.1", 12345, 0}},
      {"[fe80::1%eth0]:1", {"fe80::1%eth0", 1, 0}},
      {"node-7.example:65535", {"node-7.example", 65535, 0}},
  };
  for (const auto& [name, locator] : cases) {
    const Result<Locator> resolved = directory->resolve(name);
    ASSERT_TRUE(resolved.ok()) << resolved.status().to_string();
    EXPECT_EQ(*resolved, locator);
  }
}

TEST(P2p, NamesThatAreNoAddressAreExplained) {
  const auto directory = open_p2p();
  ASSERT_NE(directory, nullptr);
  for (const char* name : {"", "host", "host:", "host:0", "host:65536", "host:-1", "host:12x",
                           ":80", "::1", "[::1]", "[::1]80", "[::1", "a b:80", "a:1\n"}) {
    const Result<Locator> resolved = directory->resolve(name);
    ASSERT_FALSE(resolved.ok()) << name;
    EXPECT_EQ(resolved.code(), Code::kInvalidArgument) << name;
    EXPECT_NE(resolved.status().message().find("'host:port'"), std::string::npos)
        << resolved.status().message();
  }
}

TEST(P2p, PortsThatNobodyHasAreSaidToBeOutOfRange) {
  const auto directory = open_p2p();
  ASSERT_NE(directory, nullptr);
  const std::pair<const char*, const char*> cases[] = {
      {"host:0", "port 0 in 'host:0'"},
      {"127.0.0.1:65536", "port 65536 in '127.0.0.1:65536'"},
      {"[::1]:99999999999", "port 99999999999 in '[::1]:99999999999'"},
  };
  for (const auto& [name, port] : cases) {
    const std::string message = directory->resolve(name).status().message();
    EXPECT_TRUE(message.starts_with(port)) << message;
    EXPECT_NE(message.find("out of range: give 1 to 65535"), std::string::npos) << message;
  }
  // Elsewhere the port is not what is wrong, or not all of it.
  for (const char* name : {"host", "host:12x", "a b:99999", "a:b:99999", "1:2:3:4:5:6:7:8:99999"}) {
    const std::string message = directory->resolve(name).status().message();
    EXPECT_EQ(message.find("out of range"), std::string::npos) << message;
  }
}

TEST(P2p, NothingIsStored) {
  const auto directory = open_p2p();
  ASSERT_NE(directory, nullptr);
  EXPECT_TRUE(directory->publish("anything", {"h", 1, 1}, nullptr).ok());
  EXPECT_TRUE(directory->withdraw("anything").ok());
  EXPECT_EQ(directory->local_address(), "");
  EXPECT_FALSE(directory->describe().empty());
}

}  // namespace
}  // namespace te
