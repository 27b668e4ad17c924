// `eidetic chat`, as a script in a pipe and through a real terminal.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "tests/apps/documented_keys.h"
#include "tests/apps/program.h"
#include "tests/apps/terminal_program.h"
#include "tests/model/model_files.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;

constexpr const char* kCtrlA = "\x01";
constexpr const char* kCtrlC = "\x03";
constexpr const char* kCtrlD = "\x04";
constexpr const char* kCtrlW = "\x17";
constexpr const char* kUp = "\x1b[A";

class Chat : public ProgramTest {
 protected:
  std::vector<std::string> Arguments(const std::vector<std::string>& more = {},
                                     const std::string& max_tokens = "4") const {
    std::vector<std::string> arguments = {"chat",     "--archive",   archive_,
                                          "--model",  HybridModel(), "--max-tokens",
                                          max_tokens, "--window",    "64"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  Environment Kept() const { return {{"XDG_STATE_HOME", Path("state")}, {"HOME", Path("home")}}; }
  Outcome Run(const std::string& script, const std::vector<std::string>& more = {}) const {
    return RunProgram(Arguments(more), Kept(), script);
  }
  // The objects that a script leads to, checked against the documentation.
  std::vector<json> Told(const std::string& script, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = more;
    arguments.push_back("--json");
    last_ = Run(script, arguments);
    std::vector<json> told = JsonLines(last_.out);
    for (const json& one : told) {
      std::string event = one.at("event");
      if (event == "sources") event = "why";
      if (event == "forgotten") ExpectDocumented("memory forget", one.at("receipt"));
      if (event == "rewound" || event == "attached") event = "forked";
      ExpectDocumented(event == "error" ? event : "chat " + event, one);
    }
    return told;
  }
  json Turns(const std::string& session) const {
    return RunJson({"sessions", "export", session, "--archive", archive_, "--json"})
        .at("turn_list");
  }

  std::string archive_ = Path("archive");
  Outcome last_;
};

TEST_F(Chat, AScriptIsOneTurnALineAndTheNextRunGoesOn) {
  const std::vector<json> first = Told(
      "My dog is named Rex.\n\nWhat is \\\nthe name of my dog?\n/why\n/stats\n/fork what-if\n"
      "//why is a message\n/rewind 1\n/sources 2\n/help\n/quit\nnobody reads this\n",
      {"--system", "You are a dog."});
  EXPECT_EQ(last_.code, 0) << last_.err;
  std::vector<std::string> events;
  for (const json& one : first) events.push_back(one.at("event"));
  EXPECT_EQ(events, (std::vector<std::string>{"turn", "turn", "why", "stats", "forked", "turn",
                                              "rewound", "sources", "help"}));
  ASSERT_EQ(events.size(), 9u);
  EXPECT_EQ(first[1].at("message"), "What is \nthe name of my dog?");
  EXPECT_EQ(first[1].at("turn"), 2);
  EXPECT_LE(first[1].at("tokens"), 4);
  EXPECT_EQ(first[4].at("session"), "what-if");
  EXPECT_EQ(first[4].at("from"), "chat");
  EXPECT_EQ(first[5].at("message"), "/why is a message");
  EXPECT_EQ(first[5].at("turn"), 3);
  EXPECT_EQ(first[6].at("turns"), 1);

  const json turns = Turns("chat");
  ASSERT_EQ(turns.size(), 2u);
  EXPECT_EQ(turns[0].at("parts")[0].at("role"), "system");
  EXPECT_EQ(turns[0].at("parts")[1].at("text"), "My dog is named Rex.");
  EXPECT_EQ(turns[0].at("parts").back().at("role"), "assistant");
  EXPECT_EQ(Turns("what-if").size(), 1u);

  // Plain text, in a process of its own.
  const Outcome next = Run("And now?\n", {"--system", "You are a cat."});
  EXPECT_EQ(next.code, 0) << next.err;
  EXPECT_EQ(next.out, Turns("chat").at(2).at("parts").back().at("text").get<std::string>() + "\n");
  EXPECT_NE(next.err.find("--system is for a new one"), std::string::npos) << next.err;
}

TEST_F(Chat, BadInputIsToldAndLosesNothing) {
  EXPECT_EQ(RunProgram({"chat", "--model", HybridModel()}, Kept(), "Hello\n").code, 2);
  EXPECT_EQ(Run("Hello\n", {"--attach", "nope"}).code, 3);
  EXPECT_EQ(Run("Hello\n", {"--session", ""}).code, 2);
  EXPECT_EQ(Run("Hello\n", {"--system", ""}).code, 2);
  EXPECT_EQ(Run("Hello\n", {"--policy", "magic"}).code, 2);
  EXPECT_EQ(Run("Hello\n", {"--temperature", "-1"}).code, 2);

  const std::vector<json> told = Told(
      "/why\n/fork early\n/rewind 1\n/forget 1\nHello\n/nope\n/fork\n/fork chat\n/rewind\n/rewind "
      "x\n"
      "/rewind 0\n/rewind 2\n/forget\n/forget 2\n/attach\n/attach nope\n/stats now\n/why "
      "not\n/sources -1\n"
      "bad \xFF byte\nGood bye\n/stats\n");
  std::string outcome;
  for (const json& one : told) {
    outcome += one.at("event") == "error" ? one.at("status").get<std::string>() + ","
                                          : one.at("event").get<std::string>() + ",";
  }
  EXPECT_EQ(
      outcome,
      "why,not found,not found,not found,turn,"
      "invalid argument,invalid argument,already exists,invalid argument,invalid argument,"
      "not found,not found,invalid argument,not found,invalid argument,not found,invalid argument,"
      "invalid argument,"
      "invalid argument,invalid argument,turn,stats,");
  EXPECT_EQ(last_.code, 3);  // of the first that failed
  for (const char* words : {"'/nope'", "/help", "/fork NAME", "turns 1 to 1", "'x'", "/why layers",
                            "collection nope", "byte 4"}) {
    EXPECT_NE(last_.err.find(words), std::string::npos) << words << "\n" << last_.err;
  }
  EXPECT_EQ(told.back().at("info").at("turns"), 2);
  EXPECT_EQ(Turns("chat").size(), 2u);
}

TEST_F(Chat, WhyNamesTheTurnsAndTheDocumentsBehindTheAnswer) {
  const Outcome ingested =
      RunProgram({"ingest", Write("note.txt", Prose(1200)), "--into", "notes", "--name", "a note",
                  "--archive", archive_, "--model", HybridModel(), "--window", "64"});
  ASSERT_EQ(ingested.code, 0) << ingested.err;
  const std::vector<json> told = Told(
      "The name of the ship was Esperanza, and it sailed in the spring, when the ice had gone "
      "and the river was high enough for it to leave the harbour without a pilot.\n"
      "Of what they ate, what they sang and how they slept on that long way nothing is known, "
      "for the only one who could write had stayed at home to mind the goats.\n"
      "It came back in the autumn with a load of salt, and the children stood on the wall to "
      "see it, as they had been told to when the first leaves fell.\n"
      "What was the name of the ship, the Esperanza, and who is the woman to Sherlock Holmes?\n"
      "/why\n",
      {"--attach", "notes", "--sinks", "32"});
  ASSERT_EQ(told.size(), 5u) << last_.err;
  const json& passages = told.back().at("passages");
  ASSERT_FALSE(passages.empty());
  bool own = false, note = false;
  double before = 1;
  for (const json& passage : passages) {
    own |= passage.at("collection") == "" && passage.at("turn") >= 1 && passage.at("turn") <= 3;
    note |= passage.at("source") == "a note" && passage.at("turn") == 0;
    EXPECT_LE(passage.at("attention"), before);
    before = passage.at("attention");
  }
  EXPECT_TRUE(own) << passages.dump(1);
  EXPECT_TRUE(note) << passages.dump(1);
  // For people; and what was attached is kept.
  const Outcome shown =
      Run("Of the ship Esperanza, and of Sherlock Holmes?\n/why\n/why layers\n/sources 1\n");
  EXPECT_EQ(shown.code, 0) << shown.err;
  for (const char* words : {"turn ", "notes: a note", "the last words and the first", "layer ",
                            "[1] ", "% of attention"}) {
    EXPECT_NE(shown.out.find(words), std::string::npos) << words << "\n" << shown.out;
  }
  const Outcome off = Run("And without?\n/why\n", {"--memory-off"});
  EXPECT_NE(off.out.find("no passage of memory"), std::string::npos) << off.out;
}

TEST_F(Chat, AForgottenTurnIsGoneFromTheConversationAndItsForks) {
  const std::vector<json> told =
      Told("The password is tangerine.\nIt rains today.\n/fork copy\n/forget 1\nAnd tomorrow?\n");
  EXPECT_EQ(last_.code, 0) << last_.err;
  ASSERT_EQ(told.size(), 5u) << last_.out;
  EXPECT_EQ(told[3].at("event"), "forgotten");
  EXPECT_EQ(told[3].at("turn"), 1);
  EXPECT_EQ(told[3].at("turns"), 2);
  EXPECT_EQ(told[3].at("receipt").at("sessions").size(), 2u) << told[3];
  EXPECT_EQ(told[4].at("turn"), 3);
  for (const char* session : {"chat", "copy"}) {
    const std::string kept = Turns(session).dump();
    EXPECT_EQ(kept.find("tangerine"), std::string::npos) << kept;
    EXPECT_NE(kept.find("It rains today."), std::string::npos) << kept;
  }
  const std::string again = "eidetic: something was forgotten; reading 1 later turn again, ";
  EXPECT_EQ(last_.err.rfind(again, 0), 0u) << last_.err;
  const Outcome trunk = Run("And now?\n");  // it is read again and goes on
  EXPECT_NE(trunk.out, "");
  EXPECT_EQ(trunk.err.rfind(again, 0), 0u) << trunk.err;
}

TEST_F(Chat, ATerminalEditsRemembersStopsForksAndGoesOn) {
  {
    TerminalProgram chat(Arguments({}, "4000"), Kept());
    ASSERT_TRUE(chat.Shows("a new conversation")) << chat.shown();
    ASSERT_TRUE(chat.Shows("chat> ")) << chat.shown();
    // Editing: the last word goes, the first comes before the rest; then the line is dropped.
    chat.Type(std::string("cat is nobody") + kCtrlW + "Mya" + kCtrlA + "My ");
    ASSERT_TRUE(chat.Shows("Mya")) << chat.shown();
    chat.Type(kCtrlC);
    ASSERT_TRUE(chat.Shows("^C")) << chat.shown();
    ASSERT_TRUE(chat.Shows("chat> ")) << chat.shown();
    chat.Type("Tell me a very long story of a \xC3\xA9l\xC3\xA9phant\x7f\x7fnt, word by word.\r");
    ASSERT_TRUE(chat.Shows("word by word.\r\n")) << chat.shown();
    ASSERT_TRUE(chat.ShowsMore()) << chat.shown();  // the answer begins
    chat.Type(kCtrlC);
    ASSERT_TRUE(chat.Shows("kept as turn 1")) << chat.shown();
    ASSERT_TRUE(chat.Shows("chat> ")) << chat.shown();
    chat.Type("/why\r");
    ASSERT_TRUE(chat.Shows("chat> ")) << chat.shown();
    chat.Type("/nope\r");
    ASSERT_TRUE(chat.Shows("there is no command '/nope'")) << chat.shown();
    ASSERT_TRUE(chat.Shows("chat> ")) << chat.shown();
    chat.Type("/fork what-if\r");
    ASSERT_TRUE(chat.Shows("what-if> ")) << chat.shown();
    chat.Type(kCtrlD);
    EXPECT_EQ(chat.Wait(), 0) << chat.shown();
  }
  const json kept = Turns("chat");
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(kept[0].at("parts")[0].at("text"),
            "Tell me a very long story of a \xC3\xA9l\xC3\xA9phant, word by word.");
  EXPECT_FALSE(kept[0].at("parts")[1].at("text").get<std::string>().empty());

  TerminalProgram again(Arguments(), Kept());
  ASSERT_TRUE(again.Shows("goes on after turn 1")) << again.shown();
  ASSERT_TRUE(again.Shows("Tell me a very long story")) << again.shown();
  ASSERT_TRUE(again.Shows("chat> ")) << again.shown();
  // The history of the first run: /fork, /nope, /why, the message.
  again.Type(std::string(kUp) + kUp + kUp + kUp);
  ASSERT_TRUE(again.Shows("word by word.")) << again.shown();
  again.Type("\r");
  ASSERT_TRUE(again.Shows("stopped after 4 tokens")) << again.shown();
  ASSERT_TRUE(again.Shows("chat> ")) << again.shown();
  again.Type("of two \\\r");
  ASSERT_TRUE(again.Shows("... ")) << again.shown();
  again.Type("lines\r");
  ASSERT_TRUE(again.Shows("chat> ")) << again.shown();
  again.Type("/rewind 2\r");
  ASSERT_TRUE(again.Shows("'chat' after turn 2")) << again.shown();
  ASSERT_TRUE(again.Shows("chat> ")) << again.shown();
  ::kill(again.id(), SIGTERM);
  EXPECT_EQ(again.Wait(), 130) << again.shown();

  const json turns = Turns("chat");
  ASSERT_EQ(turns.size(), 2u);
  EXPECT_EQ(turns[1].at("parts")[0].at("text"), kept[0].at("parts")[0].at("text"));
  EXPECT_EQ(Turns("what-if").size(), 1u);
  const auto history = std::filesystem::path(Path("state")) / "eidetic" / "chat-history";
  EXPECT_NE(model::ReadFile(history).find("/fork what-if\n"), std::string::npos);
  EXPECT_EQ(std::filesystem::status(history).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_TRUE(RunJson({"memory", "verify", "--archive", archive_, "--json"}).at("clean"));
}

}  // namespace
}  // namespace eidetic::apps
