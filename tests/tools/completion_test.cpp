#include "completion.h"

#include <gtest/gtest.h>

namespace te::tool {
namespace {

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

std::vector<CommandWords> two_commands() {
  CommandWords root;
  root.path = "te";
  root.subcommands = {{"look", "Look at it; it's free"}};
  CommandWords look;
  look.path = "te look";
  look.options = {{"--how", "How: this way", true, false, {"near", "far"}},
                  {"--out", "Where to", true, true, {}},
                  {"--all", "Everything", false, false, {}}};
  look.choices = {"left", "right"};
  return {root, look};
}

TEST(Completion, BashOffersSubcommandsOptionsAndValues) {
  const std::string script = bash_completion(two_commands());
  EXPECT_TRUE(contains(script, "'te') COMPREPLY=($(compgen -W 'look' -- \"$cur\"))"));
  EXPECT_TRUE(contains(script, "compgen -W 'left right --how --out --all'"));
  EXPECT_TRUE(contains(script, "'te look --how') COMPREPLY=($(compgen -W 'near far'"));
  EXPECT_TRUE(contains(script, "'te look --out') COMPREPLY=($(compgen -f"));
  EXPECT_FALSE(contains(script, "'te look --all')"));  // a flag is followed by the next word
}

TEST(Completion, HelpTextsAreQuoted) {
  EXPECT_TRUE(contains(zsh_completion(two_commands()), "'look:Look at it; it'\\''s free'"));
  EXPECT_TRUE(contains(fish_completion(two_commands()), "-d 'Look at it; it'\\''s free'"));
}

TEST(Completion, FishKnowsWhichOptionsTakeValues) {
  const std::string script = fish_completion(two_commands());
  EXPECT_TRUE(contains(script, "-l how -x -a 'near far' -d"));
  EXPECT_TRUE(contains(script, "-l out -r -F -d"));
  EXPECT_TRUE(contains(script, "-l all -d"));
}

}  // namespace
}  // namespace te::tool
