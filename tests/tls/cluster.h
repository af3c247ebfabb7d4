// An authority and the files of engines that it let in, in a folder that goes with it.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "certificates.h"
#include "support/temporary_folder.h"
#include "tls/credentials.h"

namespace te::test {

class Cluster {
 public:
  Cluster() : authority_(*tool::Authority::make("test authority")) {
    write("ca.pem", authority_.certificate());
  }

  const tool::Authority& authority() const { return authority_; }
  std::string path(const std::string& file) const { return folder_.path(file); }
  std::string write(const std::string& file, const std::string& text) const {
    return folder_.write(file, text);
  }
  // The files of an engine with these names, "engine.pem" and so on.
  tls::Files member(const std::string& name, const std::vector<std::string>& names = {},
                    const std::string& allowed = {}) const {
    return files(name, authority_, {name, names}, allowed);
  }
  tls::Files files(const std::string& name, const tool::Authority& issuer,
                   const tool::Authority::Request& request, const std::string& allowed = {}) const {
    const Result<tool::Issued> issued = issuer.issue(request);
    EXPECT_TRUE(issued.ok()) << issued.status().to_string();
    if (!issued.ok()) return {};
    tls::Files files;
    files.certificate = write(name + ".pem", issued->certificate);
    files.key = write(name + ".key", issued->key);
    files.authority = path("ca.pem");
    files.allowed = allowed;
    return files;
  }
  // Of engines that share a secret.
  tls::Files secret(const std::string& name, const std::string& lines) const {
    tls::Files files;
    files.secret = write(name, lines);
    return files;
  }

 private:
  tool::Authority authority_;
  const TemporaryFolder folder_;
};

inline std::shared_ptr<const tls::Credentials> load(const tls::Files& files) {
  Result<std::shared_ptr<const tls::Credentials>> loaded = tls::Credentials::load(files);
  EXPECT_TRUE(loaded.ok()) << loaded.status().to_string();
  return loaded.ok() ? loaded.take() : nullptr;
}

inline std::shared_ptr<tls::Identity> identity(const tls::Files& files) {
  Result<std::shared_ptr<tls::Identity>> loaded = tls::Identity::load(files);
  EXPECT_TRUE(loaded.ok()) << loaded.status().to_string();
  return loaded.ok() ? loaded.take() : nullptr;
}

}  // namespace te::test
