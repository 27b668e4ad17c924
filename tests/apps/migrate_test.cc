// `archive migrate`: killed anywhere it goes on, and what it leaves is one model's memory or the
// other's, whole.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "tests/apps/documented_keys.h"
#include "tests/apps/program.h"
#include "tests/model/tiny_adapter.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;

class Migrate : public ProgramTest {
 protected:
  void SetUp() override {
    const model::TinyFolder tiny = model::TinyFolder::Granite();
    tiny.Write(Path("base"));
    model::TinyAdapter::HyLora(tiny).Write(Path("tuned"));
  }

  // Of the few words that the tiny tokenizer knows.
  std::string WriteText(const std::string& name, unsigned seed, int words) const {
    std::mt19937 random(seed);
    std::string text;
    for (int i = 0; i < words; ++i) {
      constexpr const char* kWords[] = {"a", "b", "ab", "abb", "bab"};
      text += std::string(i == 0 ? "" : " ") + kWords[random() % 5];
    }
    return Write(name, text);
  }

  // In small segments: many places to die at.
  void Ingest(const std::string& archive, const std::vector<std::string>& files,
              const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"ingest"};
    arguments.insert(arguments.end(), files.begin(), files.end());
    for (const std::string& one : std::vector<std::string>{
             "--into", "books", "--archive", Path(archive), "--model", Path("base"), "--threads",
             "1", "--window", "64", "--segment", "32"}) {
      arguments.push_back(one);
    }
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = RunProgram(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
  }

