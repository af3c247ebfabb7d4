// Who a directory is to its server: the checked settings, and each secret when it is needed.
//
// A secret in a file is read at each login, so it may be renewed while engines run, and is in
// memory only meanwhile. Threads: any; immutable.
#pragma once

#include <string>

#include "base/options.h"
#include "base/secret.h"
#include "directory/connection.h"
#include "transfer_engine/status.h"

namespace te {

// Whether the settings fit each other and the connection; kInvalidArgument says what to do. Files
// of a TLS connection for one without TLS are an error: it would send in the clear what was meant
// to be protected.
Status check_security(const Connection& connection, const DirectoryTls& tls,
                      const DirectoryLogin& login);

class Credentials {
 public:
  // What the connection string names comes first.
  Credentials(const Connection& connection, DirectoryLogin login);

  bool has_password() const;
  bool has_token() const;
  const std::string& user() const { return login_.directory_user; }
  Result<Secret> password() const;
  // The value of HTTP's Authorization header: of the token, or of user and password. Empty:
  // neither.
  Result<Secret> authorization() const;

 private:
  DirectoryLogin login_;
};

}  // namespace te
