// `eidetic sessions` and the turns that `generate --session` makes, through the real program.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <random>
#include <thread>

#include "tests/apps/documented_keys.h"
#include "tests/apps/program.h"
#include "tests/apps/terminal_program.h"
#include "tests/seed.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;

class Sessions : public ProgramTest {
 protected:
  std::vector<std::string> GenerateArguments(const std::string& session, const std::string& prompt,
                                             const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {
        "generate", "--session",   session,        "--prompt", prompt,     "--archive", archive_,
        "--model",  HybridModel(), "--max-tokens", "4",        "--window", "64",        "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  json Generate(const std::string& session, const std::string& prompt,
                const std::vector<std::string>& more = {}) const {
    return RunJson(GenerateArguments(session, prompt, more));
  }
  Outcome Run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "sessions");
    arguments.insert(arguments.end(), {"--archive", archive_});
    return RunProgram(arguments);
  }
  json RunSessions(std::vector<std::string> arguments) const {
    const std::string command = arguments.front();
    arguments.push_back("--json");
    const Outcome outcome = Run(std::move(arguments));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    json printed = json::parse(outcome.out, nullptr, false);
    ExpectDocumented("sessions " + (command == "rewind" ? "fork" : command), printed);
    return printed;
  }
  void ExpectClean() const {
    EXPECT_TRUE(RunJson({"memory", "verify", "--archive", archive_, "--json"}).at("clean"));
  }

  std::string archive_ = Path("archive");
};