  std::vector<std::string> Command(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {
        "archive",          "migrate",   "--archive",   Path("archive"), "--model",
        Path("base"),       "--adapter", Path("tuned"), "--threads",     "1",
        "--commit-seconds", "0.0001",    "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  std::vector<json> Run(const std::vector<std::string>& more = {}) const {
    const Outcome outcome = RunProgram(Command(more));
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return JsonLines(outcome.out);
  }

  // Of the one collection that there is.
  json Verified(const std::string& archive) const {
    const json report = RunJson({"memory", "verify", "--archive", Path(archive), "--json"});
    EXPECT_TRUE(report.at("clean")) << report;
    EXPECT_EQ(report.at("collections").size(), 1u);
    return report.at("collections")[0];
  }
  std::string FingerprintOfBooks() const {
    const json list = RunJson({"memory", "list", "--archive", Path("archive"), "--json"});
    return list.at("collections")[0].at("fingerprint");
  }
};

TEST_F(Migrate, KilledAnywhereItLeavesOneWholeMemoryAndGoesOn) {
  const std::vector<std::string> files = {WriteText("one.txt", 1, 6000),
                                          WriteText("two.txt", 2, 5000),
                                          WriteText("three.txt", 3, 4000)};
  Ingest("archive", files);
  Ingest("fresh", files, {"--adapter", Path("tuned")});
  const std::string before = Verified("archive").at("digest");
  const std::string expected = Verified("fresh").at("digest");
  const std::string old_model = FingerprintOfBooks();

  const std::vector<json> plan = Run({"--dry-run"});
  ASSERT_EQ(plan.size(), 1u);
  ExpectDocumented("archive migrate", plan[0]);
  EXPECT_EQ(plan[0].at("outcome"), "planned");
  EXPECT_EQ(plan[0].at("documents_read"), 3);
  EXPECT_EQ(Verified("archive").at("digest"), before);

  // The program waits when nobody reads what it says, so it is never far ahead of the lines that
  // were read: it dies in the middle of the first two runs.
  std::uint64_t acknowledged = 0;
  std::set<std::string> died_in;
  for (const int lines : {1, 40, 300}) {
    Program program(Command());
    std::string line;
    for (int i = 0; i < lines && program.ReadLine(&line); ++i) {
      const json event = json::parse(line);
      if (event.at("event") != "committed") break;
      if (i == 0) ExpectDocumented("archive migrate committed", event);
      // It begins where the runs before it had come to, or later: that a document is complete is
      // told by an event of its own.
      EXPECT_GE(event.at("tokens").get<std::uint64_t>(), acknowledged);
      acknowledged = event.at("tokens");
      died_in.insert(event.at("source"));
    }
    program.Signal(SIGKILL);
    static_cast<void>(program.Wait());
    const std::string digest = Verified("archive").at("digest");
    EXPECT_TRUE(digest == before || (lines == 300 && digest == expected)) << "after " << lines;
    EXPECT_EQ(FingerprintOfBooks() == old_model, digest == before);
  }
  EXPECT_GT(died_in.size(), 1u);

  const std::vector<json> lines = Run();
  const json& report = lines.back();
  ExpectDocumented("archive migrate", report);
  EXPECT_EQ(report.at("documents"), 3);
  EXPECT_LE(report.at("tokens_read").get<std::uint64_t>(),
            report.at("tokens").get<std::uint64_t>() - acknowledged);
  EXPECT_EQ(Verified("archive").at("digest"), expected);
  EXPECT_NE(FingerprintOfBooks(), old_model);
  EXPECT_EQ(Run().back().at("outcome"), "unchanged");
}

TEST_F(Migrate, PeopleReadWhatWasDoneAndWhatIsLeft) {
  Ingest("archive", {WriteText("one.txt", 1, 100)});
  std::vector<std::string> arguments = Command({"--collection", "books"});
  std::erase(arguments, "--json");
  const Outcome done = RunProgram(arguments);
  EXPECT_EQ(done.code, 0) << done.err;
  EXPECT_TRUE(Contains(done.out, "books: migrated, 1 documents")) << done.out;
  EXPECT_TRUE(Contains(RunProgram(arguments).out, "is this model's already"));

  arguments.back() = "none";
  const Outcome none = RunProgram(arguments);
  EXPECT_EQ(none.code, 3);
  EXPECT_TRUE(Contains(none.err, "there is no collection none")) << none.err;
}

// A device that is not there is no matter where no weights are loaded.
TEST_F(Migrate, ADryRunLoadsNoWeights) {
  Ingest("archive", {WriteText("one.txt", 1, 100)});
  const std::vector<std::string> nowhere = {"--device", "cuda:99"};
  EXPECT_NE(RunProgram(Command(nowhere)).code, 0);
  const std::vector<json> plan = Run({"--device", "cuda:99", "--dry-run"});
  ASSERT_EQ(plan.size(), 1u);
  EXPECT_EQ(plan[0].at("outcome"), "planned");
  EXPECT_EQ(plan[0].at("documents_read"), 1);
}

// The parity models have a tokenizer that knows every byte, as the words of needles ask.
TEST_F(Migrate, CalibrateWritesTheProfileOfTheNewModel) {
  const std::filesystem::path adapter = Path("adapter");
  std::filesystem::copy(EIDETIC_GOLDEN_DIR "/peft_granite", adapter);
  const auto run = [&](std::vector<std::string> arguments, const std::vector<std::string>& model) {
    for (const std::string& one : std::vector<std::string>{"--archive", Path("archive"), "--model",
                                                           EIDETIC_PARITY_DIR "/granite_folder"}) {
      arguments.push_back(one);
    }
    arguments.insert(arguments.end(), model.begin(), model.end());
    const Outcome outcome = RunProgram(arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome;
  };
  run({"ingest", Write("one.txt", "A short text that another model reads."), "--into", "books"},
      {});
  const std::vector<json> lines =
      JsonLines(run({"archive", "migrate", "--calibrate", EIDETIC_TEST_TEXT, "--json"},
                    {"--adapter", adapter})
                    .out);
  ASSERT_GE(lines.size(), 2u);
  const json& migrated = lines[lines.size() - 2];
  const json& calibrated = lines.back();
  EXPECT_EQ(migrated.at("outcome"), "migrated");
  ExpectDocumented("archive migrate calibrated", calibrated);
  EXPECT_EQ(calibrated.at("output"), adapter.string() + ".profile.json");
  EXPECT_EQ(calibrated.at("profile").at("fingerprint"), migrated.at("to"));
  EXPECT_EQ(json::parse(model::ReadFile(calibrated.at("output").get<std::string>())),
            calibrated.at("profile"));
  // A profile of another model would be refused when this one is loaded.
  run({"archive", "migrate"}, {"--adapter", adapter});
}

// What is there as it is needs no weights: a device that is not there is no matter.
TEST_F(Migrate, IngestLoadsNoModelWhenNothingChanged) {
  const std::string file = WriteText("one.txt", 1, 100);
  const std::vector<std::string> nowhere = {"--device", "cuda:99"};
  Ingest("archive", {file});
  Ingest("archive", {file}, nowhere);
  const auto code = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {
        "ingest", file, "--into", "books", "--archive", Path("archive"), "--model", Path("base")};
    arguments.insert(arguments.end(), nowhere.begin(), nowhere.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunProgram(arguments).code;
  };
  EXPECT_EQ(code({}), 0);
  EXPECT_NE(code({"--again"}), 0);
  EXPECT_NE(code({"--adapter", Path("tuned")}), 0);  // another model would have to read it
  WriteText("one.txt", 2, 100);
  EXPECT_NE(code({}), 0);
}

}  // namespace
}  // namespace eidetic::apps
