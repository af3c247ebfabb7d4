#include "directory/credentials.h"

#include <utility>

#include "base/log.h"
#include "directory/base64.h"

namespace te {
namespace {

// Of a setting or a file. What a header or a command cannot hold is refused without showing it.
Result<Secret> secret_of(const Secret& given, std::string_view file_setting,
                         const std::string& path) {
  if (given.empty()) return read_secret(file_setting, path);
  if (given.view().find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
    return error(Code::kInvalidArgument, "the secret beside {} has a line break or a NUL in it",
                 file_setting);
  }
  return given;
}

Secret joined(std::string_view before, std::string_view secret) {
  std::string text;
  text.reserve(before.size() + secret.size());  // no copy is left behind
  text.append(before).append(secret);
  Secret result(text);
  cleanse(text);
  return result;
}

Status check_tls(const Connection& connection, const DirectoryTls& tls) {
  const bool has_files = !tls.directory_tls_ca.empty() || !tls.directory_tls_cert.empty() ||
                         !tls.directory_tls_key.empty();
  if (has_files && !connection.tls) {
    return error(
        Code::kInvalidArgument,
        "directory_tls_ca, directory_tls_cert or directory_tls_key is set, and the metadata "
        "address is one without TLS; {}",
        kTlsSchemes);
  }
  if (!tls.directory_tls_key.empty() && tls.directory_tls_cert.empty()) {
    return Status(Code::kInvalidArgument, "directory_tls_key is set without directory_tls_cert");
  }
  return {};
}

Status check_login(const Connection& connection, const DirectoryLogin& login,
                   const Credentials& credentials) {
  if (!login.directory_password.empty() && !login.directory_password_file.empty()) {
    return Status(Code::kInvalidArgument,
                  "directory_password and directory_password_file are both set: give one");
  }
  if (!login.directory_token.empty() && !login.directory_token_file.empty()) {
    return Status(Code::kInvalidArgument,
                  "directory_token and directory_token_file are both set: give one");
  }
  if (!credentials.user().empty() && !credentials.has_password()) {
    return Status(Code::kInvalidArgument,
                  "directory_user is set without directory_password_file or directory_password");
  }
  const bool redis = connection.kind == DirectoryKind::kRedis;
  if (credentials.has_password() && credentials.user().empty() && !redis) {
    return Status(Code::kInvalidArgument,
                  "a password of the metadata server is set without directory_user");
  }
  if (!credentials.has_token()) return {};
  if (connection.kind != DirectoryKind::kHttp) {
    return Status(
        Code::kInvalidArgument,
        "directory_token and directory_token_file are for HTTP metadata servers: etcd and "
        "redis take directory_user and directory_password_file");
  }
  if (!credentials.has_password()) return {};
  return Status(Code::kInvalidArgument,
                "a token and a password of the metadata server are both set: give one");
}

bool all_loopback(const Connection& connection) {
  for (const HostPort& endpoint : connection.endpoints) {
    if (endpoint.host == "localhost") continue;
    if (!is_numeric_address(endpoint.host)) return false;
    const Result<std::vector<SocketAddress>> address = resolve_host(endpoint.host, endpoint.port);
    if (!address.ok() || !is_loopback(address->front().get())) return false;
  }
  return true;
}

}  // namespace

Status check_security(const Connection& connection, const DirectoryTls& tls,
                      const DirectoryLogin& login) {
  TE_RETURN_IF_ERROR(check_tls(connection, tls));
  const Credentials credentials(connection, login);
  TE_RETURN_IF_ERROR(check_login(connection, login, credentials));
  const bool secret = credentials.has_password() || credentials.has_token();
  if (secret && !connection.tls && !all_loopback(connection)) {
    warn_once(
        fmt::format("the password or token for the metadata server at {} crosses the network "
                    "unencrypted; {}",
                    connection.endpoint_list(), kTlsSchemes));
  }
  return {};
}

Credentials::Credentials(const Connection& connection, DirectoryLogin login)
    : login_(std::move(login)) {
  if (connection.password.empty()) return;
  login_.directory_user = connection.user;
  login_.directory_password = connection.password;
  login_.directory_password_file.clear();
}

bool Credentials::has_password() const {
  return !login_.directory_password.empty() || !login_.directory_password_file.empty();
}

bool Credentials::has_token() const {
  return !login_.directory_token.empty() || !login_.directory_token_file.empty();
}

Result<Secret> Credentials::password() const {
  return secret_of(login_.directory_password, "directory_password_file",
                   login_.directory_password_file);
}

Result<Secret> Credentials::authorization() const {
  if (has_token()) {
    const Result<Secret> token =
        secret_of(login_.directory_token, "directory_token_file", login_.directory_token_file);
    if (!token.ok()) return token;
    return joined("Bearer ", token->view());
  }
  if (!has_password()) return Secret();
  const Result<Secret> password = this->password();
  if (!password.ok()) return password;
  const Secret pair = joined(user() + ":", password->view());
  std::string encoded = base64_encode(pair.view());
  Secret header = joined("Basic ", encoded);
  cleanse(encoded);
  return header;
}

}  // namespace te
