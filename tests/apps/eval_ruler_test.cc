// eval ruler with the real hybrid model.
#include <gtest/gtest.h>

#include "tests/apps/documented_keys.h"
#include "tests/apps/program.h"
#include "tests/model/model_files.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;

class EvalRuler : public ProgramTest {
 protected:
  std::vector<std::string> Arguments(const std::string& tasks,
                                     std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments = {
        "eval",      "ruler", "--text",   text_, "--tasks", tasks,  "--samples", "1",
        "--lengths", "320",   "--window", "64",  "--model", model_, "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  void ExpectRefused(const std::vector<std::string>& arguments, const std::string& words) const {
    const Outcome outcome = RunProgram(arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, words)) << outcome.err;
  }

  std::string model_ = HybridModel();
  std::string text_ = Write("story.txt", model::ReadFile(EIDETIC_TEST_TEXT));
};

TEST_F(EvalRuler, TasksAreAskedSideBySideAndAStoppedRunGoesOn) {
  const std::string results = Path("ruler.jsonl"), page = Path("ruler.html"),
                    markdown = Path("ruler.md");
  const json first = RunJson(Arguments("niah_single_1", {"--modes", "full", "--results", results}));
  ExpectDocumented("eval ruler", first);
  ASSERT_EQ(first.at("samples").size(), 1u);
  // Full attention reads the number off; behind a window of 64 tokens it cannot be known.
  EXPECT_EQ(first.at("samples")[0].at("score"), 1.0) << first;
  const json both = RunJson(Arguments(
      "niah_single_1,fwe", {"--modes", "full,window", "--limit", "window=256,full=320", "--results",
                            results, "--html", page, "--markdown", markdown}));
  ExpectDocumented("eval ruler", both);
  ASSERT_EQ(both.at("samples").size(), 2u);  // window ends at 256 tokens
  EXPECT_EQ(both.at("samples")[0], first.at("samples")[0]);
  for (const json& sample : both.at("samples")) {
    const int answer_tokens = sample.at("task") == "fwe" ? 50 : 128;
    EXPECT_LE(sample.at("tokens").get<int>() + answer_tokens, 320) << sample;
    EXPECT_GE(sample.at("tokens").get<int>() + answer_tokens, 290) << sample;
  }
  ASSERT_EQ(both.at("cells").size(), 4u);
  EXPECT_EQ(both.at("cells")[0].at("score"), 100.0);
  EXPECT_TRUE(both.at("cells")[1].at("score").is_null());
  EXPECT_TRUE(both.at("means")[0].at("ruler_11").is_null());  // nine tasks are missing
  // What was measured is told without measuring more.
  const json told = RunJson(
      Arguments("ruler-11", {"--modes", "window,full", "--results", results, "--report-only"}));
  EXPECT_EQ(told.at("samples").size(), 2u);
  EXPECT_EQ(told.at("parameters").at("tasks").size(), 11u);
  EXPECT_TRUE(Contains(model::ReadFile(page), "<td>niah_single_1</td>"));
  EXPECT_TRUE(Contains(model::ReadFile(markdown), "| fwe | "));
  ExpectRefused(Arguments("fwe", {"--modes", "full", "--seed", "2", "--results", results}),
                "under other settings: seed was 1, is 2");
  // A file of an earlier version does not say which texts it is of, and is read on.
  const std::string kept = model::ReadFile(results);
  const std::size_t end = kept.find('\n');
  json heading = json::parse(kept.substr(0, end));
  ASSERT_EQ(heading.at("settings").erase("content"), 1u);
  model::WriteFile(results, heading.dump() + kept.substr(end));
  const std::vector<std::string> again =
      Arguments("niah_single_1", {"--modes", "full", "--results", results});
  const Outcome older = RunProgram(again);
  EXPECT_EQ(older.code, 0);
  EXPECT_TRUE(Contains(older.err, "does not say which texts its results are of")) << older.err;
  // Other texts of as many words, of the same vocabulary.
  const std::string story = model::ReadFile(text_);
  const std::size_t middle = story.find('\n', story.size() / 2);
  model::WriteFile(text_, story.substr(middle) + "\n" + story.substr(0, middle));
  ExpectRefused(again, "are of other texts");
}

TEST_F(EvalRuler, AChatIsAskedInItsTemplateAndKeptApart) {
  const std::string results = Path("ruler.jsonl");
  const std::vector<std::string> chat = {"--modes", "full", "--chat", "--results", results};
  const json report = RunJson(Arguments("niah_single_1", chat));
  ExpectDocumented("eval ruler", report);
  EXPECT_EQ(report.at("parameters").at("chat"), true);
  const json& sample = report.at("samples")[0];
  EXPECT_LE(sample.at("tokens").get<int>() + 128, 320);
  // The assistant's turn goes on from the words that it was given.
  EXPECT_EQ(sample.at("score"), 1.0) << sample;
  ExpectRefused(Arguments("niah_single_1", {"--modes", "full", "--results", results}),
                "under other settings");
}

TEST_F(EvalRuler, WhatCannotBeMeasuredIsRefusedBeforeAModelIsLoaded) {
  model_ = Path("none.gguf");
  ExpectRefused({"eval", "ruler", "--model", model_}, "--text");
  ExpectRefused(Arguments("niah"), "no task 'niah'");
  ExpectRefused(Arguments("qa_1"), "--questions");
  ExpectRefused(Arguments("vt", {"--modes", "paper"}), "--modes");
  const std::string questions = Write("questions.json", R"({"version": 1,
    "books": [{"name": "Scandal", "file": "scandal.txt"}],
    "questions": [{"id": "s1", "book": "Scandal", "question": "How many steps lead up?",
                   "answers": ["seventeen"], "passages": ["there are seventeen steps"]}]})");
  ExpectRefused(Arguments("qa_1", {"--questions", questions}), "scandal.txt");
}

TEST_F(EvalRuler, ALengthThatATaskDoesNotFitIntoNamesIt) {
  // Before the tasks that fit are asked.
  const std::string results = Path("ruler.jsonl");
  ExpectRefused(Arguments("niah_single_1,cwe", {"--modes", "full", "--results", results}),
                "holds no prompt of cwe");
  const std::string kept = model::ReadFile(results);
  EXPECT_FALSE(Contains(kept, "niah_single_1")) << kept;
}

}  // namespace
}  // namespace eidetic::apps