TEST_F(Sessions, AreListedShownForkedRewoundExportedAndDeleted) {
  const json first =
      Generate("diary", "Dear diary, we left in the morning.", {"--turn-name", "departure"});
  ExpectDocumented("generate", first);
  EXPECT_EQ(first.at("turn").at("turn"), 1);
  EXPECT_GT(first.at("turn").at("bytes"), 1000000);
  const std::string second = Generate("diary", " The sea was calm.").at("text");

  json list = RunSessions({"list"});
  ASSERT_EQ(list.at("sessions").size(), 1u);
  EXPECT_EQ(list.at("sessions")[0].at("turns"), 2);
  EXPECT_TRUE(list.at("sessions")[0].at("created").get<std::string>().starts_with("20"));

  const json forked = RunSessions({"fork", "diary", "--turn", "departure", "--to", "what-if"});
  EXPECT_EQ(forked.at("session"), "what-if");
  EXPECT_EQ(RunSessions({"show", "what-if"}).at("turns"), 1);
  EXPECT_EQ(RunSessions({"show", "what-if"}).at("forked_from"), "diary");
  // The same words lead to the same answer, whoever says them.
  EXPECT_EQ(Generate("what-if", " The sea was calm.").at("text"), second);
  EXPECT_EQ(RunSessions({"rewind", "what-if", "--turn", "1"}).at("turns"), 1);
  Generate("what-if", " There was a storm.");
  ExpectClean();

  const Outcome exported = Run({"export", "what-if"});
  EXPECT_EQ(exported.code, 0);
  EXPECT_NE(exported.out.find("we left in the morning."), std::string::npos) << exported.out;
  EXPECT_NE(exported.out.find("There was a storm."), std::string::npos);
  EXPECT_EQ(exported.out.find("The sea was calm."), std::string::npos);
  const json turns = RunSessions({"export", "diary"}).at("turn_list");
  ASSERT_EQ(turns.size(), 2u);
  EXPECT_EQ(turns[0].at("name"), "departure");
  EXPECT_EQ(turns[1].at("parts")[1].at("text"), second);

  const Outcome shown = Run({"show", "diary"});
  EXPECT_NE(shown.out.find("departure"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("The sea was calm."), std::string::npos) << shown.out;

  EXPECT_EQ(RunSessions({"delete", "diary"}).at("session"), "diary");
  list = RunSessions({"list"});
  ASSERT_EQ(list.at("sessions").size(), 1u);
  EXPECT_EQ(list.at("sessions")[0].at("name"), "what-if");
  Generate("what-if", " Then it was over.");
  ExpectClean();
}

TEST_F(Sessions, TurnsAreForgottenInEveryFork) {
  Generate("diary", "Dear diary, we left in the morning.");
  Generate("diary", " The password is tangerine.");
  Generate("diary", " The sea was calm.");
  RunSessions({"fork", "diary", "--to", "what-if"});
  const auto forget = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"memory", "forget", "--archive", archive_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunProgram(arguments);
  };
  const std::vector<std::string> turn = {"--session", "diary", "--turn", "2", "--json"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = turn;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  EXPECT_EQ(forget(turn).code, 2);  // nobody can be asked
  json receipt = json::parse(forget(with({"--dry-run"})).out);
  EXPECT_EQ(receipt.at("turns"), 1);
  ExpectDocumented("memory forget", receipt);
  EXPECT_NE(Run({"export", "what-if"}).out.find("tangerine"), std::string::npos);
  const Outcome done = forget(with({"--yes", "--verify"}));
  EXPECT_EQ(done.code, 0) << done.err;
  receipt = json::parse(done.out);
  ExpectDocumented("memory forget", receipt);
  EXPECT_EQ(receipt.at("sessions").size(), 2u);
  EXPECT_TRUE(receipt.at("files").at("clean"));
  EXPECT_EQ(Run({"export", "what-if"}).out.find("tangerine"), std::string::npos);
  EXPECT_TRUE(RunSessions({"show", "diary"}).at("turn_list")[2].at("waiting"));
  const std::string shown = Run({"show", "diary"}).out;
  EXPECT_NE(shown.find("(forgotten)"), std::string::npos) << shown;
  EXPECT_NE(shown.find("The sea was calm."), std::string::npos) << shown;
  EXPECT_NE(shown.find("w waits"), std::string::npos) << shown;
  const json listed = RunSessions({"list"});
  ExpectDocumented("sessions list", listed);
  EXPECT_EQ(listed.at("sessions").at(0).at("turns"), 1);
  EXPECT_EQ(listed.at("sessions").at(0).at("waiting"), 1);
  const std::string list = Run({"list"}).out;
  EXPECT_NE(list.find("1 + 1 w"), std::string::npos) << list;
  EXPECT_NE(list.find("w waits"), std::string::npos) << list;
  Generate("diary", " Good night.");
  EXPECT_EQ(RunSessions({"list"}).at("sessions").at(0).at("waiting"), 0);
  EXPECT_EQ(RunSessions({"show", "diary"}).at("turns"), 4);
  ExpectClean();
  EXPECT_EQ(forget({"--session", "nobody", "--yes"}).code, 3);
  for (const std::vector<std::string>& bad : std::vector<std::vector<std::string>>{
           {},
           {"--turn", "1"},
           {"--session", "diary", "--turn", "0"},
           {"--session", "diary", "--collection", "c"},
           {"--source", "s"},
           {"--collection", "c", "--bytes", "1-2"},
           {"--collection", "c", "--source", "s", "--bytes", "2-1"},
           {"--collection", "c", "--source", "s", "--bytes", "x"},
           {"--collection", "c", "--source", "s", "--bytes", ""},
           {"--collection", "c", "--source", ""},
           {"--session", "diary", "--older-than", ""},
           {"--older-than", "30"},
           {"--older-than", "-3d"},
           {"--older-than", "99999999999999999d"}}) {
    std::vector<std::string> arguments = bad;
    arguments.push_back("--yes");
    EXPECT_EQ(forget(arguments).code, 2) << (bad.empty() ? "" : bad.back());
  }
}

TEST_F(Sessions, ASearchTellsInWhichTurnASessionSaidIt) {
  const std::string hills =
      " The road went up and down over bare hills, and nobody met us there all day but a "
      "dog, two carts of turnips and the rain, which stayed until we slept.";
  Generate("diary",
           "We went north by train and then on foot, as the doctor had told us to." + hills,
           {"--policy", "both"});
  Generate("diary",
           " The lighthouse keeper at Skerryvore is called Morag, and paints boats." + hills);
  Generate("diary", " We slept long." + hills);
  RunSessions({"fork", "diary", "--to", "what-if"});
  Generate("what-if", " The gardener at Dunvegan is called Hamish." + hills);
  Generate("what-if", " We slept again." + hills + hills);
  const auto search = [&](const std::string& session, const std::string& query,
                          std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"memory", "search", query, "--session", session, "--archive",
                               archive_, "--model", HybridModel()});
    return RunProgram(more);
  };
  // Whether a passage of that turn names somebody.
  const auto names_in = [&](const std::string& session, const std::string& query,
                            const std::string& name, int turn) {
    const Outcome found = search(session, query, {"--json", "--limit", "1000"});
    EXPECT_EQ(found.code, 0) << found.err;
    const json told = json::parse(found.out);
    ExpectDocumented("memory search", told);
    EXPECT_EQ(told.at("session"), session);
    for (const json& passage : told.at("passages")) {
      if (passage.at("text").get<std::string>().find(name) != std::string::npos) {
        return passage.at("turn") <= turn && turn <= passage.at("last_turn");
      }
    }
    return false;
  };
  const std::string keeper = "Who keeps the lighthouse at Skerryvore?";
  const std::string gardener = "Who is the gardener at Dunvegan?";
  const json before = RunSessions({"show", "diary"});
  EXPECT_TRUE(names_in("diary", keeper, "Morag", 2));
  EXPECT_TRUE(names_in("what-if", keeper, "Morag", 2));
  EXPECT_TRUE(names_in("what-if", gardener, "Hamish", 4));
  EXPECT_FALSE(names_in("diary", gardener, "Hamish", 4));
  const Outcome shown = search("diary", keeper);
  EXPECT_NE(shown.out.find("diary, turn"), std::string::npos) << shown.out;
  EXPECT_EQ(RunSessions({"show", "diary"}), before);  // nothing is kept of a search
  EXPECT_EQ(RunProgram({"memory", "forget", "--session", "diary", "--turn", "2", "--yes",
                        "--archive", archive_})
                .code,
            0);
  const Outcome left = search("what-if", keeper, {"--json", "--limit", "1000"});
  EXPECT_EQ(left.code, 0) << left.err;
  EXPECT_EQ(left.out.find("Morag"), std::string::npos) << left.out;

  const Outcome unknown = search("dairy", keeper);
  EXPECT_NE(unknown.code, 0);
  EXPECT_NE(unknown.err.find("no session dairy"), std::string::npos) << unknown.err;
  const Outcome too_long = search("diary", Prose(2000));
  EXPECT_NE(too_long.err.find("tokens, the window of session diary 64"), std::string::npos)
      << too_long.err;
  for (const auto& other : std::vector<std::vector<std::string>>{
           {"--from", "books"}, {"--words"}, {"--policy", "words"}}) {
    EXPECT_NE(search("diary", keeper, other).code, 0) << other[0];
  }
}

