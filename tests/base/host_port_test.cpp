#include <gtest/gtest.h>

#include "base/socket.h"

namespace te {
namespace {

struct Good {
  const char* text;
  const char* host;
  int port;  // -1: none
};

TEST(HostPort, Parses) {
  const Good cases[] = {
      {"10.0.0.1", "10.0.0.1", -1},
      {"10.0.0.1:80", "10.0.0.1", 80},
      {"node-1.rack_2.example:65535", "node-1.rack_2.example", 65535},
      {"localhost:0", "localhost", 0},
      {"h:007", "h", 7},
      {"::1", "::1", -1},
      {"2001:db8::8:800:200c:417a", "2001:db8::8:800:200c:417a", -1},
      {"::ffff:10.0.0.1", "::ffff:10.0.0.1", -1},
      {"fe80::1%eth0", "fe80::1%eth0", -1},
      {"[::1]", "::1", -1},
      {"[::1]:80", "::1", 80},
      {"[fe80::1%eth0]:80", "fe80::1%eth0", 80},
  };
  for (const Good& good : cases) {
    const Result<HostPort> parsed = parse_host_port(good.text);
    ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
    EXPECT_EQ(parsed->host, good.host) << good.text;
    EXPECT_EQ(parsed->has_port, good.port >= 0) << good.text;
    EXPECT_EQ(parsed->port, good.port >= 0 ? good.port : 0) << good.text;
  }
}

TEST(HostPort, RefusesWhatIsNoAddress) {
  for (const char* text : {"",
                           ":",
                           ":80",
                           "[]",
                           "[]:80",
                           "[",
                           "]",
                           "[::1",
                           "[::1]80",
                           "[::1]:",
                           "[::1]x:80",
                           "h:",
                           "h:x",
                           "h:-1",
                           "h:+1",
                           "h:65536",
                           "h:99999999999",
                           "h: 80",
                           "h:80 ",
                           "h:0x50",
                           "a:b:c",
                           "10.0.0.1:80:90",
                           "::1]:80",
                           "[::1]]:80",
                           "[[::1]]:80",
                           "[node]:80",
                           "1:2:3:4:5:6:7:8:9",
                           "fe80::1%",
                           "[fe80::1%]:80",
                           "a[b:80",
                           "a]b"}) {
    const Result<HostPort> parsed = parse_host_port(text);
    ASSERT_FALSE(parsed.ok()) << "'" << text << "' gave '" << parsed->host << "'";
    EXPECT_EQ(parsed.code(), Code::kInvalidArgument) << text;
    EXPECT_NE(parsed.status().message().find("'" + std::string(text) + "'"), std::string::npos)
        << parsed.status().message();
  }
}

TEST(HostPort, JoinedTextIsParsedBack) {
  EXPECT_EQ(join_host_port("10.0.0.1", 80), "10.0.0.1:80");
  EXPECT_EQ(join_host_port("::1", 0), "[::1]:0");
  for (const char* host : {"10.0.0.1", "::1", "fe80::1%eth0", "a.b"}) {
    for (const uint16_t port : {0, 1, 65535}) {
      const Result<HostPort> parsed = parse_host_port(join_host_port(host, port));
      ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
      EXPECT_EQ(parsed->host, host);
      EXPECT_EQ(parsed->port, port);
      EXPECT_TRUE(parsed->has_port);
    }
  }
}

TEST(HostPort, NumericAddressesAreTold) {
  EXPECT_TRUE(is_numeric_address("127.0.0.1"));
  EXPECT_TRUE(is_numeric_address("::1"));
  EXPECT_TRUE(is_numeric_address("fe80::1%eth0"));
  EXPECT_FALSE(is_numeric_address("localhost"));
  EXPECT_FALSE(is_numeric_address("127.0.0.256"));
  EXPECT_FALSE(is_numeric_address(""));
}

}  // namespace
}  // namespace te
