// Words beside attention on the command line: `memory search --words`, `ask --policy`.
#include <gtest/gtest.h>

#include "tests/apps/program.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;

class Words : public ProgramTest {
 protected:
  void Ingest() {
    const std::string story = Prose(2500) +
                              " The keeper of the lighthouse at Skerryvore was named Barnabas "
                              "Quill. " +
                              Prose(2000);
    const Outcome outcome =
        RunProgram({"ingest", Write("story.txt", story), "--into", "stories", "--archive",
                    Path("archive"), "--model", HybridModel(), "--window", "256"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  std::vector<std::string> Search(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"memory", "search", "who keeps the Skerryvore lighthouse",
                                          "--archive", Path("archive")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
};

bool Holds(const json& passage) {
  return passage.at("text").get<std::string>().find("Barnabas Quill") != std::string::npos;
}

TEST_F(Words, AreSearchedWithoutAModelAndRecalledWithOne) {
  ASSERT_NO_FATAL_FAILURE(Ingest());
  const json found = RunJson(Search({"--words", "--limit", "2", "--json"}));
  ASSERT_FALSE(found.at("passages").empty());
  EXPECT_LE(found.at("passages").size(), 2u);
  EXPECT_TRUE(Holds(found.at("passages").at(0))) << found;
  EXPECT_EQ(found.at("passages").at(0).at("why"), "words");
  EXPECT_GT(found.at("passages").at(0).at("word_score"), 0);
  const Outcome shown = RunProgram(Search({"--words"}));
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_NE(shown.out.find("by words"), std::string::npos) << shown.out;
  // A text of no words finds nothing, which is no error.
  EXPECT_TRUE(
      RunJson({"memory", "search", "??? \"*", "--words", "--archive", Path("archive"), "--json"})
          .at("passages")
          .empty());

  const json both =
      RunJson(Search({"--policy", "both", "--model", HybridModel(), "--limit", "50", "--json"}));
  EXPECT_TRUE(Holds(both.at("passages").at(0))) << both;
  EXPECT_EQ(both.at("passages").back().at("why"), "attention") << both;

  const json asked = RunJson({"ask", "Who is the keeper of the Skerryvore lighthouse?", "--policy",
                              "words", "--word-places", "1", "--max-tokens", "4", "--archive",
                              Path("archive"), "--model", HybridModel(), "--json"});
  ASSERT_EQ(asked.at("sources").size(), 1u) << asked;
  EXPECT_TRUE(Holds(asked.at("sources").at(0))) << asked;
  EXPECT_EQ(asked.at("sources").at(0).at("why"), "words");
  EXPECT_EQ(asked.at("sources").at(0).at("blocks"), 5);
}

TEST_F(Words, WrongPoliciesAreWrongCommandLines) {
  for (const std::vector<std::string>& wrong :
       {std::vector<std::string>{"--policy", "neither"}, {"--words", "--policy", "both"}}) {
    const Outcome outcome = RunProgram(Search(wrong));
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_NE(outcome.err.find("--policy"), std::string::npos) << outcome.err;
  }
  const Outcome window = RunProgram({"generate", "--prompt", "Once", "--mode", "window", "--policy",
                                     "both", "--model", HybridModel()});
  EXPECT_EQ(window.code, 2) << window.err;
  EXPECT_NE(window.err.find("stream"), std::string::npos) << window.err;
}

}  // namespace
}  // namespace eidetic::apps
