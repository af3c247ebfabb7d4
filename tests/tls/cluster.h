// An authority and the files of engines that it let in, in a folder that goes with it.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "certificates.h"
#include "tls/credentials.h"

namespace te::test {

class Cluster {
 public:
  Cluster() : authority_(*tool::Authority::make("test authority")) {
    std::string name = std::filesystem::temp_directory_path() / "te_tls_XXXXXX";
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = name;
    write("ca.pem", authority_.certificate());
  }
  ~Cluster() { std::filesystem::remove_all(folder_); }
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  const tool::Authority& authority() const { return authority_; }
  std::string path(const std::string& file) const { return folder_ / file; }
  std::string write(const std::string& file, const std::string& text) const {
    // As one that exchanges files while they are in use has to: all at once.
    const std::filesystem::path there = folder_ / file, fresh = folder_ / (file + ".new");
    std::ofstream(fresh) << text;
    std::filesystem::permissions(
        fresh, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    std::filesystem::rename(fresh, there);
    return there;
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
  std::filesystem::path folder_;
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
