// kill -9 at seeded moments of all that writes an archive, one after the other in the same one:
// chats that say, fork, rewind and forget, `sessions`, `memory forget`, `ingest` and the word
// index's rebuild. What was acknowledged is there, what was not is there as a whole or not at all,
// what was forgotten is in no file, and the archive is clean (rules 1, 2 and 4).
//
// The oracle lives outside: what each line of output acknowledged is worked out beforehand, and the
// archive must be as after the last line that came, or as after one more.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "eidetic/eidetic.hpp"
#include "tests/apps/program.h"
#include "tests/seed.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr std::size_t kMostTurns = 6;  // of a session: all have a state of their own
constexpr std::size_t kMostSessions = 4;

// How often a process is killed: EIDETIC_TEST_KILLS, which scripts/soak sets.
int Kills() {
  const char* kills = std::getenv("EIDETIC_TEST_KILLS");
  return kills == nullptr ? 4 : std::stoi(kills);
}

// What was said in a turn, or stands in a document: a number that nothing else has.
using Secret = int;
constexpr Secret kForgotten = 0;

std::string DigitsOf(Secret secret) {
  return std::to_string(10'000'000 + 7'919'317LL * secret % 89'999'981);
}

using Turns = std::vector<Secret>;

// What an archive holds. Forgotten turns at the end of a session count as none: whether they still
// have a number depends on whether it was opened since.
struct World {
  std::map<std::string, Turns> sessions;
  std::set<Secret> documents;
  bool operator==(const World&) const = default;

  void Tidy() {
    for (auto session = sessions.begin(); session != sessions.end();) {
      Turns& turns = session->second;
      while (!turns.empty() && turns.back() == kForgotten) turns.pop_back();
      session = turns.empty() ? sessions.erase(session) : std::next(session);
    }
  }
  // In every session that sees it.
  void ForgetTurn(Secret secret) {
    for (auto& [name, turns] : sessions)
      std::replace(turns.begin(), turns.end(), secret, kForgotten);
    Tidy();
  }
};

// One run of the program: after[k] is the archive once k lines have acknowledged something.
struct Step {
  std::string what;
  std::vector<std::string> arguments;
  std::string input;
  std::vector<World> after;
  std::map<std::size_t, Secret> forgets;  // what the line that leads to after[k] forgets
  bool loads_model = false;

  World& Next() {
    after.push_back(World(after.back()));
    return after.back();
  }
  void ForgetTurn(Secret secret) {
    Next().ForgetTurn(secret);
    forgets[after.size() - 1] = secret;
  }
};

