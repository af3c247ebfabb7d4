#include "keys.h"

#include <fmt/core.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "certificates.h"

namespace te::bench {
namespace {

namespace fs = std::filesystem;

Status write(const fs::path& path, const std::string& text) {
  std::ofstream file(path);
  fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
  file << text;
  file.close();
  if (file) return {};
  return Status(Code::kResource, fmt::format("cannot write {}", path.string()));
}

}  // namespace

Keys::~Keys() {
  std::error_code ignored;
  if (!folder_.empty()) fs::remove_all(folder_, ignored);
}

Status Keys::make() {
  std::string folder = fs::temp_directory_path() / "te_suite_keys_XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) {
    return Status(Code::kResource, fmt::format("{}: {}", folder, std::strerror(errno)));
  }
  folder_ = folder;
  const Result<tool::Authority> authority = tool::Authority::make("te_suite authority");
  if (!authority.ok()) return authority.status();
  const Result<tool::Issued> member = authority->issue({"te_suite", {"DNS:te-suite"}});
  if (!member.ok()) return member.status();
  TE_RETURN_IF_ERROR(write(fs::path(folder_) / "authority.pem", authority->certificate()));
  TE_RETURN_IF_ERROR(write(fs::path(folder_) / "member.pem", member->certificate));
  return write(fs::path(folder_) / "member.key", member->key);
}

std::map<std::string, std::string> Keys::settings(const std::string& folder) {
  return {{"security", "tls"},
          {"tls_ca", folder + "/authority.pem"},
          {"tls_cert", folder + "/member.pem"},
          {"tls_key", folder + "/member.key"}};
}

}  // namespace te::bench
