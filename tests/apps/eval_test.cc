// eval needle, eval sources and bench with the real hybrid model.
#include <gtest/gtest.h>

#include <cmath>

#include "apps/eval/perplexity.h"
#include "tests/apps/documented_keys.h"
#include "tests/apps/program.h"
#include "tests/model/model_files.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;

class Eval : public ProgramTest {};

const json& Cell(const json& report, const std::string& mode) {
  for (const json& cell : report.at("cells")) {
    if (cell.at("mode") == mode) return cell;
  }
  throw std::runtime_error("no cell of mode " + mode);
}

TEST_F(Eval, StreamRecallsNeedlesAt4KAndReportsThemThreeWays) {
  const std::string svg = Path("needle.svg"), out = Path("needle.json");
  const Outcome outcome = RunProgram({"eval", "needle", "--text", EIDETIC_TEST_TEXT, "--lengths",
                                      "4096", "--samples", "4", "--modes", "stream", "--seed", "1",
                                      "--model", HybridModel(), "--json", out, "--svg", svg});
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const json report = json::parse(model::ReadFile(out));
  ExpectDocumented("eval needle", report);
  const json& stream = Cell(report, "stream");
  EXPECT_EQ(stream.at("samples"), 4);
  // At least .95 is promised at 4K: of four samples that is all of them.
  EXPECT_EQ(stream.at("hits"), 4) << report.at("samples");
  EXPECT_GE(stream.at("span_recall"), 0.95) << report.at("samples");
  for (const json& sample : report.at("samples")) {
    EXPECT_LE(sample.at("tokens"), 4096);
    EXPECT_GE(sample.at("tokens"), 4000);
  }
  EXPECT_NE(outcome.out.find("stream"), std::string::npos) << outcome.out;
  const std::string map = model::ReadFile(svg);
  EXPECT_EQ(map.rfind("<svg", 0), 0u);
  EXPECT_NE(map.find("</svg>"), std::string::npos);
  EXPECT_NE(map.find(">4K</text>"), std::string::npos);
}

TEST_F(Eval, TheSameSeedHidesTheSameNeedlesInEveryMode) {
  const auto run = [&](const std::string& modes, const std::string& seed) {
    return RunJson({"eval",
                    "needle",
                    "--text",
                    EIDETIC_TEST_TEXT,
                    "--lengths",
                    "256",
                    "--samples",
                    "2",
                    "--modes",
                    modes,
                    "--seed",
                    seed,
                    "--keys",
                    "2",
                    "--window",
                    "64",
                    "--answer-tokens",
                    "2",
                    "--model",
                    HybridModel(),
                    "--json"});
  };
  const auto needles = [](const json& report, const std::string& mode) {
    std::vector<json> result;
    for (const json& sample : report.at("samples")) {
      if (sample.at("mode") == mode) {
        result.push_back({sample.at("key"), sample.at("number"), sample.at("depth")});
      }
    }
    return result;
  };
  const json first = run("window,full", "3"), second = run("window", "3"),
             other = run("window", "4");
  EXPECT_EQ(needles(first, "window"), needles(second, "window"));
  EXPECT_EQ(needles(first, "window"), needles(first, "full"));
  EXPECT_NE(needles(first, "window"), needles(other, "window"));
  EXPECT_EQ(needles(first, "window").size(), 2u);
}