TEST_F(Sessions, ForgettingAsksAPersonAndNobodyElse) {
  Generate("diary", "Dear diary,");
  const std::vector<std::string> forget = {"memory", "forget",    "--session",
                                           "diary",  "--archive", archive_};
  const Outcome piped = RunProgram(forget, {}, "y\n");
  EXPECT_EQ(piped.code, 2);
  EXPECT_EQ(piped.out, "");
  EXPECT_EQ(piped.err,
            "eidetic: forgetting is for good, and nobody can be asked here\n"
            "  -> add --yes, or --dry-run to see what would go\n");
  const auto answer = [&](const std::string& keys, const std::string& shown, int code) {
    TerminalProgram program(forget);
    EXPECT_TRUE(program.Shows("session diary: would go as a whole")) << program.shown();
    EXPECT_TRUE(program.Shows("Forget this for good? [y/N] ")) << program.shown();
    program.Type(keys);
    EXPECT_TRUE(program.Shows(shown)) << program.shown();
    EXPECT_EQ(program.Wait(), code) << program.shown();
  };
  const std::string ctrl_c = "\x03", ctrl_d = "\x04";
  answer("yeah\r", "nothing was forgotten", 0);
  answer(ctrl_d, "nothing was forgotten", 0);
  answer(ctrl_c, "nothing was forgotten", 130);
  EXPECT_EQ(RunSessions({"show", "diary"}).at("turns"), 1);
  answer("y\r", "session diary: went as a whole", 0);
  EXPECT_EQ(Run({"show", "diary"}).code, 3);
}

