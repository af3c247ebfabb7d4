// A folder that goes with its object, and files in it.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace te::test {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "te_test_XXXXXX";
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string path(const std::string& file) const { return path_ / file; }
  // All at once, as one that exchanges files while they are in use has to; for the owner alone.
  std::string write(const std::string& file, const std::string& text) const {
    const std::filesystem::path there = path_ / file, fresh = path_ / (file + ".new");
    std::ofstream(fresh) << text;
    std::filesystem::permissions(
        fresh, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    std::filesystem::rename(fresh, there);
    return there;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace te::test
