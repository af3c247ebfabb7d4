#include "directory/connection.h"

#include <gtest/gtest.h>

#include "directory/directory.h"
#include "directory/http_client.h"

namespace te {
namespace {

TEST(Connection, P2p) {
  const Result<Connection> connection = parse_connection("P2PHANDSHAKE");
  ASSERT_TRUE(connection.ok());
  EXPECT_EQ(connection->kind, DirectoryKind::kP2p);
  EXPECT_TRUE(connection->endpoints.empty());
}

TEST(Connection, Etcd) {
  for (const char* text :
       {"etcd://10.0.0.1:2379,[::1]:23,host", "10.0.0.1:2379,[::1]:23,host:2379"}) {
    const Result<Connection> connection = parse_connection(text);
    ASSERT_TRUE(connection.ok()) << connection.status().to_string();
    EXPECT_EQ(connection->kind, DirectoryKind::kEtcd);
    EXPECT_EQ(connection->endpoint_list(), "10.0.0.1:2379,[::1]:23,host:2379");
  }
}

TEST(Connection, Redis) {
  const Result<Connection> plain = parse_connection("redis://host");
  ASSERT_TRUE(plain.ok()) << plain.status().to_string();
  EXPECT_EQ(plain->kind, DirectoryKind::kRedis);
  EXPECT_EQ(plain->endpoint_list(), "host:6379");
  EXPECT_EQ(plain->password.view(), "");
  EXPECT_EQ(plain->database, 0u);

  const Result<Connection> full = parse_connection("redis://me:p%40s%2Fs%25@[fe80::1]:7000/12");
  ASSERT_TRUE(full.ok()) << full.status().to_string();
  EXPECT_EQ(full->user, "me");
  EXPECT_EQ(full->password.view(), "p@s/s%");
  EXPECT_EQ(full->endpoint_list(), "[fe80::1]:7000");
  EXPECT_EQ(full->database, 12u);

  // What should have been encoded still is the password.
  EXPECT_EQ(parse_connection("redis://:a@b/c:d@h:1")->password.view(), "a@b/c:d");
}

TEST(Connection, Http) {
  const Result<Connection> plain = parse_connection("http://host:8080");
  ASSERT_TRUE(plain.ok()) << plain.status().to_string();
  EXPECT_EQ(plain->path, "/metadata");
  EXPECT_FALSE(plain->tls);
  const Result<Connection> tls = parse_connection("https://host/a/b");
  ASSERT_TRUE(tls.ok()) << tls.status().to_string();
  EXPECT_EQ(tls->endpoint_list(), "host:443");
  EXPECT_EQ(tls->path, "/a/b");
  EXPECT_TRUE(tls->tls);
  EXPECT_EQ(http_origin({"fe80::1%eth0", 80, true}, false), "http://[fe80::1%25eth0]:80");
}

struct BadConnection {
  std::string text;
  const char* says;
};

TEST(Connection, WhatIsNotUnderstoodIsExplained) {
  const BadConnection cases[] = {
      {"", "is empty"},
      {"p2phandshake", "no port"},
      {"somehost", "no port"},
      {"ftp://host:1", "'ftp://' is unknown"},
      {"etcd://", "no host"},
      {"etcd://a:1,", "no host"},
      {"etcd://a:1,,b:2", "no host"},
      {"etcd://a:0", "port 0"},
      {"etcd://a:99999", "99999"},
      {"etcd://a:1/path", "not a port"},
      {"etcd://https://a:1", "'etcds://' for TLS"},
      {"etcds://u:p@a:1", "directory_password_file"},
      {"rediss://u@a:1", "directory_password_file"},
      {"etcd://a b:1", "not 'host:port'"},
      {"etcd://a\n:1", "a?:1"},
      {"etcd://[::1:2379", "ipv6"},
      {"redis://", "no host"},
      {"http://", "no host in it"},
      {"https://:443/m", "no host in it"},
      {"redis://h:1/x", "database"},
      {"redis://h:1/-1", "database"},
      {"redis://h:1/1/2", "database"},
      {"redis://h:1/99999999999", "database"},
      {"redis://:a%4@h:1", "'%'"},
      {"redis://:a%zz@h:1", "'%'"},
      {"redis://user:@h:1", "without a password"},
      {"http:///metadata", "no host"},
      {"http://h:1/a?b=c", "percent-encoded"},
      {"http://h:1/a b", "percent-encoded"},
      {"http://h:1/a#b", "percent-encoded"},
      {"http://" + std::string(300, 'a') + "/m", "not 'host:port'"},
      {std::string(5000, 'a'), "5000 bytes"},
  };
  for (const BadConnection& bad : cases) {
    const Result<Connection> connection = parse_connection(bad.text);
    ASSERT_FALSE(connection.ok()) << bad.text;
    EXPECT_EQ(connection.code(), Code::kInvalidArgument) << bad.text;
    EXPECT_NE(connection.status().message().find(bad.says), std::string::npos)
        << bad.text << " -> " << connection.status().message();
  }
}

TEST(Connection, TlsIsPartOfTheScheme) {
  const Result<Connection> etcd = parse_connection("etcds://a,b:1");
  ASSERT_TRUE(etcd.ok()) << etcd.status().to_string();
  EXPECT_TRUE(etcd->tls);
  EXPECT_EQ(etcd->endpoint_list(), "a:2379,b:1");
  const Result<Connection> redis = parse_connection("rediss://u:p@a/2");
  ASSERT_TRUE(redis.ok()) << redis.status().to_string();
  EXPECT_TRUE(redis->tls);
  EXPECT_EQ(redis->user, "u");
  EXPECT_EQ(redis->database, 2u);
  EXPECT_FALSE(parse_connection("a:1")->tls);
  EXPECT_FALSE(parse_connection("redis://a")->tls);
}

TEST(Connection, TooManyEndpoints) {
  std::string text = "etcd://h:1";
  for (int i = 1; i < 32; ++i) text += ",h:1";
  EXPECT_TRUE(parse_connection(text).ok());
  EXPECT_EQ(parse_connection(text + ",h:1").code(), Code::kInvalidArgument);
}

TEST(Connection, UnknownSchemesListTheKnownOnes) {
  const std::string message = parse_connection("mysql://h:1").status().message();
  for (const char* part :
       {"P2PHANDSHAKE", "etcd://", "redis://", "http://", "https://", "etcds://", "rediss://"}) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  }
}

TEST(Connection, ErrorsNeverShowThePassword) {
  for (const char* text :
       {"redis://hunter2@h:1", "redis://:hunter2@h:bad", "redis://:hunter2%@h:1",
        "redis://:hunter2@h:1/x", "redis://:hunter2/@", "redis://:x/hunter2@h:bad",
        "rediss://:hunter2@h:bad", "etcd://u:hunter2@h:1", "http://u:hunter2@h:1/m",
        "u:hunter2@h:1", ":hunter2@://h:1", "a:hunter2@h", "redis://hunter2:@h:1"}) {
    const Result<Connection> connection = parse_connection(text);
    ASSERT_FALSE(connection.ok()) << text;
    EXPECT_EQ(connection.status().message().find("hunter2"), std::string::npos)
        << connection.status().message();
  }
}

TEST(Connection, OptionsAreChecked) {
  DirectoryOptions options;
  options.timeout = std::chrono::milliseconds(0);
  EXPECT_EQ(open_directory("P2PHANDSHAKE", options).status().code(), Code::kInvalidArgument);
  options = {};
  options.lease = std::chrono::seconds(0);
  EXPECT_EQ(open_directory("P2PHANDSHAKE", options).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace te