TEST_F(Eval, NeedlesAreReadSideBySideAndAStoppedRunGoesOn) {
  const std::string results = Path("needle.jsonl"), page = Path("needle.html");
  const auto run = [&](const std::string& modes, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {
        "eval",    "needle",  "--text",  EIDETIC_TEST_TEXT, "--lengths", "384",     "--samples",
        "1",       "--modes", modes,     "--window",        "64",        "--chunk", "128",
        "--limit", "s2=300",  "--model", HybridModel(),     "--results", results,   "--html",
        page,      "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunJson(arguments);
  };
  const json first = run("full");
  const json all = run("full,window,paper,s2,stream");
  ExpectDocumented("eval needle", all);
  ASSERT_EQ(all.at("samples").size(), 4u);  // s2 ends at 300 tokens
  EXPECT_EQ(all.at("samples").at(0), first.at("samples").at(0));
  EXPECT_EQ(Cell(all, "s2").at("samples"), 0);
  EXPECT_TRUE(Cell(all, "s2").at("accuracy").is_null());
  EXPECT_EQ(Cell(all, "full").at("hits"), 1) << all.at("samples");
  EXPECT_EQ(Cell(all, "window").at("hits"), 0) << all.at("samples");
  EXPECT_NEAR(Cell(all, "full").at("accuracy_low"), 0.2065, 1e-3);
  // What was measured is told without measuring more.
  const json told = run("full,random", {"--report-only"});
  EXPECT_EQ(told.at("samples").size(), 1u);
  const std::string html = model::ReadFile(page);
  for (const char* part : {"<!doctype html>", "<svg", "Span recall", "384", "</html>"}) {
    EXPECT_NE(html.find(part), std::string::npos) << part;
  }
  for (const char* outside : {"<script", "<link", " src=", " href=", "@import", "url("}) {
    EXPECT_EQ(html.find(outside), std::string::npos) << outside;
  }
}

TEST_F(Eval, ProgressOfPerplexityGoesForwardFromTheTokensBeforeTheScoredOnes) {
  const Engine engine({.model_path = HybridModel()});
  eval::PerplexityOptions options;
  options.lengths = {256};
  options.modes = {"stream"};
  options.score = 128;
  options.pieces = 1;
  options.session.segment = 64;
  std::vector<std::uint64_t> told;
  eval::PerplexityCalls calls;
  calls.progress = [&](const std::string&, std::uint64_t done, std::uint64_t total) {
    EXPECT_EQ(total, 256);
    told.push_back(done);
    return true;
  };
  eval::measure_perplexity(engine, {{"story", model::ReadFile(EIDETIC_TEST_TEXT)}}, options, calls);
  EXPECT_EQ(told, (std::vector<std::uint64_t>{64, 128, 192, 256, 256}));
}

TEST_F(Eval, PerplexityIsMeasuredInEveryModeAndGoesOn) {
  const std::string book = Write("book.txt", model::ReadFile(EIDETIC_TEST_TEXT).substr(0, 3000));
  const auto run = [&](const std::string& modes, const std::string& score) {
    return std::vector<std::string>{"eval",      "ppl",         "--text",    book,
                                    "--lengths", "256",         "--score",   score,
                                    "--pieces",  "1",           "--window",  "64",
                                    "--sinks",   "-1",          "--modes",   modes,
                                    "--model",   HybridModel(), "--results", Path("ppl.jsonl"),
                                    "--json"};
  };
  const json first = RunJson(run("full", "64"));
  ExpectDocumented("eval ppl", first);
  const json report = RunJson(run("full,window,stream,s2", "64"));
  const auto loss = [&](const std::string& mode) {
    for (const json& row : report.at("rows")) {
      if (row.at("mode") == mode && row.at("text") == "book") return row.at("loss").get<double>();
    }
    throw std::runtime_error("no row of mode " + mode);
  };
  EXPECT_EQ(loss("full"), first.at("rows").at(0).at("loss"));
  EXPECT_LT(loss("full"), loss("window"));
  for (const json& row : report.at("rows")) {
    EXPECT_EQ(row.at("tokens"), 64);
    EXPECT_NEAR(std::log(row.at("token_perplexity").get<double>()), row.at("loss"), 1e-9);
    EXPECT_GT(row.at("word_perplexity"), row.at("token_perplexity"));
  }
  const Outcome other = RunProgram(run("full", "32"));
  EXPECT_EQ(other.code, 2) << other.err;
  EXPECT_NE(other.err.find("under other settings"), std::string::npos) << other.err;
  const Outcome greater = RunProgram({"eval", "ppl", "--text", book, "--lengths", "64", "--score",
                                      "65", "--model", HybridModel()});
  EXPECT_EQ(greater.code, 2) << greater.err;
  const Outcome longer = RunProgram({"eval", "ppl", "--text", book, "--lengths", "4096", "--score",
                                     "64", "--model", HybridModel()});
  EXPECT_EQ(longer.code, 2) << longer.err;
  EXPECT_NE(longer.err.find("no piece of 4096"), std::string::npos) << longer.err;
}

TEST_F(Eval, TheEndOfABookIsScoredWithAndWithoutItsBeginning) {
  // What ends as it begins is foreseen by who remembers the beginning.
  const std::string text = model::ReadFile(EIDETIC_TEST_TEXT).substr(0, 1200);
  const std::string book = Write("twice.txt", text + text);
  const std::vector<std::string> arguments = {
      "eval",      "continuation",     "--text",  book,          "--score",
      "128",       "--lead",           "64",      "--segment",   "32",
      "--results", Path("ends.jsonl"), "--model", HybridModel(), "--json"};
  const json report = RunJson(arguments);
  ExpectDocumented("eval continuation", report);
  const json& row = report.at("rows").at(0);
  EXPECT_EQ(row.at("tokens"), 128);
  EXPECT_GT(row.at("archived"), 256);
  EXPECT_LT(row.at("with_memory"), row.at("without")) << row;
  EXPECT_EQ(RunJson(arguments).at("rows"), report.at("rows"));
  std::vector<std::string> longer = arguments;
  longer[5] = "4096";
  longer[11] = Path("other.jsonl");
  const Outcome refused = RunProgram(longer);
  EXPECT_EQ(refused.code, 2) << refused.err;
  EXPECT_NE(refused.err.find("nothing to remember"), std::string::npos) << refused.err;
}

TEST_F(Eval, AFreshSessionRecallsFromAnArchive) {
  const auto ask = [&](const std::string& mode, const std::string& length) {
    return RunJson({"eval", "needle", "--text", EIDETIC_TEST_TEXT, "--lengths", length, "--samples",
                    "2", "--modes", mode, "--via", "archive", "--model", HybridModel(), "--json"});
  };
  const json stream = ask("stream", "2048");
  EXPECT_GE(Cell(stream, "stream").at("hits"), 1) << stream.at("samples");
  EXPECT_GE(Cell(stream, "stream").at("span_recall"), 0.9) << stream.at("samples");
  // Without memory, a session that never saw the text cannot know the number, however short it is.
  EXPECT_EQ(Cell(ask("window", "512"), "window").at("hits"), 0);
}

TEST_F(Eval, SourcesReportsTheNeedlesPassage) {
  const json report =
      RunJson({"eval", "sources", "--text", EIDETIC_TEST_TEXT, "--bytes", "6000", "--rounds", "2",
               "--sources", "1", "--model", HybridModel(), "--json"});
  ExpectDocumented("eval sources", report);
  EXPECT_EQ(report.at("needles"), 2);
  ASSERT_EQ(report.at("asked").size(), 2u);
  EXPECT_EQ(report.at("in_span"), 2) << report;
  EXPECT_EQ(report.at("among_first_sources"), 2) << report;
  for (const json& asked : report.at("asked")) {
    EXPECT_EQ(asked.at("rank"), 1);
    ASSERT_EQ(asked.at("first_sources").size(), 1u);
    EXPECT_GT(asked.at("first_sources")[0].at("focus"), asked.at("attention"));
  }
}

TEST_F(Eval, SourcesRefusesBooksOfOneName) {
  const Outcome outcome = RunProgram({"eval", "sources", "--text", EIDETIC_TEST_TEXT,
                                      EIDETIC_TEST_TEXT, "--model", HybridModel()});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_NE(outcome.err.find("two of the books are named"), std::string::npos) << outcome.err;
}

TEST_F(Eval, CalibrateNeedsSamplesToCompare) {
  const Outcome outcome =
      RunProgram({"model", "calibrate", "--text", EIDETIC_TEST_TEXT, "--samples", "1"});
  EXPECT_EQ(outcome.code, 2) << outcome.err;
  EXPECT_TRUE(Contains(outcome.err, "--samples does not take '1'")) << outcome.err;
}

// The layer that smol-hybrid looks needles up with is known: it must be kept and put the needle
// first, where few tokens leave other layers a chance to do so too, and a session must recall with
// the profile that was written.
TEST_F(Eval, CalibrateFindsTheLayerThatLooksThingsUp) {
  const std::string profile = Path("profile.json");
  const json report = RunJson({"model", "calibrate", "--text", EIDETIC_TEST_TEXT, "--samples", "2",
                               "--tokens", "512", "--held-out", "1", "--continuation", "48",
                               "--model", HybridModel(), "-o", profile, "--json"});
  ExpectDocumented("model calibrate", report);
  EXPECT_EQ(report.at("layers").size(), 10u);
  const json& kept = report.at("chosen").at("settings").at("span_layers");
  EXPECT_LT(kept.size(), 10u) << report;
  EXPECT_TRUE(std::find(kept.begin(), kept.end(), 18) != kept.end()) << report;
  const json focus = report.at("focus_layer");
  EXPECT_TRUE(std::find(kept.begin(), kept.end(), focus) != kept.end()) << report;
  for (const json& layer : report.at("layers")) {
    if (layer.at("layer") != 18 && layer.at("layer") != focus) continue;
    EXPECT_EQ(layer.at("reciprocal_rank"), 1.0) << report;
  }
  EXPECT_EQ(report.at("chosen").at("score").at("hits"), 2) << report;
  EXPECT_EQ(report.at("held_out").at("all").at("samples"), 4) << report;
  EXPECT_LT(report.at("all").at("score").at("text_loss"), report.at("text_loss_without_memory"));
  const json& groups = report.at("groups");
  ASSERT_GE(groups.size(), 2u) << report;
  const auto taken = std::count_if(groups.begin(), groups.end(),
                                   [](const json& group) { return group.at("taken").get<bool>(); });
  EXPECT_EQ(taken, 1) << report;
  for (const json& group : groups) {
    EXPECT_EQ(group.at("samples"), 2) << report;
    if (!group.at("taken")) continue;
    EXPECT_EQ(report.at("profile").at("layer_group"), group.at("layers")) << report;
    EXPECT_GE(group.at("hits"), groups[0].at("hits")) << report;
  }

  const json found =
      RunJson({"eval", "needle", "--text", EIDETIC_TEST_TEXT, "--lengths", "2048", "--samples", "1",
               "--model", HybridModel(), "--profile", profile, "--json"});
  const json& in_force = found.at("model").at("retrieval_profile");
  EXPECT_EQ(in_force.at("span_layers"), kept);
  EXPECT_EQ(in_force.at("focus_layer"), focus);
  EXPECT_EQ(in_force.at("layer_group"), report.at("profile").at("layer_group"));
  EXPECT_EQ(found.at("cells")[0].at("hits"), 1) << found;
}

TEST_F(Eval, QuestionsAreAskedByEveryPolicyAndARunThatWasStoppedGoesOn) {
  const std::string questions = Write("questions.json", R"({"version": 1,
    "books": [{"name": "Scandal", "file": "scandal.txt"}],
    "questions": [
      {"id": "s1", "book": "Scandal", "question": "How many steps lead up from the hall?",
       "answers": ["seventeen"], "passages": ["seventeen steps"]},
      {"id": "s2", "book": "Scandal", "question": "Who is always the woman to Sherlock Holmes?",
       "answers": ["Irene Adler"], "passages": ["To Sherlock Holmes she is always"]},
      {"id": "s3", "book": "Scandal", "question": "Where does Irene Adler live?",
       "answers": ["Briony"], "passages": ["Is Briony Lodge, Serpentine Avenue"]}]})");
  const std::string book = Write("scandal.txt", model::ReadFile(EIDETIC_TEST_TEXT));
  const std::string folder = book.substr(0, book.find_last_of('/'));
  const std::string results = Path("answers.jsonl");
  const auto arguments = [&](const std::string& policies) {
    return std::vector<std::string>{
        "eval",      "questions",   "--questions",    questions,    "--books",         folder,
        "--bytes",   "7000",        "--window",       "256",        "--answer-tokens", "4",
        "--model",   HybridModel(), "--keep-archive", Path("kept"), "--policies",      policies,
        "--results", results,       "--json"};
  };
  const json first = RunJson(arguments("words"));
  ExpectDocumented("eval questions", first);
  EXPECT_EQ(first.at("asked").size(), 2u);  // the third is answered further on
  const json& words = first.at("policies").at(0);
  EXPECT_EQ(words.at("source_recall_at_3"), 1.0) << first;
  EXPECT_GT(words.at("median_first_token_seconds"), 0);
  const json all = RunJson(arguments("words,both,attention,prompt"));
  ASSERT_EQ(all.at("policies").size(), 4u);
  EXPECT_EQ(all.at("asked").size(), 8u);
  for (const json& policy : all.at("policies")) {
    EXPECT_EQ(policy.at("questions"), 2) << policy;
    if (policy.at("policy") == "attention") continue;
    EXPECT_EQ(policy.at("source_recall_at_3"), 1.0) << policy;
  }
  // The answers of the first run are its own, bit for bit.
  EXPECT_EQ(all.at("asked").at(0), first.at("asked").at(0));
  std::vector<std::string> other = arguments("words");
  other[7] = "7500";
  const Outcome refused = RunProgram(other);
  EXPECT_EQ(refused.code, 2) << refused.err;
  EXPECT_NE(refused.err.find(results), std::string::npos) << refused.err;
}

