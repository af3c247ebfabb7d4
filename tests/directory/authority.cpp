#include "authority.h"

#include <gtest/gtest.h>

#include <sstream>

namespace te::test {
namespace {

constexpr int64_t kDayS = 24 * 3600;

tool::Authority made() {
  Result<tool::Authority> authority = tool::Authority::make("test authority", kDayS);
  EXPECT_TRUE(authority.ok()) << authority.status().to_string();
  return authority.take();
}

}  // namespace

Authority::Authority() : authority_(made()), ca_(write("ca.crt", authority_.certificate())) {}

// Without a common name: etcd refuses users over JSON whose certificates have one.
Authority::Issued Authority::issue(const std::string& names, long valid_s) {
  tool::Authority::Request request{"", {}, -kDayS, valid_s};
  std::istringstream list(names);
  for (std::string name; std::getline(list, name, ',');) request.names.push_back(name);
  const Result<tool::Issued> issued = authority_.issue(request);
  EXPECT_TRUE(issued.ok()) << issued.status().to_string();
  const std::string base = "issued-" + std::to_string(++issued_);
  return {write(base + ".crt", issued->certificate), write(base + ".key", issued->key)};
}

DirectoryTls tls_of(Authority& authority) {
  const Authority::Issued own = authority.issue();
  return {authority.ca(), own.cert, own.key};
}

}  // namespace te::test
