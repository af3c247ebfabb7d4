// The files of an engine with security = tls, in a folder that goes with it. Threads: one at a
// time.
#pragma once

#include <map>
#include <string>

#include "transfer_engine/status.h"

namespace te::bench {

class Keys {
 public:
  Keys() = default;
  ~Keys();
  Keys(const Keys&) = delete;
  Keys& operator=(const Keys&) = delete;

  // A new authority, and what it issued for a member.
  Status make();
  // How engines with these files are asked for: see make_engine().
  std::string transport() const { return kPrefix + folder_; }
  // The files.
  std::string authority() const { return folder_ + "/authority.pem"; }
  std::string certificate() const { return folder_ + "/member.pem"; }
  std::string key() const { return folder_ + "/member.key"; }

  static constexpr const char* kPrefix = "tls:";
  // The settings of such an engine.
  static std::map<std::string, std::string> settings(const std::string& folder);

 private:
  std::string folder_;
};

}  // namespace te::bench