TEST_F(Eval, ConversationRecallsAFactAndARunThatWasStoppedGoesOn) {
  const std::string results = Path("conversations.jsonl");
  const auto arguments = [&](const std::string& memory, const std::string& restarts,
                             const std::string& file) {
    return std::vector<std::string>{"eval",
                                    "conversation",
                                    "--text",
                                    EIDETIC_TEST_TEXT,
                                    "--turns",
                                    "8",
                                    "--fact-turn",
                                    "2",
                                    "--conversations",
                                    "1",
                                    "--message-tokens",
                                    "48",
                                    "--reply-tokens",
                                    "2",
                                    "--answer-tokens",
                                    "16",
                                    "--window",
                                    "96",
                                    "--restarts",
                                    restarts,
                                    "--memory",
                                    memory,
                                    "--results",
                                    file,
                                    "--model",
                                    HybridModel(),
                                    "--json"};
  };
  const json first = RunJson(arguments("on", "3", results));
  ExpectDocumented("eval conversation", first);
  ASSERT_EQ(first.at("conversations").size(), 1u);
  const json& on = first.at("conversations")[0];
  EXPECT_EQ(on.at("turns"), 8);
  EXPECT_EQ(on.at("restarts"), 3);
  EXPECT_TRUE(on.at("hit")) << on;
  EXPECT_GT(on.at("presence"), 0) << on;
  // A run that goes on keeps what it had, and without its memory the model cannot know.
  const json both = RunJson(arguments("on,off", "3", results));
  ASSERT_EQ(both.at("conversations").size(), 2u);
  EXPECT_EQ(both.at("conversations")[0], on);
  EXPECT_FALSE(both.at("conversations")[1].at("hit")) << both;
  EXPECT_EQ(both.at("conversations")[1].at("number"), on.at("number"));
  EXPECT_EQ(both.at("scores")[0].at("recalled"), 1);
  EXPECT_EQ(both.at("scores")[1].at("recalled"), 0);
  // Restarts change no token.
  const json unbroken = RunJson(arguments("on", "0", Path("unbroken.jsonl")));
  EXPECT_EQ(unbroken.at("conversations")[0].at("digest"), on.at("digest"));

  const auto refused = [&](std::vector<std::string> wrong, const std::string& words) {
    const Outcome outcome = RunProgram(wrong);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_NE(outcome.err.find(words), std::string::npos) << outcome.err;
  };
  refused(arguments("on", "2", results), results);  // other settings
  refused(arguments("on", "8", Path("new")), "do not fit");
  refused(arguments("maybe", "0", Path("new")), "--memory");
  std::vector<std::string> late = arguments("on", "0", Path("new"));
  late[7] = "8";
  refused(late, "the last one asks for it");
  refused({"eval", "conversation", "--model", HybridModel()}, "--text");
  refused({"eval", "conversation", "--turns", "1"}, "--turns");
  Write("broken.jsonl", json({{"settings", first.at("settings")}}).dump() + "\n{\"index\":0}\n");
  refused(arguments("on", "3", Path("broken.jsonl")), "no result of this evaluation");
}

TEST_F(Eval, BenchReportsEveryRatio) {
  const json report = RunJson({"bench",
                               "--text",
                               EIDETIC_TEST_TEXT,
                               "--tokens",
                               "1000",
                               "--small-tokens",
                               "300",
                               "--ingest-tokens",
                               "384",
                               "--repeats",
                               "1",
                               "--decode-rounds",
                               "1",
                               "--decode-tokens",
                               "4",
                               "--prompt-tokens",
                               "64",
                               "--window",
                               "256",
                               "--model",
                               HybridModel(),
                               "--json"});
  ExpectDocumented("bench", report);
  EXPECT_GT(report.at("ingest").at("ratio"), 0);
  EXPECT_GT(report.at("decode").at("large_to_none"), 0);
  EXPECT_GT(report.at("decode").at("large_to_small"), 0);
  EXPECT_GT(report.at("open").at("open_and_attach_seconds").at("median"), 0);
  EXPECT_TRUE(report.at("memory").at("measured"));
  EXPECT_GT(report.at("memory").at("peak_bytes"), report.at("memory").at("weight_bytes"));
  EXPECT_GT(report.at("disk").at("bytes_per_token"), 100);
}

}  // namespace
}  // namespace eidetic::apps
