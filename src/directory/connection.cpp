#include "directory/connection.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/log.h"

namespace te {
namespace {

constexpr size_t kMaxConnectionBytes = 4096;
constexpr size_t kMaxEndpoints = 32;
constexpr size_t kMaxHostBytes = 255;
constexpr size_t kMaxPrintedBytes = 120;
constexpr uint16_t kEtcdPort = 2379;
constexpr uint16_t kRedisPort = 6379;
constexpr uint16_t kHttpPort = 80;
constexpr uint16_t kHttpsPort = 443;
constexpr std::string_view kDefaultPath = "/metadata";
constexpr std::string_view kUnderstood =
    "understood are 'P2PHANDSHAKE', 'etcd://host:port[,host:port]' or 'host:port' (etcd), "
    "'redis://[:password@]host:port[/db]' and 'http://host:port/path', and with TLS 'etcds://', "
    "'rediss://' and 'https://'";

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i]);
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_digit(text[i + 1]);
    const int low = hex_digit(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return out;
}

// `default_port` 0: the port must be given.
Result<HostPort> parse_endpoint(std::string_view text, uint16_t default_port) {
  if (text.empty() || text.front() == ':') {
    return error(Code::kInvalidArgument, "there is no host in it; {}", kUnderstood);
  }
  const bool plain =
      std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (!plain || text.size() > kMaxHostBytes + sizeof("[]:65535")) {
    return error(Code::kInvalidArgument, "'{}' is not 'host:port'", printable(text));
  }
  Result<HostPort> endpoint = parse_host_port(text);
  if (!endpoint.ok()) return endpoint.status();
  if (!is_host(endpoint->host)) {
    return error(Code::kInvalidArgument, "'{}' is not a host name or an address",
                 printable(endpoint->host));
  }
  if (!endpoint->has_port) {
    if (default_port == 0) {
      return error(Code::kInvalidArgument, "'{}' has no port; {}", printable(text), kUnderstood);
    }
    endpoint->port = default_port;
    endpoint->has_port = true;
  }
  if (endpoint->port == 0) {
    return error(Code::kInvalidArgument, "port 0 in '{}' cannot be connected to", printable(text));
  }
  return endpoint;
}

Result<Connection> parse_etcd(std::string_view rest, uint16_t default_port, bool tls) {
  Connection connection;
  connection.kind = DirectoryKind::kEtcd;
  connection.tls = tls;
  if (rest.find('@') != std::string_view::npos) {
    return Status(Code::kInvalidArgument,
                  "an etcd address holds no user and no password: give them by the settings "
                  "directory_user and directory_password_file");
  }
  if (rest.find("://") != std::string_view::npos) {
    return Status(Code::kInvalidArgument,
                  "the endpoints of etcd are 'host:port': give 'etcd://host:port,host:port', or "
                  "'etcds://' for TLS");
  }
  while (true) {
    const size_t comma = rest.find(',');
    Result<HostPort> endpoint = parse_endpoint(rest.substr(0, comma), default_port);
    if (!endpoint.ok()) return endpoint.status();
    connection.endpoints.push_back(endpoint.take());
    if (connection.endpoints.size() > kMaxEndpoints) {
      return error(Code::kInvalidArgument, "more than {} endpoints in the metadata address",
                   kMaxEndpoints);
    }
    if (comma == std::string_view::npos) return connection;
    rest.remove_prefix(comma + 1);
  }
}

// "user:password" or ":password", percent-encoded. No part of it may reach an error.
Status parse_credentials(std::string_view text, Connection* connection) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    return Status(Code::kInvalidArgument,
                  "the redis address has an '@' without a password: write "
                  "'redis://:password@host:port', with ':' before the password, or use the "
                  "settings directory_user and directory_password_file");
  }
  const std::optional<std::string> user = percent_decode(text.substr(0, colon));
  std::optional<std::string> password = percent_decode(text.substr(colon + 1));
  if (!user || !password) {
    return Status(Code::kInvalidArgument,
                  "the redis user or password has a '%' that is not followed by two hexadecimal "
                  "digits: write '%' itself as '%25'");
  }
  if (!user->empty() && password->empty()) {
    return Status(Code::kInvalidArgument, "the redis address names a user without a password");
  }
  connection->user = *user;
  connection->password = Secret(*password);
  cleanse(*password);
  return {};
}

