// A certificate authority of a test, and what it issues, as PEM files in a folder that ends with
// it.
#pragma once

#include <string>

#include "base/options.h"
#include "certificates.h"
#include "support/temporary_folder.h"

namespace te::test {

class Authority {
 public:
  Authority();

  struct Issued {
    std::string cert;  // paths
    std::string key;
  };
  // `names` as OpenSSL writes them: "IP:127.0.0.1,DNS:localhost". Valid from a day ago until
  // `valid_s` seconds from now.
  Issued issue(const std::string& names = "IP:127.0.0.1", long valid_s = 3600);
  const std::string& ca() const { return ca_; }
  // A file beside the certificates.
  std::string write(const std::string& name, const std::string& text) const {
    return folder_.write(name, text);
  }

 private:
  const tool::Authority authority_;
  const TemporaryFolder folder_;
  const std::string ca_;
  int issued_ = 0;
};

// What an engine with a certificate of `authority` is given.
DirectoryTls tls_of(Authority& authority);

}  // namespace te::test