TEST_F(Sessions, BadCommandsSayWhatIsWrong) {
  EXPECT_EQ(Run({"list"}).code, 3);  // no archive yet
  Generate("diary", "Dear diary,");
  const auto expect = [&](const std::vector<std::string>& arguments, int code,
                          const std::string& words) {
    const Outcome outcome = Run(arguments);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_NE(outcome.err.find(words), std::string::npos) << outcome.err;
  };
  expect({"show", "nobody"}, 3, "no session nobody");
  expect({"fork", "diary", "--turn", "2", "--to", "x"}, 3, "no turn 2");
  expect({"fork", "diary", "--turn", "arrival", "--to", "x"}, 3, "arrival");
  expect({"fork", "diary", "--to", "diary"}, 1, "already");
  expect({"fork", "diary"}, 2, "--to");
  expect({"fork", "diary", "--to", ""}, 2, "--to: a session's name cannot be empty");
  expect({"show", ""}, 2, "SESSION: a session's name cannot be empty");
  expect({"rewind", "diary"}, 2, "--turn");
  expect({"rewind", "diary", "--turn", "0"}, 3, "no turn 0");
  expect({"rewind", "diary", "--turn", "-1"}, 3, "-1");
  expect({"delete", "nobody"}, 3, "no session nobody");
  expect({"export", "diary", "--format", "pdf"}, 2, "pdf");
  for (const std::vector<std::string>& empty : std::vector<std::vector<std::string>>{
           {"memory", "forget", "--session", "diary", "--older-than", "", "--yes"},
           {"memory", "forget", "--collection", "c", "--source", "", "--yes"},
           {"generate", "--prompt", "x", "--session", "", "--model", HybridModel()},
           {"memory", "search", "x", "--from", "", "--words"}}) {
    std::vector<std::string> arguments = empty;
    arguments.insert(arguments.end(), {"--archive", archive_});
    const Outcome outcome = RunProgram(arguments);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_NE(outcome.err.find("cannot be empty"), std::string::npos) << outcome.err;
  }
  const Outcome without =
      RunProgram({"generate", "--prompt", "x", "--turn-name", "y", "--model", HybridModel()});
  EXPECT_EQ(without.code, 2) << without.err;
  EXPECT_EQ(RunSessions({"show", "diary"}).at("turns"), 1);
  ExpectClean();
}

// Processes that each say one thing and keep it, killed at seeded moments: the conversation that
// comes of it is that of processes that were left alone.
TEST_F(Sessions, AConversationOfKilledProcessesIsThatOfOthers) {
  constexpr int kTurns = 5;
  const auto prompt = [](int turn) {
    return " " + Prose(8000).substr(static_cast<std::size_t>(1000 + 900 * turn), 150);
  };
  const auto begin = std::chrono::steady_clock::now();
  for (int turn = 0; turn < kTurns; ++turn) Generate("alone", prompt(turn));
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() / kTurns;

  std::mt19937_64 random(tests::Seed(20270303));
  std::uniform_real_distribution<double> moment(0.3 * seconds, 1.2 * seconds);
  int said = 0, kills = 0;
  while (said < kTurns) {
    Program program(GenerateArguments("killed", prompt(said)));
    if (kills < 2 * kTurns) {
      std::this_thread::sleep_for(std::chrono::duration<double>(moment(random)));
      program.Signal(SIGKILL);
    }
    const Outcome outcome = program.Wait();
    kills += outcome.signal == SIGKILL ? 1 : 0;
    const Outcome shown = Run({"show", "killed", "--json"});
    const int turns = shown.code == 0 ? json::parse(shown.out).at("turns").get<int>() : 0;
    EXPECT_LE(turns, said + 1);
    EXPECT_GE(turns, outcome.out.empty() ? said : said + 1);  // printed: acknowledged
    said = turns;
    ExpectClean();
    ASSERT_FALSE(HasFailure()) << shown.err;
  }
  EXPECT_GT(kills, 0);
  EXPECT_EQ(Run({"export", "killed"}).out, Run({"export", "alone"}).out);
}

}  // namespace
}  // namespace eidetic::apps
