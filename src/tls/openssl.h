// What the files of this folder share of OpenSSL.
#pragma once

#include <openssl/types.h>

#include <string>
#include <vector>

#include "base/secret.h"

namespace te::tls {

// What OpenSSL calls the context of the sessions that secrets stand for.
inline constexpr unsigned char kSecretUse[] = "transfer engine";

// Takes the errors of this thread; the text of the first one.
std::string openssl_error();
// The subject's alternative names: DNS names, URIs and addresses.
std::vector<std::string> names_of(X509* certificate);
// A name for a secret, from which it cannot be found.
std::string secret_id(const Secret& secret);

}  // namespace te::tls
