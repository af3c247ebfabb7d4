// The configuration: settings with name, type, default, unit and help. The environment overlays the
// defaults, the caller's settings overlay both. A Config is a plain value, read-only once made.
//
// What concerns the engine is a member of Config. What concerns one transport alone is declared
// where it is read, and only its value is here.
//
// A variable is TRANSFER_ENGINE_ and the setting's name in capitals; TE_ and the name is the older
// spelling of the same. Malformed values and unknown settings are errors. An unknown variable is
// only a warning, and none at all where it begins with TE_, a prefix that others use too.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/secret.h"
#include "transfer_engine/status.h"

namespace te {

// A setting that is declared where it is read: a constant.
struct Setting {
  struct Number {
    uint64_t standard = 0, min = 0, max = 0;
  };
  struct Text {
    std::string_view standard;
    std::span<const std::string_view> accepted = {};  // empty: anything
  };
  struct Hidden {};  // a password: its value is shown nowhere, and an empty one is not set

  std::string_view name;
  std::string_view unit;
  std::string_view help;
  std::variant<Number, Text, Hidden> kind;
};

// How many connections peers may have here; 0: by RLIMIT_NOFILE.
struct ConnectionLimits {
  uint64_t max_inbound_connections = 0;
  uint64_t max_pending_connections = 0;

  // As set, or by RLIMIT_NOFILE as it is now: on the engine's port, of those such that have not
  // introduced themselves, and on the local socket of shm, where each takes two descriptors. Not
  // set, all together take three quarters of the descriptors.
  uint64_t inbound_limit() const;
  uint64_t pending_limit() const;
  uint64_t local_inbound_limit() const;
  // Of the settings above those that need more descriptors than the process may have, for the log.
  std::vector<std::string> limits_without_descriptors() const;
};

// PEM files for directories over TLS.
struct DirectoryTls {
  std::string directory_tls_ca;  // empty: the system's
  std::string directory_tls_cert;
  std::string directory_tls_key;
};

// Who the engine is to the directory's server. See directory/credentials.h.
struct DirectoryLogin {
  std::string directory_user;
  Secret directory_password;
  std::string directory_password_file;
  Secret directory_token;
  std::string directory_token_file;
};

// The values of settings that are declared elsewhere.
class DeclaredSettings {
 public:
  // As set, else its standard.
  uint64_t number(const Setting& setting) const;
  std::string text(const Setting& setting) const;
  void set(const Setting& setting, std::variant<uint64_t, std::string> value);

 protected:
  const std::vector<const Setting*>& declared() const { return declared_; }
  // They outlive this.
  void declare(std::vector<const Setting*> settings) { declared_ = std::move(settings); }

 private:
  std::vector<const Setting*> declared_;
  std::map<std::string_view, std::variant<uint64_t, std::string>> values_;  // by name
};

// Of the engine's port. See docs/security.md.
struct SecuritySettings {
  std::string security = "off";
  std::string tls_cert;
  std::string tls_key;
  std::string tls_ca;
  std::string tls_crl;
  std::string tls_psk_file;
  std::string tls_allow;
  std::string tls_policy;
  uint64_t tls_recheck_s = 60;
  std::string tls_allow_plaintext_fabrics = "false";
};

struct Config : ConnectionLimits, SecuritySettings, DirectoryTls, DirectoryLogin, DeclaredSettings {
  std::string addressing = "auto";
  std::string advertise_address;
  std::string bind_address;
  uint64_t transfer_timeout_ms = 30'000;
  uint64_t retry_window_ms = 3'000;
  uint64_t connect_timeout_ms = 2'000;
  uint64_t hello_timeout_ms = 5'000;
  uint64_t stall_timeout_ms = 10'000;
  uint64_t unregister_timeout_ms = 2'000;
  uint64_t directory_timeout_ms = 3'000;
  uint64_t directory_lease_s = 5;
  std::string guarded_copies = "handler";  // see base/guarded_copy.h
  uint64_t slice_bytes = 1 << 20;
  uint64_t staging_part_bytes = 1 << 20;
  uint64_t staging_bytes = 64 << 20;
  std::string nics;
  uint64_t max_notifications = 65'536;
  std::string log_level = "warning";

  // From the process's environment and `settings`. `more`: those that are not members; they outlive
  // it. kInvalidArgument names the setting, the value and what is accepted; `warnings` has what
  // does not stop an engine.
  static Result<Config> load(const std::map<std::string, std::string>& settings,
                             std::vector<const Setting*> more = {});
  // The same over a given environment ("NAME=value" entries), for tests.
  static Result<Config> load(const std::map<std::string, std::string>& settings,
                             std::vector<const Setting*> more, const char* const* environment);

  // [{"name", "value", "default", "unit", "origin", "help"}, ...]; "***" for a hidden value.
  std::string to_json() const;

  std::map<std::string, std::string> origins;  // name -> "environment" or "engine"
  std::vector<std::string> warnings;           // for the log: variables that have no effect
};

}  // namespace te
