// Ignore files against git itself, and what a walk skips.
#include "apps/ingest/directory_walk.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include "apps/ingest/ignore_rules.h"
#include "tests/temporary_folder.h"

namespace eidetic::ingest {
namespace {

namespace fs = std::filesystem;

class DirectoryWalk : public ::testing::Test {
 protected:
  void Write(const std::string& name, const std::string& text = "x\n") {
    fs::create_directories(fs::path(Path(name)).parent_path());
    std::ofstream(Path(name), std::ios::binary) << text;
  }
  std::string Path(const std::string& name) const { return folder_ / name; }
  std::vector<std::string> Files(const WalkOptions& options = {}) {
    return Relative(walk_directory(folder_.path(), options).files);
  }
  std::vector<std::string> Relative(std::vector<std::string> paths) const {
    for (std::string& path : paths) path = fs::path(path).lexically_relative(folder_.path());
    return paths;
  }
  using Names = std::vector<std::string>;
  tests::TemporaryFolder folder_;
};

std::set<std::string> Lines(const std::string& command) {
  std::set<std::string> lines;
  FILE* pipe = ::popen(command.c_str(), "r");
  std::array<char, 4096> line;
  while (std::fgets(line.data(), line.size(), pipe)) {
    std::string text(line.data());
    lines.insert(text.substr(0, text.find('\n')));
  }
  EXPECT_EQ(::pclose(pipe), 0) << command;
  return lines;
}

TEST_F(DirectoryWalk, PatternsOfNamesFoldersAndPaths) {
  for (const char* name : {"a.txt", "a.log", "keep.log", "build/x.txt", "src/build/y.txt",
                           "src/deep/er/z.md", "docs/a/b/index.md", "docs/index.md"}) {
    Write(name);
  }
  Write(".gitignore", "# comment\n\n*.log\n!keep.log\n/build/\ndocs/**/index.md\n  \n");
  EXPECT_EQ(Files(), (Names{"a.txt", "keep.log", "src/build/y.txt", "src/deep/er/z.md"}));
  Write(".eideticignore", "!a.log\nsrc/deep\n");
  EXPECT_EQ(Files(), (Names{"a.log", "a.txt", "keep.log", "src/build/y.txt"}));
  Write("src/.gitignore", "!*\ny.*\n");
  EXPECT_EQ(Files(), (Names{"a.log", "a.txt", "keep.log", "src/deep/er/z.md"}));
  EXPECT_EQ(Files({.include = {"*.txt", "docs/**"}, .exclude = {"deep/", "b*"}, .no_ignore = true}),
            (Names{"a.txt", "docs/index.md"}));
}

// Random ignore files, whose outcome git tells as well.
TEST_F(DirectoryWalk, LeavesOutWhatGitLeavesOut) {
  const std::string git = "git -C '" + folder_.path() + "' ";
  ASSERT_EQ(std::system((git + "init -q 2>/dev/null").c_str()), 0);
  const Names names = {"a", "b", "ab", "a.c", "b.c", "c d"};
  std::mt19937_64 random(3);
  const auto any = [&](const auto& list) { return list[random() % std::size(list)]; };
  for (const std::string& outer : names) {
    for (const std::string& inner : names) {
      for (const char* file : {"a", "b.c", "ab"}) Write(outer + "/" + inner + "/" + file);
    }
    Write(outer + "/x.c");
    Write(outer + "/a.x");
  }
  const Names parts = {"a",  "b",   "*",   "?",       "**",  "*.c", "a*",  "[ab]", "[!a]*",
                       "ab", "x.c", "a.?", "[a-b].c", "\\a", "c d", "*b*", "***",  "[[:alpha:]]"};
  for (int round = 0; round < 60; ++round) {
    std::vector<std::string> written;
    for (const std::string& where :
         {std::string(), any(names) + "/", any(names) + "/" + any(names) + "/"}) {
      std::string rules;
      for (int i = 1 + static_cast<int>(random() % 4); i > 0; --i) {
        std::string pattern = random() % 4 == 0 ? "!" : "";
        if (random() % 4 == 0) pattern += "/";
        for (int depth = 1 + static_cast<int>(random() % 3); depth > 0; --depth) {
          pattern += any(parts) + (depth > 1 ? "/" : "");
        }
        if (random() % 4 == 0) pattern += "/";
        rules += pattern + (random() % 5 == 0 ? "  \n" : "\n");
      }
      written.push_back(where + ".gitignore");
      Write(written.back(), rules);
    }
    const std::set<std::string> expected =
        Lines(git +
              "-c core.excludesFile=/dev/null -c core.quotePath=false ls-files --others "
              "--exclude-standard");
    const auto found = Files({.hidden = true});
    EXPECT_EQ(std::set<std::string>(found.begin(), found.end()), expected);
    if (HasNonfatalFailure()) {
      for (const std::string& rules : written) {
        std::ifstream in(Path(rules));
        ADD_FAILURE() << rules << ":\n" << in.rdbuf();
      }
      return;
    }
    for (const std::string& rules : written) fs::remove(Path(rules));
  }
}

TEST_F(DirectoryWalk, RulesOfARepositoryCountInItsFolders) {
  ASSERT_EQ(std::system(("git -C '" + folder_.path() + "' init -q 2>/dev/null").c_str()), 0);
  Write(".gitignore", "sub/a.txt\n*.log\n");
  for (const char* name : {"sub/a.txt", "sub/b.txt", "sub/c.log"}) Write(name);
  EXPECT_EQ(Relative(walk_directory(Path("sub"), {}).files), (Names{"sub/b.txt"}));
}

TEST_F(DirectoryWalk, LoopsLinksPipesAndClosedFoldersAreSkippedWithAReason) {
  Write("a.txt");
  Write("closed/b.txt");
  Write("memory/writer.lock");
  Write("memory/db/CURRENT");
  Write(".hidden/c.txt");
  fs::create_symlink("a.txt", Path("link.txt"));
  fs::create_symlink("..", Path("closed/up"));
  fs::create_symlink("self", Path("self"));
  fs::create_symlink("nowhere", Path("dangling"));
  ASSERT_EQ(::mkfifo(Path("pipe").c_str(), 0600), 0);
  const auto reasons = [&](const WalkOptions& options) {
    std::set<std::pair<std::string, std::string>> told;
    for (const SkippedEntry& entry : walk_directory(folder_.path(), options).skipped) {
      told.emplace(Relative({entry.path})[0], entry.reason);
    }
    return told;
  };
  using Told = std::set<std::pair<std::string, std::string>>;
  EXPECT_TRUE(reasons({}).contains({"memory", "archive"}));
  fs::remove_all(Path("memory"));
  EXPECT_EQ(reasons({}), (Told{{"closed/up", "symbolic link"},
                               {"dangling", "symbolic link"},
                               {"link.txt", "symbolic link"},
                               {"pipe", "special"},
                               {"self", "symbolic link"}}));
  EXPECT_EQ(reasons({.follow = true}), (Told{{"closed/up", "loop"},
                                             {"dangling", "unreadable"},
                                             {"pipe", "special"},
                                             {"self", "loop"}}));
  EXPECT_EQ(Files({.follow = true}), (Names{"a.txt", "closed/b.txt", "link.txt"}));
  EXPECT_EQ(Files({.hidden = true}), (Names{".hidden/c.txt", "a.txt", "closed/b.txt"}));
  if (::geteuid() == 0) return;  // for whom no folder is closed
  fs::permissions(Path("closed"), fs::perms::none);
  EXPECT_TRUE(reasons({}).contains({"closed", "unreadable"}));
  fs::permissions(Path("closed"), fs::perms::owner_all);
}

TEST_F(DirectoryWalk, PathsBeginAsTheDirectoryIsNamed) {
  Write("d/a.txt");
  EXPECT_EQ(walk_directory(Path("d") + "//", {}).files, (Names{Path("d/a.txt")}));
  const fs::path before = fs::current_path();
  fs::current_path(folder_.path());
  EXPECT_EQ(walk_directory(".", {}).files, (Names{"d/a.txt"}));
  EXPECT_EQ(walk_directory("./d/../d", {}).files, (Names{"d/a.txt"}));
  fs::current_path(before);
}

TEST(IgnoreRules, WhatCanFitNothingHasAFault) {
  for (const char* fault : {"[", "[]", "[!", "\\", "a/[", "[a/b]", "[[:alpha:", "[a-", "x\\"}) {
    EXPECT_NE(fault_of(fault), "") << fault;
  }
  for (const char* good :
       {"*.md", "[ab]", "[]]", "[!a-z]*", "a\\[", "\\\\", "docs/**", "!x", "a]"}) {
    EXPECT_EQ(fault_of(good), "") << good;
  }
}

TEST(IgnoreRules, HostilePatternsEndQuickly) {
  std::string stars, path;
  for (int i = 0; i < 200; ++i) stars += "*a";
  EXPECT_FALSE(name_fits(stars + "b", std::string(5000, 'a')));
  std::string deep = "**";
  for (int i = 0; i < 50; ++i) deep += "/**/a";
  for (int i = 0; i < 400; ++i) path += "a/";
  IgnoreRules rules;
  rules.add(deep + "/b");
  for (const char* odd : {"[", "[]", "[!", "\\", "!", "/", "//", "!/", "a/[", "[[:alpha:", "[a-"}) {
    rules.add(odd);
  }
  EXPECT_EQ(rules.verdict(path + "c", false), std::nullopt);
}

}  // namespace
}  // namespace eidetic::ingest