class LifeCrash : public ProgramTest {
 protected:
  std::vector<std::string> On(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"--archive", archive_, "--json"});
    return arguments;
  }

  // What an archive holds.
  World Observed(const Archive& archive) {
    World world;
    waiting_.clear();
    const json sessions = json::parse(archive.sessions());
    for (const json& session : sessions.at("sessions")) {
      const std::string name = session.at("name");
      Turns& turns = world.sessions[name];
      const json exported = json::parse(archive.export_session(name, EID_EXPORT_JSON));
      for (const json& turn : exported.at("turn_list")) {
        turns.push_back(turn.value("forgotten", false) ? kForgotten : SecretIn(turn.dump()));
        if (turn.value("waiting", false)) waiting_.insert(name);
      }
    }
    const json list = json::parse(archive.list());
    for (const json& collection : list.at("collections")) {
      for (const json& document : collection.at("documents")) {
        if (document.at("complete")) world.documents.insert(SecretIn(document.dump()));
      }
    }
    world.Tidy();
    return world;
  }
  // Of those that were ever said.
  Secret SecretIn(const std::string& text) const {
    for (Secret secret = 1; secret < next_; ++secret) {
      if (text.find(DigitsOf(secret)) != std::string::npos) return secret;
    }
    ADD_FAILURE() << "nobody said this: " << text;
    return -1;
  }

  std::string FileOf(Secret secret) const { return Path(DigitsOf(secret) + ".txt"); }

  // ---- the steps ----

  Step Begin(std::string what) const {
    Step step;
    step.what = std::move(what);
    step.after.push_back(world_);
    return step;
  }
  std::uint64_t Draw(std::uint64_t below) { return random_() % below; }
  // A session, and one of its turns that is not forgotten (from 1).
  std::string DrawSession() {
    return std::next(world_.sessions.begin(),
                     static_cast<std::ptrdiff_t>(Draw(world_.sessions.size())))
        ->first;
  }
  std::size_t DrawTurn(const Turns& turns) {
    for (;;) {
      const std::size_t turn = 1 + Draw(turns.size());
      if (turns[turn - 1] != kForgotten) return turn;
    }
  }

  // Some messages; between them a fork, or at the end a rewind or a turn that is forgotten.
  Step Chat() {
    const bool begins = world_.sessions.size() < 2 || Draw(5) == 0;
    return Chat(begins ? "talk" + std::to_string(next_) : DrawSession());
  }
  Step Chat(std::string session) {
    Step step = Begin("chat in " + session);
    step.loads_model = true;
    step.arguments = On({"chat", "--model", HybridModel(), "--session", session, "--max-tokens",
                         "1", "--window", "64", "--attach", "notes"});
    const auto say = [&] {
      step.input += "My locker has the number " + DigitsOf(next_) + ".\n";
      step.Next().sessions[session].push_back(next_++);
    };
    say();
    if (Draw(2) == 0) {
      const std::string fork = "fork" + std::to_string(next_);
      step.input += "/fork " + fork + "\n";
      World& after = step.Next();
      after.sessions[fork] = after.sessions[session];
      session = fork;
      say();
    }
    const Turns turns = step.after.back().sessions[session];
    const std::size_t turn = DrawTurn(turns);
    if (turns.size() > 3 || Draw(3) == 0) {
      step.input += "/rewind " + std::to_string(turn) + "\n";
      step.Next().sessions[session].resize(turn);
    } else if (Draw(2) == 0) {
      step.input += "/forget " + std::to_string(turn) + "\n";
      step.ForgetTurn(turns[turn - 1]);
    }
    return step;
  }

  // Of a session whose turns do not wait to be read again: else it is opened first.
  Step ForkOrRewind() {
    const std::string session = DrawSession();
    if (waiting_.contains(session)) return Chat(session);
    const Turns turns = world_.sessions[session];
    const std::string turn = std::to_string(DrawTurn(turns));
    if (world_.sessions.size() > kMostSessions) {
      Step step = Begin("delete " + session);
      step.arguments = On({"sessions", "delete", session});
      step.Next().sessions.erase(session);
      return step;
    }
    const std::size_t length = std::stoul(turn);
    if (turns.size() >= kMostTurns || Draw(2) == 0) {
      Step step = Begin("rewind " + session + " to " + turn);
      step.arguments = On({"sessions", "rewind", session, "--turn", turn});
      step.Next().sessions[session].resize(length);
      return step;
    }
    const std::string fork = "fork" + std::to_string(next_++);
    Step step = Begin("fork " + session + " at " + turn + " to " + fork);
    step.arguments = On({"sessions", "fork", session, "--turn", turn, "--to", fork});
    step.Next().sessions[fork] =
        Turns(turns.begin(), turns.begin() + static_cast<std::ptrdiff_t>(length));
    return step;
  }

  Step ForgetTurn() {
    const std::string session = DrawSession();
    const Turns& turns = world_.sessions[session];
    const std::size_t turn = DrawTurn(turns);
    Step step = Begin("forget turn " + std::to_string(turn) + " of " + session);
    step.arguments = On({"memory", "forget", "--session", session, "--turn", std::to_string(turn),
                         "--yes", "--verify"});
    step.ForgetTurn(turns[turn - 1]);
    return step;
  }

  Step ForgetDocument() {
    if (world_.documents.empty()) return Ingest();
    const Secret secret = *std::next(world_.documents.begin(),
                                     static_cast<std::ptrdiff_t>(Draw(world_.documents.size())));
    Step step = Begin("forget document " + DigitsOf(secret));
    step.arguments = On({"memory", "forget", "--collection", "notes", "--source", FileOf(secret),
                         "--yes", "--verify"});
    step.Next().documents.erase(secret);
    step.forgets[1] = secret;
    return step;
  }

  std::vector<std::string> IngestArguments(Secret secret) const {
    return On({"ingest", FileOf(secret), "--into", "notes", "--model", HybridModel(), "--segment",
               "64", "--window", "128", "--commit-seconds", "0.01"});
  }
  Step Ingest() {
    const Secret secret = next_++;
    Step step = Begin("ingest " + DigitsOf(secret));
    step.loads_model = true;
    const std::string prose = Prose(1500);
    Write(DigitsOf(secret) + ".txt", prose + " The lighthouse has the number " + DigitsOf(secret) +
                                         ". " + prose.substr(0, 300));
    step.arguments = IngestArguments(secret);
    step.Next().documents.insert(secret);
    return step;
  }

  // The index's file is gone, or what a crash may leave of it; a document that has not changed
  // makes it anew.
  Step RebuildIndex() {
    if (world_.documents.empty()) return Ingest();
    Step step = Begin("rebuild the word index");
    step.loads_model = true;
    std::error_code none;  // when what was killed last was a forgetting, it is gone already
    for (const auto& entry : std::filesystem::directory_iterator(archive_ + "/words", none)) {
      if (Draw(2) == 0) {
        std::filesystem::remove(entry.path());
      } else {
        std::filesystem::resize_file(entry.path(), entry.file_size() / 2);
      }
    }
    step.arguments = IngestArguments(*world_.documents.begin());
    step.Next();
    return step;
  }

  // Each kind comes about as often as the others.
  Step StepOf(int kind) {
    switch (kind % 8) {
      case 0:
        return Chat();
      case 1:
        return Ingest();
      case 2:
        return ForgetTurn();
      case 3:
        return RebuildIndex();
      case 4:
        return ForkOrRewind();
      case 5:
        return ForgetDocument();
      case 6:
        return ForgetTurn();
      default:
        return Chat();
    }
  }

  // ---- running them ----

  // Lines that tell of something done.
  static std::size_t Acknowledged(const std::string& output) {
    std::size_t lines = 0;
    // A line that the kill cut in two was never an acknowledgement.
    for (const json& line : JsonLines(output.substr(0, output.rfind('\n') + 1))) {
      const std::string event = line.value("event", "");
      EXPECT_NE(event, "error") << line;
      lines += event != "started" && event != "committed" && event != "summary" ? 1 : 0;
    }
    return lines;
  }

  // Runs a step and kills it somewhere. True when the kill met it.
  bool RunAndKill(const Step& step, std::size_t* acknowledged) {
    const double usual = step.loads_model ? model_seconds_ : light_seconds_;
    std::uniform_real_distribution<double> whole(0.3 * usual, 1.3 * usual), rest(0, 0.5 * usual);
    const std::size_t wanted = Draw(step.after.size());
    Program program(step.arguments, {}, step.input);
    std::string before, line;
    while (Acknowledged(before) < wanted && program.ReadLine(&line)) before += line + "\n";
    std::this_thread::sleep_for(Seconds(wanted == 0 ? whole(random_) : rest(random_)));
    program.Signal(SIGKILL);
    const Outcome outcome = program.Wait();
    *acknowledged = Acknowledged(before + outcome.out);
    if (outcome.signal == SIGKILL) return true;
    EXPECT_EQ(outcome.code, 0) << step.what << ": " << outcome.err;
    EXPECT_EQ(*acknowledged + 1, step.after.size()) << step.what << ": " << before << outcome.out;
    return false;
  }
  void RunWhole(const Step& step) {
    const Outcome outcome = RunProgram(step.arguments, {}, step.input);
    EXPECT_EQ(outcome.code, 0) << step.what << ": " << outcome.err;
    Settle(step, Acknowledged(outcome.out));
  }

  // What is there must be what was acknowledged, or that and the one thing that was under way.
  void Settle(const Step& step, std::size_t acknowledged) {
    ASSERT_LT(acknowledged, step.after.size()) << step.what;
    {
      Archive archive({.path = archive_, .read_only = true});
      const Verification verified = archive.verify();
      EXPECT_TRUE(verified.clean) << step.what << ": " << verified.report;
      world_ = Observed(archive);
      std::size_t done = acknowledged;
      if (world_ != step.after[done] && done + 1 < step.after.size()) ++done;
      EXPECT_TRUE(world_ == step.after[done])
          << step.what << ", " << acknowledged << " acknowledged, is there: " << Told(world_)
          << "\nmust be " << Told(step.after[acknowledged]) << "\nor " << Told(step.after[done]);
      for (const auto& [line, secret] : step.forgets) {
        if (line <= done) forgotten_.insert(secret);
      }
      // For whoever looks at what a failure left.
      std::ofstream(Path("operations.log"), std::ios::app)
          << step.what << ": of " << step.after.size() - 1 << " lines " << acknowledged
          << " came, there are " << done << "; now " << Told(world_) << "\n";
      ExpectWords(&archive);
    }
    ExpectForgotten();
  }
  static std::string Told(const World& world) {
    json told = {{"sessions", world.sessions}, {"documents", world.documents}};
    return told.dump();
  }
  // The words of a document are found whatever became of their index; forgotten ones are not.
  void ExpectWords(Archive* archive) const {
    for (const Secret secret : world_.documents) {
      EXPECT_FALSE(archive->search_words("notes", DigitsOf(secret)).empty()) << DigitsOf(secret);
    }
    for (const Secret secret : forgotten_) {
      EXPECT_TRUE(archive->search_words("notes", DigitsOf(secret)).empty()) << DigitsOf(secret);
    }
  }

  // Opening an archive to write finishes what a killed process had begun to forget. (Text of
  // documents is packed in tables; `--verify` of the runs that lived looked into these, too.)
  void ExpectForgotten() const {
    { const Archive archive({.path = archive_}); }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(archive_)) {
      if (!entry.is_regular_file()) continue;
      std::ifstream file(entry.path(), std::ios::binary);
      const std::string bytes((std::istreambuf_iterator<char>(file)), {});
      for (const Secret secret : forgotten_) {
        EXPECT_EQ(bytes.find(DigitsOf(secret)), std::string::npos)
            << DigitsOf(secret) << " was forgotten, and is in " << entry.path();
      }
    }
  }

  // How long a run takes here: of the model's loading, and without it.
  void Measure() {
    auto begin = Clock::now();
    RunWhole(Ingest());
    const auto seconds = [&] { return Seconds(Clock::now() - begin).count(); };
    begin = Clock::now();
    RunWhole(Chat());
    model_seconds_ = seconds() / 2;
    begin = Clock::now();
    RunJson(On({"sessions", "list"}));
    light_seconds_ = 1.5 * seconds();
  }

  std::string archive_ = Path("archive");
  std::mt19937_64 random_{tests::Seed(20261126)};
  Secret next_ = 1;
  World world_;
  std::set<std::string> waiting_;  // sessions with turns that wait to be read again
  std::set<Secret> forgotten_;
  double model_seconds_ = 0, light_seconds_ = 0;
};

TEST_F(LifeCrash, KilledInTheMiddleOfAnythingItKeepsWhatItAcknowledgedAndForgetsWhatItForgot) {
  Measure();
  int kills = 0, kind = 0;
  for (const int wanted = Kills(); kills < wanted && !HasFailure();) {
    if (world_.sessions.empty()) RunWhole(Chat());
    const Step step = StepOf(kind++);
    std::size_t acknowledged = 0;
    kills += RunAndKill(step, &acknowledged) ? 1 : 0;
    SCOPED_TRACE("after kill " + std::to_string(kills));
    Settle(step, acknowledged);
  }
  // It is an archive like any other.
  RunWhole(ForgetDocument());
  RunWhole(Chat());
  RecordProperty("kills", kills);
}

}  // namespace
}  // namespace eidetic::apps
