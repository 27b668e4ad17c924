// `ingest` of directories, web pages and standard input.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "tests/apps/documented_keys.h"
#include "tests/apps/program.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;

class IngestDirectory : public ProgramTest {
 protected:
  void Fill() {
    std::filesystem::create_directories(Path("notes/drafts"));
    Write("notes/page.html",
          "<html><head><title>Ships</title><script>no()</script></head><body><p>The captain &amp; "
          "his <b>schooner</b> went home.</p></body></html>");
    Write("notes/list.md", "# List\n\n* a lantern\n");
    Write("notes/code.c", "int main(void) { return 0; }\n");
    Write("notes/drafts/draft.txt", "a draft\n");
    Write("notes/.gitignore", "drafts/\n");
    Write("notes/picture", std::string("\x89PNG\0\0", 6));
    Write("notes/empty.txt", "");
    std::filesystem::create_symlink("..", Path("notes/loop"));
  }
  std::vector<std::string> Into(std::vector<std::string> more, bool model = true) const {
    std::vector<std::string> arguments = {"ingest"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.insert(arguments.end(), {"--into", "notes", "--archive", Path("archive"), "--json"});
    if (model) arguments.insert(arguments.end(), {"--model", HybridModel()});
    return arguments;
  }
  std::vector<json> Events(const Outcome& outcome, const std::string& event) const {
    std::vector<json> events;
    for (const json& line : JsonLines(outcome.out)) {
      const std::string name = line.at("event");
      ExpectDocumented(name == "error" ? name : "ingest " + name, line);
      if (name == event) events.push_back(line);
    }
    return events;
  }
};

TEST_F(IngestDirectory, ADryRunTellsWhatWouldBeReadAndWritesNothing) {
  Fill();
  const Outcome outcome = RunProgram(Into({Path("notes"), "--dry-run"}, /*model=*/false));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_FALSE(std::filesystem::exists(Path("archive")));
  const auto planned = Events(outcome, "planned");
  ASSERT_EQ(planned.size(), 3u);
  EXPECT_EQ(planned[0].at("source"), Path("notes/code.c"));
  EXPECT_EQ(planned[0].at("format"), "code");
  EXPECT_EQ(planned[1].at("format"), "markdown");
  EXPECT_EQ(planned[2].at("format"), "html");
  EXPECT_LT(planned[2].at("text_bytes"), planned[2].at("bytes"));
  const json plan = Events(outcome, "plan").at(0);
  EXPECT_EQ(plan.at("add"), 3);
  EXPECT_EQ(plan.at("skipped_by_reason"),
            (json{{"binary", 1}, {"empty", 1}, {"symbolic link", 1}}));
  EXPECT_EQ(plan.at("left_out"), 2);  // the ignore file, and what it ignores
  const Outcome fewer =
      RunProgram(Into({Path("notes"), "--dry-run", "--no-ignore", "--include", "*.txt", "--include",
                       "*.md", "--exclude", "list.*", "--jobs", "1"},
                      /*model=*/false));
  ASSERT_EQ(Events(fewer, "planned").size(), 1u) << fewer.out << fewer.err;
  EXPECT_EQ(Events(fewer, "planned")[0].at("source"), Path("notes/drafts/draft.txt"));
  EXPECT_EQ(fewer.err, "");
  const Outcome none =
      RunProgram(Into({Path("notes"), "--dry-run", "--include", "*.md", "--include", "*.rst"},
                      /*model=*/false));
  EXPECT_EQ(none.code, 0);
  EXPECT_NE(none.err.find("no file fits --include '*.rst'"), std::string::npos) << none.err;
  EXPECT_EQ(none.err.find("*.md"), std::string::npos) << none.err;
  const Outcome piped = RunProgram(Into({"-", "--source", "page", "--dry-run"}, /*model=*/false),
                                   {}, "<!doctype html><p>x");
  EXPECT_EQ(Events(piped, "planned").at(0).at("format"), "html") << piped.err;
}

TEST_F(IngestDirectory, SourcesNameTheBytesOfThePageAsItWas) {
  Fill();
  const Outcome first = RunProgram(Into({Path("notes")}));
  ASSERT_EQ(first.code, 0) << first.err;
  json summary = Events(first, "summary").at(0);
  EXPECT_EQ(summary.at("files"), 3);
  EXPECT_EQ(summary.at("added"), 3);
  EXPECT_EQ(summary.at("skipped"), 3);
  EXPECT_EQ(Events(first, "skipped").size(), 3u);

  const auto found_in = [&](const std::string& page) {
    const json found = RunJson({"memory", "search", "captain schooner", "--words", "--archive",
                                Path("archive"), "--json"});
    const json& passage = found.at("passages").at(0);
    EXPECT_EQ(passage.at("source"), Path("notes/page.html"));
    EXPECT_EQ(passage.at("text"), "Ships\n\nThe captain & his schooner went home.");
    const std::size_t begin = passage.at("byte_begin");
    return page.substr(begin, passage.at("byte_end").get<std::size_t>() - begin);
  };
  const std::string page =
      "<html><head><title>Ships</title><script>no()</script></head><body><p>The captain &amp; his "
      "<b>schooner</b> went home.</p></body></html>";
  const std::size_t begin = page.find("Ships");
  EXPECT_EQ(found_in(page), page.substr(begin, page.find("</p>") - begin));
  const json list = RunJson({"memory", "list", "--archive", Path("archive"), "--json"});
  ExpectDocumented("memory list", list);
  const json& document = list.at("collections")[0].at("documents")[2];
  EXPECT_EQ(document.at("format"), "html");
  EXPECT_EQ(document.at("original_bytes"), page.size());

  // Other markup around the same text, a file that went, one that came.
  const std::string other =
      "<!-- new --><title>Ships</title><div class='a'><p>The captain &#38; his "
      "<i>schooner</i> went home.</div>";
  Write("notes/page.html", other);
  std::filesystem::remove(Path("notes/list.md"));
  const Outcome again = RunProgram(Into({Path("notes"), Path("notes/code.c")}));
  ASSERT_EQ(again.code, 0) << again.err;
  summary = Events(again, "summary").at(0);
  EXPECT_EQ(summary.at("unchanged"), 2);  // the file that was named twice counts once
  EXPECT_EQ(summary.at("tokens_read"), 0);
  EXPECT_EQ(summary.at("gone"), 1);
  EXPECT_EQ(found_in(other),
            other.substr(other.find("Ships"), other.find("</div>") - other.find("Ships")));
  const json plan =
      Events(RunProgram(Into({Path("notes"), "--dry-run"}, /*model=*/false)), "plan").at(0);
  EXPECT_EQ(plan.at("unchanged"), 2);
  EXPECT_TRUE(plan.contains("estimated_bytes"));
  const json verified = RunJson({"memory", "verify", "--archive", Path("archive"), "--json"});
  EXPECT_TRUE(verified.at("clean"));

  const Outcome piped = RunProgram(Into({"-", "--source", "talk"}), {}, "A word from a pipe.\n");
  EXPECT_EQ(Events(piped, "done").at(0).at("source"), "talk") << piped.err;
}

// All runs but the first go without a model: nothing is left to be read in what they are given.
TEST_F(IngestDirectory, PruneForgetsTheDocumentsWhoseFilesAreGone) {
  for (const char* folder : {"notes/old", "disk"})
    std::filesystem::create_directories(Path(folder));
  const std::string kept = Write("notes/kept.txt", "A lantern.\n");
  const std::string gone = Write("notes/old/gone.txt", "A schooner.\n");
  const std::string named = Write("named.txt", "A compass.\n");
  const std::string mounted = Write("disk/mounted.txt", "An anchor.\n");
  ASSERT_EQ(RunProgram(Into({Path("notes"), Path("disk"), named})).code, 0);
  std::filesystem::remove_all(Path("notes/old"));
  for (const std::string& file : {kept, named, mounted}) std::filesystem::remove(file);
  Write("notes/kept.txt", "");  // there, and read no more
  const auto documents = [&] {
    const json list = RunJson({"memory", "list", "--archive", Path("archive"), "--json"});
    std::set<std::string> sources;
    for (const json& document : list.at("collections")[0].at("documents")) {
      sources.insert(document.at("source"));
    }
    return sources;
  };
  const std::vector<std::string> prune = {Path("notes"), named, "--prune"};
  const auto pruned = [&](const Outcome& outcome) {
    std::set<std::string> sources;
    for (const json& event : Events(outcome, "pruned")) sources.insert(event.at("source"));
    return sources;
  };

  const Outcome counted = RunProgram(Into({Path("notes")}, /*model=*/false));
  EXPECT_EQ(Events(counted, "summary").at(0).at("gone"), 1) << counted.err;
  EXPECT_EQ(Events(counted, "summary").at(0).at("pruned"), 0);

  std::vector<std::string> dry = prune;
  dry.push_back("--dry-run");
  const Outcome plan = RunProgram(Into(dry, /*model=*/false));
  EXPECT_EQ(plan.code, 0) << plan.err;
  EXPECT_EQ(pruned(plan), (std::set<std::string>{gone, named}));
  EXPECT_EQ(Events(plan, "plan").at(0).at("prune"), 2);

  const Outcome outcome = RunProgram(Into(prune, /*model=*/false));
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_EQ(pruned(outcome), (std::set<std::string>{gone, named}));
  EXPECT_EQ(Events(outcome, "summary").at(0).at("pruned"), 2);
  EXPECT_EQ(Events(outcome, "forgotten").size(), 1u);  // in one step
  EXPECT_EQ(documents(), (std::set<std::string>{kept, mounted}));

  // A file that was never read is no document: it is missing, as ever.
  EXPECT_EQ(RunProgram(Into(prune, /*model=*/false)).code, 3);
  // An empty directory may be a disk that is not there.
  const Outcome empty = RunProgram(Into({Path("disk"), "--prune"}, /*model=*/false));
  EXPECT_EQ(empty.code, 1);
  EXPECT_NE(empty.err.find("is empty, and 1 document of 'notes'"), std::string::npos) << empty.err;
  EXPECT_EQ(documents(), (std::set<std::string>{kept, mounted}));
}

TEST_F(IngestDirectory, WhatCannotBeMeantIsRefused) {
  Fill();
  const auto refused = [&](std::vector<std::string> more, const std::string& message) {
    const Outcome outcome = RunProgram(Into(std::move(more), /*model=*/false));
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
  };
  refused({"-"}, "--source");
  refused({Path("notes"), "--name", "all"}, "directory");
  refused({"-", Path("notes/code.c"), "--source", "both"}, "2 files");
  refused({Path("notes"), "--format", "pdf"}, "--format");
  refused({Path("notes/code.c"), "--name", "code", "--prune"}, "--prune");
  refused({Path("notes"), "--include", ""}, "--include");
  refused({Path("notes"), "--include", "notes/[a"},
          "'notes/[a' can fit nothing: a '[' in it has no ']'");
  refused({Path("notes"), "--exclude", "a\\"}, "'a\\' can fit nothing: a backslash at its end");
  refused({Path("notes"), "--jobs", "-1"}, "--jobs");
  EXPECT_FALSE(std::filesystem::exists(Path("archive")));
}

}  // namespace
}  // namespace eidetic::apps
