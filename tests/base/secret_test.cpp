#include "base/secret.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace te {
namespace {

class SecretFile : public testing::Test {
 protected:
  ~SecretFile() override { ::unlink(path_.c_str()); }
  Result<Secret> read(const std::string& text) {
    std::ofstream(path_, std::ios::binary) << text;
    return read_secret("some_file", path_);
  }

  const std::string path_ =
      (std::filesystem::temp_directory_path() / ("te_secret_" + std::to_string(::getpid())))
          .string();
};

TEST_F(SecretFile, ItsLineIsTheSecret) {
  const std::string longest(kMaxSecretBytes, 'x');
  for (const std::string& text : {std::string("hunter2"), std::string(" a b "), longest}) {
    for (const char* end : {"", "\n", "\r\n"}) {
      const Result<Secret> secret = read(text + end);
      ASSERT_TRUE(secret.ok()) << secret.status().to_string();
      EXPECT_EQ(secret->view(), text);
    }
  }
}

TEST_F(SecretFile, AnythingElseIsRefusedWithoutBeingShown) {
  for (const std::string& text :
       {std::string(), std::string("\n"), std::string("hunter2\nhunter2\n"),
        std::string("hunter2\0", 8), "hunter2" + std::string(kMaxSecretBytes, 'x'),
        "hunter2" + std::string(100'000, 'x') + "\n"}) {
    const Status status = read(text).status();
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << text.size();
    EXPECT_NE(status.message().find(path_), std::string::npos) << status.to_string();
    EXPECT_NE(status.message().find("some_file"), std::string::npos) << status.to_string();
    EXPECT_EQ(status.message().find("hunter2"), std::string::npos) << status.to_string();
  }
  const Status missing = read_secret("some_file", "/nonexistent").status();
  EXPECT_EQ(missing.code(), Code::kInvalidArgument);
  EXPECT_NE(missing.message().find("No such file"), std::string::npos) << missing.to_string();
}

TEST(Secret, MovesAndCopies) {
  Secret one("hunter2");
  const Secret copy = one;
  const Secret moved = std::move(one);
  EXPECT_EQ(copy.view(), "hunter2");
  EXPECT_EQ(moved.view(), "hunter2");
  one = Secret("other");
  EXPECT_EQ(one.view(), "other");
  one = Secret();
  EXPECT_TRUE(one.empty());
}

TEST(Secret, CleansedTextIsEmptyAndOverwritten) {
  std::string text(100, 'x');
  const char* const bytes = text.data();
  cleanse(text);
  EXPECT_TRUE(text.empty());
  EXPECT_EQ(bytes[1], '\0');
}

}  // namespace
}  // namespace te
