#include "authority.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
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

Authority::Authority() : authority_(made()) {
  std::string pattern = (std::filesystem::temp_directory_path() / "te_tls_XXXXXX").string();
  if (::mkdtemp(pattern.data()) != nullptr) folder_ = pattern;
  ca_ = write("ca.crt", authority_.certificate());
}

Authority::~Authority() {
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

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

std::string Authority::write(const std::string& name, const std::string& text) const {
  const std::string path = folder_ + "/" + name;
  std::ofstream(path) << text;
  return path;
}

DirectoryTls tls_of(Authority& authority) {
  const Authority::Issued own = authority.issue();
  return {authority.ca(), own.cert, own.key};
}

}  // namespace te::test
