// Certificates, their authority and shared secrets for small clusters and tests, as PEM text.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "transfer_engine/status.h"

struct x509_st;
struct evp_pkey_st;

namespace te::tool {

struct Issued {
  std::string certificate;
  std::string key;
};

class Authority {
 public:
  struct Request {
    std::string name;                     // of the subject; empty: it has none
    std::vector<std::string> names = {};  // "DNS:host", "URI:spiffe://...", "IP:address"
    int64_t begins_s = -60;               // from now
    int64_t ends_s = 365 * 86'400;
  };

  static Result<Authority> make(const std::string& name, int64_t valid_s = 10 * 365 * 86'400);
  static Result<Authority> load(const std::string& certificate, const std::string& key);

  std::string certificate() const;
  std::string key() const;
  // For both sides of a connection. kInvalidArgument: a name that is none.
  Result<Issued> issue(const Request& request) const;
  // A list that revokes these certificates.
  Result<std::string> revoke(const std::vector<std::string>& certificates) const;

 private:
  std::shared_ptr<x509_st> certificate_;
  std::shared_ptr<evp_pkey_st> key_;
};

// A line for tls_psk_file.
Result<std::string> make_secret();
// How an engine that has the secret is called in tls_policy and in logs: safe to show.
Result<std::string> name_of_secret(const std::string& line);

}  // namespace te::tool