Result<Connection> parse_redis(std::string_view rest, bool tls) {
  Connection connection;
  connection.kind = DirectoryKind::kRedis;
  connection.tls = tls;
  // The last '@': a password in which '@' or '/' was not encoded must not end up in an error.
  if (const size_t at = rest.rfind('@'); at != std::string_view::npos) {
    TE_RETURN_IF_ERROR(parse_credentials(rest.substr(0, at), &connection));
    rest.remove_prefix(at + 1);
  }
  const size_t slash = rest.find('/');
  Result<HostPort> endpoint = parse_endpoint(rest.substr(0, slash), kRedisPort);
  if (!endpoint.ok()) return endpoint.status();
  connection.endpoints.push_back(endpoint.take());
  if (slash == std::string_view::npos || slash + 1 == rest.size()) return connection;

  const std::string_view database = rest.substr(slash + 1);
  const char* const end = database.data() + database.size();
  const auto [stop, ec] = std::from_chars(database.data(), end, connection.database);
  if (ec != std::errc() || stop != end) {
    return error(Code::kInvalidArgument,
                 "'{}' is not a redis database: give its number, such as 'redis://host:port/2'",
                 printable(database));
  }
  return connection;
}

Result<Connection> parse_http(std::string_view rest, bool tls) {
  Connection connection;
  connection.kind = DirectoryKind::kHttp;
  connection.tls = tls;
  if (rest.find('@') != std::string_view::npos) {
    return Status(Code::kInvalidArgument,
                  "the address of an HTTP metadata server holds no user and no password: give them "
                  "by the settings directory_user and directory_password_file, or "
                  "directory_token_file, and write '%40' for '@' in the path");
  }
  const size_t slash = rest.find('/');
  Result<HostPort> endpoint = parse_endpoint(rest.substr(0, slash), tls ? kHttpsPort : kHttpPort);
  if (!endpoint.ok()) return endpoint.status();
  connection.endpoints.push_back(endpoint.take());
  connection.path = slash == std::string_view::npos ? kDefaultPath : rest.substr(slash);
  const bool plain = std::all_of(connection.path.begin(), connection.path.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '?' && c != '#' && c != '"' && c != '\\';
  });
  if (!plain) {
    return error(Code::kInvalidArgument,
                 "the path '{}' of the HTTP metadata server has a space, '?', '#' or another "
                 "character that must be percent-encoded",
                 printable(connection.path));
  }
  return connection;
}

Result<Connection> parse_by_scheme(std::string_view text) {
  const size_t separator = text.find("://");
  if (separator == std::string_view::npos) return parse_etcd(text, 0, false);
  const std::string_view scheme = text.substr(0, separator);
  const std::string_view rest = text.substr(separator + 3);
  if (scheme == "etcd") return parse_etcd(rest, kEtcdPort, false);
  if (scheme == "etcds") return parse_etcd(rest, kEtcdPort, true);
  if (scheme == "redis") return parse_redis(rest, false);
  if (scheme == "rediss") return parse_redis(rest, true);
  if (scheme == "http") return parse_http(rest, false);
  if (scheme == "https") return parse_http(rest, true);
  // Text before "://" that holds an '@' or a ':' may be part of a password.
  const bool shown = std::all_of(scheme.begin(), scheme.end(),
                                 [](char c) { return is_alphanumeric(c) || c == '+'; });
  return error(Code::kInvalidArgument, "the scheme{} is unknown; {}",
               shown ? fmt::format(" '{}://'", printable(scheme)) : "", kUnderstood);
}

}  // namespace

std::string Connection::endpoint_list() const {
  std::string list;
  for (const HostPort& endpoint : endpoints) {
    if (!list.empty()) list += ',';
    list += join_host_port(endpoint.host, endpoint.port);
  }
  return list;
}

bool is_host(std::string_view text) {
  return !text.empty() && text.size() <= kMaxHostBytes && text.front() != '-' &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return is_alphanumeric(c) || c == '.' || c == '-' || c == '_' || c == ':' || c == '%';
         });
}

std::string printable(std::string_view text) {
  std::string out(text.substr(0, kMaxPrintedBytes));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < ' ' || c >= 0x7f; }, '?');
  if (text.size() > kMaxPrintedBytes) out += "...";
  return out;
}

Result<Connection> parse_connection(std::string_view text) {
  if (text == "P2PHANDSHAKE") return Connection{};
  if (text.empty())
    return error(Code::kInvalidArgument, "the metadata address is empty; {}", kUnderstood);
  if (text.size() > kMaxConnectionBytes) {
    return error(Code::kInvalidArgument,
                 "the metadata address has {} bytes; at most {} are allowed", text.size(),
                 kMaxConnectionBytes);
  }
  Result<Connection> connection = parse_by_scheme(text);
  if (!connection.ok()) return connection.status().with_context("metadata address");
  return connection;
}

}  // namespace te
