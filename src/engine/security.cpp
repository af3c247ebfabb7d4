#include "engine/security.h"

#include <initializer_list>
#include <string>
#include <utility>

#include "base/log.h"

namespace te {
namespace {

struct Given {
  const char* name;
  const std::string& value;
};

// The names of those that are set, or of those that are not.
std::string names(std::initializer_list<Given> settings, bool set) {
  std::string result;
  for (const Given& each : settings) {
    if (each.value.empty() == set) continue;
    result += (result.empty() ? "" : ", ") + std::string(each.name);
  }
  return result;
}

bool is_secret_itself(const std::string& value) {
  constexpr size_t kDigits = 64;  // of the shortest secret
  const bool digits = value.size() >= kDigits &&
                      value.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
  return digits || value.find("-----BEGIN") != std::string::npos;
}

}  // namespace

Result<std::shared_ptr<tls::Identity>> load_identity(const Config& config) {
  const std::initializer_list<Given> certificates = {
      {"tls_cert", config.tls_cert}, {"tls_key", config.tls_key}, {"tls_ca", config.tls_ca}};
  const std::initializer_list<Given> of_certificates = {{"tls_cert", config.tls_cert},
                                                        {"tls_key", config.tls_key},
                                                        {"tls_ca", config.tls_ca},
                                                        {"tls_crl", config.tls_crl},
                                                        {"tls_allow", config.tls_allow}};
  const std::initializer_list<Given> all = {
      {"tls_cert", config.tls_cert},     {"tls_key", config.tls_key},
      {"tls_ca", config.tls_ca},         {"tls_crl", config.tls_crl},
      {"tls_allow", config.tls_allow},   {"tls_psk_file", config.tls_psk_file},
      {"tls_policy", config.tls_policy},
  };
  if (config.security != "tls") {
    // Whoever gives a certificate and forgets the switch would send everything in plain.
    const std::string given = names(all, true);
    if (given.empty() || config.origins.contains("security")) {
      return std::shared_ptr<tls::Identity>();
    }
    return error(Code::kInvalidArgument,
                 "{} is set, but security is off: set security = tls, or off to state that this is "
                 "meant",
                 given);
  }
  // Not said again: it would stand in logs.
  for (const Given& each :
       {Given{"tls_key", config.tls_key}, {"tls_psk_file", config.tls_psk_file}}) {
    if (!is_secret_itself(each.value)) continue;
    return error(Code::kInvalidArgument,
                 "{} is the secret itself, not the name of a file that has it", each.name);
  }
  if (!config.tls_psk_file.empty()) {
    if (const std::string given = names(of_certificates, true); !given.empty()) {
      return error(Code::kInvalidArgument,
                   "tls_psk_file and {} are set: give either a shared secret or certificates",
                   given);
    }
  } else if (const std::string missing = names(certificates, false); !missing.empty()) {
    return error(
        Code::kInvalidArgument,
        "security = tls takes tls_cert, tls_key and tls_ca, or tls_psk_file: {} is not set "
        "(`te keys` makes such files)",
        missing);
  }
  return tls::Identity::load({config.tls_cert, config.tls_key, config.tls_ca, config.tls_crl,
                              config.tls_psk_file, config.tls_allow, config.tls_policy,
                              static_cast<int64_t>(config.tls_recheck_s)});
}

}  // namespace te
