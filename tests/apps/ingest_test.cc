// ingest, ask, generate and memory with the real hybrid model.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>

#include "tests/apps/documented_keys.h"
#include "tests/apps/program.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;

class Commands : public ProgramTest {
 protected:
  Outcome Ingest(const std::vector<std::string>& files, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"ingest"};
    arguments.insert(arguments.end(), files.begin(), files.end());
    arguments.insert(arguments.end(), {"--into", "stories", "--archive", Path("archive"), "--model",
                                       HybridModel(), "--json"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunProgram(arguments);
  }
  // The `done` event of an ingest of one file that must succeed.
  json Done(const std::string& file, const std::vector<std::string>& more = {}) {
    const Outcome outcome = Ingest({file}, more);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    json done;
    for (const json& line : JsonLines(outcome.out)) {
      ExpectDocumented("ingest " + line.at("event").get<std::string>(), line);
      if (line.at("event") == "done") done = line;
    }
    EXPECT_FALSE(done.is_null()) << "no done event in " << outcome.out;
    return done;
  }
  json Verify() { return Memory("verify"); }
  json List() { return Memory("list"); }
  json Memory(const std::string& what) {
    const json printed = RunJson({"memory", what, "--archive", Path("archive"), "--json"});
    ExpectDocumented("memory " + what, printed);
    return printed;
  }
};

TEST_F(Commands, IngestAddsSkipsWhatIsUnchangedAndReplacesWhatChanged) {
  const std::string file = Write("story.txt", Prose(1800));
  const json added = Done(file);
  EXPECT_EQ(added.at("outcome"), "added");
  EXPECT_EQ(added.at("tokens"), added.at("tokens_read"));
  const json first = Verify();
  EXPECT_TRUE(first.at("clean"));

  const json unchanged = Done(file);
  EXPECT_EQ(unchanged.at("outcome"), "unchanged");
  EXPECT_EQ(unchanged.at("tokens_read"), 0);
  EXPECT_EQ(unchanged.at("tokens"), added.at("tokens"));
  const json again = Done(file, {"--again"});
  EXPECT_EQ(again.at("outcome"), "replaced");
  EXPECT_EQ(again.at("tokens_read"), added.at("tokens_read"));
  EXPECT_EQ(Verify().at("collections")[0].at("digest"), first.at("collections")[0].at("digest"));

  Write("story.txt", Prose(1200));
  const json replaced = Done(file);
  EXPECT_EQ(replaced.at("outcome"), "replaced");
  EXPECT_LT(replaced.at("tokens"), added.at("tokens"));
  const json list = List();
  ASSERT_EQ(list.at("collections").size(), 1u);
  ASSERT_EQ(list.at("collections")[0].at("documents").size(), 1u);
  const json document = list.at("collections")[0].at("documents")[0];
  EXPECT_EQ(document.at("source"), file);
  EXPECT_EQ(document.at("tokens"), replaced.at("tokens"));
  EXPECT_TRUE(document.at("complete"));
  EXPECT_TRUE(Verify().at("clean"));
  EXPECT_NE(Verify().at("collections")[0].at("digest"), first.at("collections")[0].at("digest"));
}

TEST_F(Commands, AFileThatFailsDoesNotKeepTheOthersOut) {
  const Outcome outcome = Ingest(
      {Write("binary", std::string("a\0b", 3)), Write("story.txt", Prose(800)), Path("nowhere")});
  EXPECT_EQ(outcome.code, 1);
  const json summary = JsonLines(outcome.out).back();
  EXPECT_EQ(summary.at("event"), "summary");
  EXPECT_EQ(summary.at("files"), 3);
  EXPECT_EQ(summary.at("failed"), 2);
  EXPECT_EQ(summary.at("exit_code"), 1);  // for different reasons
  EXPECT_GT(summary.at("tokens"), 100);
}

TEST_F(Commands, AskAnswersFromTheArchiveAndNamesTheSource) {
  const std::string before = Prose(3600),
                    needle = " One of the special magic numbers for ancient-dragon is: 6986384.";
  const std::string half = before.substr(0, before.find(". ", 900) + 1);
  const std::string text = half + needle + before.substr(half.size());
  const std::string file = Write("story.txt", text);
  Done(file);
  const std::string question =
      "What is the special magic number for ancient-dragon mentioned in the provided text?";
  const json reply = RunJson({"ask", question, "--from", "stories", "--archive", Path("archive"),
                              "--model", HybridModel(), "--json"});
  ExpectDocumented("ask", reply);
  EXPECT_NE(reply.at("answer").get<std::string>().find("6986384"), std::string::npos) << reply;
  ASSERT_FALSE(reply.at("sources").empty());
  double attention = 0;
  bool named = false;
  for (const json& source : reply.at("sources")) {
    EXPECT_EQ(source.at("source"), file);
    EXPECT_LT(source.at("byte_begin"), source.at("byte_end"));
    EXPECT_LE(source.at("byte_end"), text.size());
    attention += source.at("attention").get<double>();
    const auto at = half.size() + needle.size() - 2;  // within the number
    named = named || (source.at("byte_begin") <= at && at < source.at("byte_end"));
  }
  EXPECT_TRUE(named) << reply;
  EXPECT_GT(attention, 0);
  EXPECT_LE(attention, 1);

  // For people: the answer, then the passages.
  const Outcome shown = RunProgram(
      {"ask", question, "--archive", Path("archive"), "--model", HybridModel(), "--sources", "2"});
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_NE(shown.out.find("6986384"), std::string::npos) << shown.out;
  EXPECT_NE(shown.out.find("\n[1] " + file + " bytes "), std::string::npos) << shown.out;
  EXPECT_EQ(shown.out.find("\n[3]"), std::string::npos) << shown.out;

  const json found =
      RunJson({"memory", "search", "special magic number for ancient-dragon", "--archive",
               Path("archive"), "--model", HybridModel(), "--limit", "3", "--json"});
  ExpectDocumented("memory search", found);
  EXPECT_FALSE(found.at("passages").empty());
  EXPECT_LE(found.at("passages").size(), 3u);

  const json stats = Memory("stats");
  EXPECT_GT(stats.at("blocks"), 10);
  EXPECT_GT(stats.at("bytes_on_disk"), 1000);

  EXPECT_EQ(RunProgram({"ask", question, "--from", "poems", "--archive", Path("archive"), "--model",
                        HybridModel()})
                .code,
            3);
}

TEST_F(Commands, ControlsInNamesAndTextReachJsonAndNoTerminal) {
  const std::string text =
      "A dark \033[31mred\033[0m room, \rand a \xC2\x9B"
      "1m bold one. " +
      Prose(300);
  const std::string file = Write("odd\033]0;title\a\nname.txt", text);
  const auto has_controls = [](const std::string& shown) {
    return std::any_of(shown.begin(), shown.end(),
                       [](char c) { return (c >= 0 && c < ' ' && c != '\n') || c == 0x7F; }) ||
           shown.find("\xC2\x9B") != std::string::npos || shown.find("\nname") != std::string::npos;
  };
  const std::vector<std::string> where = {"--archive", Path("archive"), "--model", HybridModel()};
  const auto run = [&](std::vector<std::string> arguments, bool model = true) {
    arguments.insert(arguments.end(), where.begin(), model ? where.end() : where.begin() + 2);
    const Outcome outcome = RunProgram(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_NE(outcome.out, "");
    return outcome;
  };
  for (const Outcome& shown :
       {run({"ingest", file, "--into", "stories"}), run({"memory", "list"}, false),
        run({"memory", "search", "a dark room"}),
        run({"ask", "Which room?", "--max-tokens", "2", "--sources", "3"})}) {
    EXPECT_FALSE(has_controls(shown.out + shown.err)) << shown.out << shown.err;
    if (shown.out.find("[1]") != std::string::npos) {
      EXPECT_NE(shown.out.find("dark ?[31mred?[0m room, and a ?1m bold"), std::string::npos)
          << shown.out;
    }
  }
  const json found = json::parse(run({"memory", "search", "a dark room", "--json"}).out);
  EXPECT_EQ(found.at("passages").at(0).at("source"), file);
  EXPECT_EQ(found.at("passages").at(0).at("text").get<std::string>().rfind("A dark \033[31mred", 0),
            0u);
  const Outcome missing = Ingest({Path("no\033[2Jsuch")});
  EXPECT_EQ(missing.code, 3);
  EXPECT_FALSE(has_controls(missing.err)) << missing.err;
}

TEST_F(Commands, MemoryOfAnotherModelIsRefused) {
  Done(Write("story.txt", Prose(800)));
  const Outcome ask = RunProgram(
      {"ask", "Who?", "--from", "stories", "--archive", Path("archive"), "--model", BaseModel()});
  EXPECT_EQ(ask.code, 5) << ask.err;
  const Outcome ingest = RunProgram({"ingest", Write("more.txt", Prose(900)), "--into", "stories",
                                     "--archive", Path("archive"), "--model", BaseModel()});
  EXPECT_EQ(ingest.code, 5) << ingest.err;
  EXPECT_TRUE(Verify().at("clean"));
}

TEST_F(Commands, ALockedArchiveNamesItsHolderAndCanStillBeRead) {
  Done(Write("story.txt", Prose(800)));
  Program holder({"ingest", Write("long.txt", Prose(40000)), "--into", "stories", "--archive",
                  Path("archive"), "--model", HybridModel(), "--json"});
  std::string line;
  ASSERT_TRUE(holder.ReadLine(&line)) << holder.Wait().err;
  const Outcome refused = Ingest({Write("more.txt", Prose(900))});
  EXPECT_EQ(refused.code, 6) << refused.err;
  EXPECT_NE(refused.err.find(std::to_string(holder.id())), std::string::npos) << refused.err;
  EXPECT_GE(List().at("collections")[0].at("documents").size(), 1u);
  holder.Signal(SIGKILL);
  EXPECT_EQ(holder.Wait().signal, SIGKILL);
  // A dead holder's lock is no lock.
  EXPECT_EQ(Done(Path("more.txt")).at("outcome"), "added");
}

TEST_F(Commands, CtrlCKeepsWhatWasCommittedAndTheNextRunGoesOn) {
  const std::string file = Write("story.txt", Prose(16000));
  const std::vector<std::string> reading = {"--window", "256", "--commit-seconds", "0.01"};
  std::vector<std::string> arguments = {"ingest",  file,          "--into",
                                        "stories", "--archive",   Path("archive"),
                                        "--model", HybridModel(), "--json"};
  arguments.insert(arguments.end(), reading.begin(), reading.end());
  Program program(arguments);
  std::string line;
  json event;
  do {
    ASSERT_TRUE(program.ReadLine(&line)) << program.Wait().err;
    event = json::parse(line);
  } while (event.at("event") != "committed" || event.at("blocks") == 0);
  program.Signal(SIGINT);
  const Outcome stopped = program.Wait();
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_NE(stopped.err.find("committed and kept"), std::string::npos) << stopped.err;

  const json document = List().at("collections")[0].at("documents")[0];
  EXPECT_FALSE(document.at("complete"));
  EXPECT_GT(document.at("committed_tokens"), 0);
  EXPECT_TRUE(Verify().at("clean"));

  const json resumed = Done(file, reading);
  EXPECT_EQ(resumed.at("outcome"), "resumed");
  // What was acknowledged is not read again.
  EXPECT_LE(resumed.at("tokens_read").get<int>(),
            resumed.at("tokens").get<int>() - event.at("tokens").get<int>());
}

TEST_F(Commands, AReaderThatGoesAwayEndsTheProgramQuietlyAndLosesNothing) {
  ::signal(SIGPIPE, SIG_IGN);  // as some parents have it; a child inherits that
  Program program({"ingest", Write("story.txt", Prose(16000)), "--into", "stories", "--archive",
                   Path("archive"), "--model", HybridModel(), "--json", "--window", "256",
                   "--commit-seconds", "0.01"});
  std::string line;
  json event;
  do {
    ASSERT_TRUE(program.ReadLine(&line)) << program.Wait().err;
    event = json::parse(line);
  } while (event.at("event") != "committed" || event.at("blocks") == 0);
  program.CloseOutput();
  const Outcome outcome = program.Wait();
  EXPECT_EQ(outcome.signal, SIGPIPE) << outcome.code;
  EXPECT_EQ(outcome.err.find("eidetic:"), std::string::npos) << outcome.err;
  EXPECT_GE(List().at("collections")[0].at("documents")[0].at("committed_tokens"),
            event.at("tokens"));
  EXPECT_TRUE(Verify().at("clean"));
}

TEST_F(Commands, AMegabyteInOneLineIsReadAndCanBeStopped) {
  std::string text;
  const std::string words = Prose(20000);
  while (text.size() < 1'000'000) text += words;
  for (char& c : text) c = c == '\n' ? ' ' : c;
  const std::string file = Write("line.txt", text.substr(0, text.rfind(' ', 1'000'000)));
  Program program({"ingest", file, "--into", "stories", "--archive", Path("archive"), "--model",
                   HybridModel(), "--json", "--commit-seconds", "0.05", "--window", "64"});
  std::string line;
  json event;
  do {
    ASSERT_TRUE(program.ReadLine(&line)) << program.Wait().err;
    event = json::parse(line);
  } while (event.at("event") != "committed" || event.at("tokens") < 1024);
  EXPECT_GT(event.at("total"), 200'000);
  program.Signal(SIGINT);
  EXPECT_EQ(program.Wait().code, 130);
  EXPECT_TRUE(Verify().at("clean"));
}

TEST_F(Commands, GenerateIsSeededAndAKeptSessionGoesOnInANewProcess) {
  const std::vector<std::string> model = {"--model", HybridModel(), "--json"};
  const auto generate = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "generate");
    arguments.insert(arguments.end(), model.begin(), model.end());
    return RunJson(arguments).at("text").get<std::string>();
  };
  const std::vector<std::string> sampled = {
      "--prompt", "Once upon a time", "--max-tokens", "12", "--temperature", "1", "--seed", "7"};
  EXPECT_EQ(generate(sampled), generate(sampled));

  const std::string start = Prose(600);
  const std::string at_once = generate({"--prompt", start + " He", "--max-tokens", "8"});
  const std::vector<std::string> kept = {"--session", "diary", "--archive", Path("archive")};
  Outcome first =
      RunProgram({"generate", "--prompt", start, "--max-tokens", "1", "--session", "diary",
                  "--archive", Path("archive"), "--model", HybridModel(), "--json"});
  ASSERT_EQ(first.code, 0) << first.err;
  ExpectDocumented("generate", json::parse(first.out));
  const json before = json::parse(first.out).at("session");
  const json after =
      RunJson({"generate", "--prompt", " He", "--max-tokens", "8", "--session", "diary",
               "--archive", Path("archive"), "--model", HybridModel(), "--json"})
          .at("session");
  EXPECT_GT(after.at("position"), before.at("position"));
  EXPECT_FALSE(at_once.empty());
  ASSERT_EQ(List().at("sessions").size(), 1u);
  EXPECT_EQ(List().at("sessions")[0].at("name"), "diary");
}

// The environment of a program whose archive may take so many bytes.
Environment DiskOf(const std::string& bytes, const std::string& folder) {
  // A sanitized program accepts the preloaded library before its runtime when told so.
  return {{"LD_PRELOAD", EIDETIC_FULL_DISK_PATH},
          {"ASAN_OPTIONS", "verify_asan_link_order=0"},
          {"EIDETIC_TEST_DISK_BYTES", bytes},
          {"EIDETIC_TEST_DISK_FOLDER", folder}};
}

TEST_F(Commands, AnArchiveWhoseMakingMetAFullDiskIsFinishedLater) {
  const std::string file = Write("story.txt", Prose(500));
  const std::vector<std::string> ingest = {
      "ingest", file, "--into", "stories", "--archive", Path("archive"), "--model", HybridModel()};
  for (const char* bytes : {"0", "200", "2000"}) {
    const Outcome full = RunProgram(ingest, DiskOf(bytes, Path("archive")));
    EXPECT_EQ(full.code, 7) << full.err;
    const Outcome list = RunProgram({"memory", "list", "--archive", Path("archive")});
    EXPECT_EQ(list.code, 3) << list.err;
    EXPECT_NE(list.err.find(Path("archive")), std::string::npos) << list.err;
  }
  EXPECT_EQ(RunProgram(ingest).code, 0);
  EXPECT_TRUE(Verify().at("clean"));
}

TEST_F(Commands, ASessionThatTheDiskHasNoRoomForIsNotThere) {
  const Outcome full =
      RunProgram({"generate", "--session", "talk", "--archive", Path("archive"), "--model",
                  HybridModel(), "--prompt", "Once upon a time", "-n", "2", "--window", "64"},
                 DiskOf("300000", Path("archive")));
  EXPECT_EQ(full.code, 7) << full.err;
  EXPECT_TRUE(Verify().at("clean"));
  EXPECT_TRUE(List().at("sessions").empty());
}

TEST_F(Commands, AFullDiskExitsWithSevenAndLosesNothingThatWasAcknowledged) {
  const std::string file = Write("story.txt", Prose(12000));
  const std::vector<std::string> arguments = {
      "ingest",        file,       "--into",      "stories", "--archive",
      Path("archive"), "--model",  HybridModel(), "--json",  "--commit-seconds",
      "0.01",          "--window", "256"};
  // Blocks of 4.5 KB a token, and with each commit the window of 256 tokens: the disk is full after
  // some commits and before the document's end.
  // A file that is missing before it, and one that is not tried after it, leave the code as it is.
  std::vector<std::string> three = arguments;
  three.insert(three.begin() + 1, Path("nowhere"));
  three.insert(three.begin() + 3, Write("other.txt", Prose(900)));
  const Outcome full = RunProgram(three, DiskOf("16000000", Path("archive")));
  EXPECT_EQ(full.code, 7) << full.err;
  const json summary = JsonLines(full.out).back();
  EXPECT_EQ(summary.at("exit_code"), 7);
  EXPECT_EQ(summary.at("failed"), 2);
  EXPECT_EQ(summary.at("not_tried"), 1);
  std::uint64_t acknowledged = 0;
  for (const json& line : JsonLines(full.out)) {
    if (line.at("event") == "committed") acknowledged = line.at("tokens");
  }
  EXPECT_GT(acknowledged, 0u);
  EXPECT_TRUE(Verify().at("clean"));
  const json resumed = Done(file, {"--window", "256"});
  EXPECT_LE(resumed.at("tokens_read").get<std::uint64_t>(),
            resumed.at("tokens").get<std::uint64_t>() - acknowledged);
  EXPECT_TRUE(Verify().at("clean"));
}

}  // namespace
}  // namespace eidetic::apps
