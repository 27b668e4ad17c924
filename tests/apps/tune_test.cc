// `eidetic tune` as people run it: killed, stopped, on a full disk, and used by other commands.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <random>
#include <thread>

#include "tests/apps/documented_keys.h"
#include "tests/apps/program.h"
#include "tests/model/tiny_folder.h"

namespace eidetic::apps {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

// A tiny model of random weights in a folder, and text of the letters that its tokenizer knows.
class TuneCommand : public ProgramTest {
 protected:
  TuneCommand() {
    model::TinyFolder::Granite().Write(model_);
    text_ = Write("text.txt", Words(1, 400));
    held_out_ = Write("held-out.txt", Words(2, 60));
  }
  static std::string Words(uint32_t seed, int count) {
    std::mt19937 random(seed);
    std::string text;
    for (int i = 0; i < count; ++i) text += random() % 2 == 0 ? "ab " : "b ";
    return text;
  }
  // Forty steps of milliseconds.
  std::vector<std::string> Arguments(const std::string& run,
                                     const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"tune",
                                          text_,
                                          "--held-out",
                                          held_out_,
                                          "-o",
                                          Path(run),
                                          "--model",
                                          model_,
                                          "--length",
                                          "16",
                                          "--chunk",
                                          "8,16",
                                          "--block",
                                          "4",
                                          "--rank",
                                          "4",
                                          "--steps",
                                          "40",
                                          "--rate",
                                          "0.01",
                                          "--schedule",
                                          "cosine",
                                          "--eval-every",
                                          "10",
                                          "--checkpoint-every",
                                          "4",
                                          "--threads",
                                          "1",
                                          "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  // Metrics without what a clock or a machine says.
  std::vector<json> Metrics(const std::string& run) const {
    std::vector<json> metrics = JsonLines(model::ReadFile(Path(run) + "/metrics.jsonl"));
    for (json& line : metrics) {
      for (const char* key : {"seconds", "tokens_per_second", "peak_memory_bytes"}) {
        line.erase(key);
      }
    }
    return metrics;
  }
  std::size_t Lines(const std::string& run) const {
    const std::string path = Path(run) + "/metrics.jsonl";
    if (!std::filesystem::exists(path)) return 0;
    const std::string text = model::ReadFile(path);
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  }
  void ExpectEqualRuns(const std::string& a, const std::string& b) const {
    EXPECT_EQ(Metrics(a), Metrics(b));
    for (const char* file :
         {"/last/adapter_model.safetensors", "/best/adapter_model.safetensors"}) {
      EXPECT_TRUE(model::ReadFile(Path(a) + file) == model::ReadFile(Path(b) + file)) << file;
    }
  }

  std::string model_ = Path("model"), text_, held_out_;
};

TEST_F(TuneCommand, LeavesAnAdapterThatOtherCommandsTake) {
  const json report = RunJson(Arguments("run"));
  ExpectDocumented("tune", report);
  EXPECT_EQ(report.at("step"), 40);
  EXPECT_EQ(report.at("kind"), "hylora");
  EXPECT_LT(report.at("held_out_loss").get<double>(), Metrics("run")[0].at("loss").get<double>());
  for (const char* name : {"last", "best"}) {
    const std::string adapter = report.at(name);
    EXPECT_EQ(RunJson({"adapter", "info", adapter, "--json"}).at("kind"), "HyLoRA");
    const Outcome answer = RunProgram({"generate", "--model", model_, "--adapter", adapter,
                                       "--prompt", "ab ab", "-n", "2", "--json"});
    EXPECT_EQ(answer.code, 0) << answer.err;
  }
  const std::string curves = model::ReadFile(Path("run") + "/curves.svg");
  EXPECT_TRUE(Contains(curves, "<polyline")) << curves;
  EXPECT_TRUE(Contains(curves, "held out"));
  EXPECT_FALSE(Contains(curves, "href"));

  const Outcome told = RunProgram({"tune", text_, "--held-out", held_out_, "-o", Path("other"),
                                   "--model", model_, "--adapter", report.at("last"), "--length",
                                   "16", "--steps", "2", "--threads", "1"});
  EXPECT_EQ(told.code, 0) << told.err;
  EXPECT_TRUE(Contains(told.out, "use it with --adapter " + Path("other") + "/best")) << told.out;
}

TEST_F(TuneCommand, ARunThatMadeTheLossNoLowerSaysSo) {
  const std::vector<std::string> arguments = {
      "tune",      text_,  "--held-out", held_out_, "-o",        Path("run"),
      "--model",   model_, "--length",   "16",      "--steps",   "4",
      "--warm-up", "0",    "--rate",     "1",       "--threads", "1"};
  const Outcome told = RunProgram(arguments);
  EXPECT_EQ(told.code, 0) << told.err;
  EXPECT_TRUE(Contains(told.out, " at step 0, before training")) << told.out;
  EXPECT_TRUE(Contains(told.out, "use it with --adapter " + Path("run") + "/last")) << told.out;
  EXPECT_TRUE(Contains(told.out, Path("run") + "/best is what the run began with")) << told.out;
  std::vector<std::string> again = arguments;
  again.push_back("--json");
  const json report = RunJson(again);
  EXPECT_EQ(report.at("best_step"), 0);
  const json best = RunJson({"adapter", "info", Path("run") + "/best", "--json"});
  ExpectDocumented("adapter info", best);
  EXPECT_EQ(best.at("trained_steps"), 0);
  EXPECT_EQ(best.at("held_out_loss"), report.at("best_loss"));
  EXPECT_TRUE(Contains(best.at("note"), "of step 0")) << best;
  const json last = RunJson({"adapter", "info", Path("run") + "/last", "--json"});
  ExpectDocumented("adapter info", last);
  EXPECT_EQ(last.at("trained_steps"), 4);
  EXPECT_EQ(last.at("held_out_loss"), report.at("held_out_loss"));
  EXPECT_FALSE(last.contains("note")) << last;
  // Of a run that a newer version wrote nothing is told.
  const std::string path = Path("run") + "/best/training.json";
  json training = json::parse(model::ReadFile(path));
  training["eidetic_training"] = 2;
  model::WriteFile(path, training.dump());
  const Outcome newer = RunProgram({"adapter", "info", Path("run") + "/best"});
  EXPECT_NE(newer.code, 0);
  EXPECT_TRUE(Contains(newer.err, "training.json")) << newer.err;
  // An adapter of another program is told without.
  std::filesystem::remove(path);
  EXPECT_FALSE(
      RunJson({"adapter", "info", Path("run") + "/best", "--json"}).contains("trained_steps"));
}

TEST_F(TuneCommand, LearnsFromATeacher) {
  model::TinyFolder::Llama().Write(Path("teacher"));
  const json report = RunJson({"tune",
                               text_,
                               "--held-out",
                               held_out_,
                               "-o",
                               Path("run"),
                               "--model",
                               model_,
                               "--distill-from",
                               Path("teacher"),
                               "--mixer-steps",
                               "4",
                               "--length",
                               "16",
                               "--steps",
                               "12",
                               "--rate",
                               "0.01",
                               "--threads",
                               "1",
                               "--json"});
  ExpectDocumented("tune", report);
  EXPECT_EQ(report.at("kind"), "mixers");
  EXPECT_GT(report.at("teacher_held_out_loss").get<double>(), 0);
  EXPECT_EQ(RunJson({"adapter", "info", report.at("last"), "--json"}).at("kind"), "mixers");
  const Outcome answer = RunProgram({"generate", "--model", model_, "--adapter", report.at("last"),
                                     "--prompt", "ab ab", "-n", "2", "--json"});
  EXPECT_EQ(answer.code, 0) << answer.err;
  const std::string curves = model::ReadFile(Path("run") + "/curves.svg");
  EXPECT_TRUE(Contains(curves, "Loss beside a teacher")) << curves;

  // None of the first steps where none are asked for.
  RunJson({"tune", text_, "-o", Path("together"), "--model", model_, "--distill-from",
           Path("teacher"), "--mixer-steps", "0", "--length", "16", "--steps", "8", "--threads",
           "1", "--json"});
  for (const json& line : Metrics("together")) EXPECT_EQ(line.at("objective"), "teacher") << line;

  const Outcome other = RunProgram({"tune", text_, "-o", Path("other"), "--model", model_,
                                    "--distill-from", model_, "--length", "16", "--steps", "2"});
  EXPECT_EQ(other.code, 5) << other.err;
  EXPECT_TRUE(Contains(other.err, "no layer of the student is a mixer in place of attention"))
      << other.err;
}

TEST_F(TuneCommand, KilledAtSeededMomentsItGoesOnToTheSameBits) {
  RunJson(Arguments("whole"));
  std::mt19937 random(11);
  int kills = 0;
  while (kills < 5) {
    const std::size_t lines = Lines("killed") + 1 + random() % 10;
    Program program(Arguments("killed"));
    const auto deadline = std::chrono::steady_clock::now() + 100s;
    // 45 lines are all that there will be.
    while (Lines("killed") < std::min<std::size_t>(lines, 45) &&
           std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(200us);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
    program.Signal(SIGKILL);
    const Outcome outcome = program.Wait();
    if (outcome.code == 0) break;  // it was done before
    ++kills;
  }
  EXPECT_GT(kills, 2);
  const json report = RunJson(Arguments("killed"));
  EXPECT_EQ(report.at("step"), 40);
  ExpectEqualRuns("whole", "killed");
}

TEST_F(TuneCommand, CtrlCWritesACheckpointAndTheNextRunGoesOn) {
  RunJson(Arguments("whole"));
  {
    Program program(Arguments("run"));
    const auto deadline = std::chrono::steady_clock::now() + 100s;
    while (Lines("run") < 6 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(200us);
    }
    program.Signal(SIGINT);
    const Outcome outcome = program.Wait();
    if (outcome.code != 0) {  // it may have been at its last step
      EXPECT_EQ(outcome.code, 130) << outcome.err;
      EXPECT_TRUE(Contains(outcome.err, "stopped after step ")) << outcome.err;
      EXPECT_TRUE(Contains(outcome.err, "run the same command again")) << outcome.err;
      EXPECT_EQ(JsonLines(outcome.out).back().at("event"), "error");
    }
  }
  EXPECT_GT(RunJson(Arguments("run")).at("resumed_from"), 0);
  ExpectEqualRuns("whole", "run");
}

TEST_F(TuneCommand, ADiskThatFillsDuringACheckpointLeavesTheLastGoodOne) {
  RunJson(Arguments("whole"));
  std::uintmax_t checkpoint = 0;
  for (const auto& entry : std::filesystem::directory_iterator(Path("whole") + "/last")) {
    checkpoint += entry.file_size();
  }
  const std::uintmax_t tokens = std::filesystem::file_size(Path("whole") + "/train.tokens") +
                                std::filesystem::file_size(Path("whole") + "/held-out.tokens");
  // The best of step 0, and of step 4 all but a few bytes.
  const std::string room = std::to_string(tokens + 2 * checkpoint);
  const Environment disk = {{"LD_PRELOAD", EIDETIC_FULL_DISK_PATH},
                            {"ASAN_OPTIONS", "verify_asan_link_order=0"},
                            {"EIDETIC_TEST_DISK_BYTES", room},
                            {"EIDETIC_TEST_DISK_FOLDER", Path("run")}};
  const Outcome full = RunProgram(Arguments("run"), disk);
  EXPECT_EQ(full.code, 7) << full.err;
  EXPECT_TRUE(Contains(full.err, "last good checkpoint is") ||
              Contains(full.err, "there is no checkpoint yet"))
      << full.err;
  EXPECT_FALSE(std::filesystem::exists(Path("run") + "/last.partial"));
  const bool is_there = std::filesystem::exists(Path("run") + "/last/training.json");
  EXPECT_EQ(is_there, Contains(full.err, "the last good checkpoint is"));
  const json report = RunJson(Arguments("run"));
  EXPECT_EQ(report.at("step"), 40);
  EXPECT_EQ(report.at("resumed_from") > 0, is_there);
  ExpectEqualRuns("whole", "run");
}

TEST_F(TuneCommand, TwoProcessesTrainOneRunTogether) {
  const std::vector<std::string> batch = {"--batch", "4", "--steps", "6", "--eval-every", "3"};
  const auto arguments = [&](const std::string& run, const std::string& gpus) {
    std::vector<std::string> all = Arguments(run, batch);
    // The last one of an option counts no more than the first: they are taken out.
    for (const char* option : {"--steps", "--eval-every"}) {
      all.erase(std::find(all.begin(), all.end(), option),
                std::find(all.begin(), all.end(), option) + 2);
    }
    all.insert(all.end(), {"--gpus", gpus});
    // Behind "--" nothing is an option, nor what the processes are told besides.
    const auto file = std::find_if(all.begin(), all.end(),
                                   [](const std::string& word) { return word.ends_with(".txt"); });
    const std::string text = *file;
    all.erase(file);
    all.insert(all.end(), {"--", text});
    return all;
  };
  RunJson(arguments("one", "1"));
  const json report = RunJson(arguments("two", "2"));
  ExpectDocumented("tune", report);
  EXPECT_EQ(report.at("step"), 6);
  const std::vector<json> one = Metrics("one"), two = Metrics("two");
  ASSERT_EQ(one.size(), two.size());
  for (std::size_t i = 0; i < one.size(); ++i) {
    // Gradients are summed up in another order: rounding of fp32, through six steps.
    EXPECT_NEAR(one[i].at("loss"), two[i].at("loss"), 1e-4) << one[i] << two[i];
    EXPECT_EQ(one[i].at("tokens"), two[i].at("tokens"));
  }
  // Other options are refused as those of one process are.
  const std::vector<std::string> longer = [&] {
    std::vector<std::string> all = arguments("two", "2");
    all[std::find(all.begin(), all.end(), "cosine") - all.begin()] = "constant";
    return all;
  }();
  const Outcome other = RunProgram(longer);
  EXPECT_EQ(other.code, 2) << other.err;
  EXPECT_TRUE(Contains(other.err, "schedule was cosine, is constant")) << other.err;
  const Outcome odd = RunProgram(arguments("odd", "3"));
  EXPECT_EQ(odd.code, 2) << odd.err;
  EXPECT_TRUE(Contains(odd.err, "batch is 4")) << odd.err;
}

TEST_F(TuneCommand, TwoProcessesThatAreStoppedOrKilledGoOnToTheSameBits) {
  const auto arguments = [&](const std::string& run) {
    return Arguments(run, {"--batch", "2", "--gpus", "2"});
  };
  RunJson(arguments("whole"));
  std::size_t lines = 0;
  const std::filesystem::path temporary = Path("temporary");
  std::filesystem::create_directory(temporary);
  for (const int signal : {SIGINT, SIGKILL}) {
    Program program(arguments("run"), {{"TMPDIR", temporary}});
    lines += 10;  // of 45
    const auto deadline = std::chrono::steady_clock::now() + 100s;
    while (Lines("run") < lines && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(200us);
    }
    EXPECT_FALSE(std::filesystem::is_empty(temporary));  // where they met
    program.Signal(signal);
    const Outcome outcome = program.Wait();
    while (!std::filesystem::is_empty(temporary) && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(1ms);
    }
    EXPECT_TRUE(std::filesystem::is_empty(temporary)) << signal;
    if (signal == SIGKILL || outcome.code == 0) continue;  // it may have been at its last step
    EXPECT_EQ(outcome.code, 130) << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, "stopped after step ")) << outcome.err;
    EXPECT_EQ(JsonLines(outcome.out).back().at("event"), "error");
  }
  const json report = RunJson(arguments("run"));
  EXPECT_GT(report.at("resumed_from"), 0);
  EXPECT_EQ(report.at("step"), 40);
  ExpectEqualRuns("whole", "run");
}

TEST_F(TuneCommand, WhatIsInAFolderOfSomethingElseIsKept) {
  std::filesystem::create_directories(Path("run") + "/best");
  model::WriteFile(Path("run") + "/best/adapter_config.json", "theirs");
  model::WriteFile(Path("run") + "/metrics.jsonl", "{\"epoch\": 1}\n");
  const Outcome refused = RunProgram(Arguments("run"));
  EXPECT_EQ(refused.code, 2) << refused.err;
  EXPECT_TRUE(Contains(refused.err, "holds no metrics of a run")) << refused.err;
  EXPECT_EQ(model::ReadFile(Path("run") + "/metrics.jsonl"), "{\"epoch\": 1}\n");
  EXPECT_EQ(model::ReadFile(Path("run") + "/best/adapter_config.json"), "theirs");
  EXPECT_FALSE(std::filesystem::exists(Path("run") + "/best.before"));
}

TEST_F(TuneCommand, ARunThatEndsBeforeItsFirstStepLeavesNothingThatWasNotThere) {
  const auto expect_nothing = [&](const std::string& text, const std::string& model, int code) {
    const Outcome outcome =
        RunProgram({"tune", text, "-o", Path("runs/one"), "--model", model, "--threads", "1"});
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_FALSE(std::filesystem::exists(Path("runs"))) << outcome.err;
  };
  expect_nothing(text_, Path("none.gguf"), 3);
  expect_nothing(Write("bad.jsonl", "{"), model_, 4);
  expect_nothing(Write("nul.txt", std::string(3, '\0')), model_, 1);
  // Texts as tokens are kept, since they are of use to the next start; it goes on as if it were the
  // first.
  const std::filesystem::path run = Path("run");
  const Outcome refused = RunProgram(Arguments("run", {"--targets", "none_proj"}));
  EXPECT_EQ(refused.code, 2) << refused.err;
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(run))
    left.push_back(entry.path().filename());
  std::sort(left.begin(), left.end());
  EXPECT_EQ(left, (std::vector<std::string>{"held-out.tokens", "train.tokens"}));
  EXPECT_EQ(RunJson(Arguments("run")).at("step"), 40);
}

TEST_F(TuneCommand, ADryRunTellsWhatItWouldTakeAndLeavesNothing) {
  const json estimate = RunJson(Arguments("run", {"--dry-run"}));
  ExpectDocumented("tune --dry-run", estimate);
  EXPECT_EQ(estimate.at("steps"), 40);
  EXPECT_GT(estimate.at("seconds"), 0);
  EXPECT_FALSE(std::filesystem::exists(Path("run")));
  std::vector<std::string> words = Arguments("run", {"--dry-run"});
  words.erase(std::find(words.begin(), words.end(), "--json"));
  const Outcome told = RunProgram(words);
  EXPECT_EQ(told.code, 0) << told.err;
  EXPECT_TRUE(Contains(told.out, "Nothing was trained")) << told.out;
}

TEST_F(TuneCommand, TargetsRanksAlphasAndDropoutsAreSaidByPattern) {
  const std::string file = Write("config.toml",
                                 "[tune]\nrank-for = ['q_proj=6', 'layers.1.self_attn.v_proj=2']\n"
                                 "dropout-for = 'v_proj=0.5'\n");
  const std::vector<std::string> patterns = {"--target-pattern", R"(.*\.(q|v)_proj)", "--alpha-for",
                                             "q_proj=3",         "--config",          file};
  std::vector<std::string> arguments = Arguments("run", patterns);
  const json report = RunJson(arguments);
  const json info = RunJson({"adapter", "info", report.at("last"), "--json"});
  ExpectDocumented("adapter info", info);
  EXPECT_EQ(info.at("targets"), R"(.*\.(q|v)_proj)");
  EXPECT_EQ(info.at("rank_pattern"), (json{{"q_proj", 6}, {"layers.1.self_attn.v_proj", 2}}));
  EXPECT_EQ(info.at("alpha_pattern"), (json{{"q_proj", 3.0}}));
  EXPECT_TRUE(Contains(RunProgram({"adapter", "info", report.at("last")}).out,
                       "rank_pattern.layers.1.self_attn.v_proj"));
  EXPECT_EQ(RunJson(Arguments("other",
                              {"--dry-run", "--target-pattern", R"(.*\.(q|v)_proj)", "--rank-for",
                               "q_proj=6", "--rank-for", "layers.1.self_attn.v_proj=2"}))
                .at("trained_parameters"),
            report.at("trained_parameters"));
  arguments[std::find(arguments.begin(), arguments.end(), "q_proj=3") - arguments.begin()] =
      "q_proj=4";
  const Outcome other = RunProgram(arguments);
  EXPECT_EQ(other.code, 2) << other.err;
  EXPECT_TRUE(Contains(other.err, "alpha-for was q_proj=3, is q_proj=4")) << other.err;
}

TEST_F(TuneCommand, WhatCannotBeTrainedIsRefusedByName) {
  const auto expect = [](const std::vector<std::string>& arguments, int code,
                         const std::string& words) {
    const Outcome outcome = RunProgram(arguments);
    EXPECT_EQ(outcome.code, code) << outcome.err;
    EXPECT_TRUE(Contains(outcome.err, words)) << outcome.err;
  };
  expect({"tune", text_, "--model", model_}, 2, "--out");
  expect({"tune", text_, "-o", Path("run")}, 2, "no model was named");
  expect(Arguments("run", {"--adapter", Path("none")}), 2, "--adapter");
  expect(Arguments("run", {"--attention", "sideways"}), 2, "attention is 'sideways'");
  expect(Arguments("run", {"--text-share", "0.5"}), 2, "--distill-from");
  expect(Arguments("run", {"--kind", "mixers"}), 2, "rank is given for low-rank matrices");
  expect(Arguments("run", {"--rank-for", "q_proj"}), 2, "no PATTERN=NUMBER");
  expect(Arguments("run", {"--rank-for", "q_proj=0"}), 2, "must be a whole number from 1");
  expect(Arguments("run", {"--rank-for", "qproj=2"}), 2, "model.layers.1.self_attn.q_proj");
  expect(Arguments("run", {"--target-pattern", "(q_proj"}), 2, "at character 8");
  expect({"tune", text_, "-o", Path("run"), "--model", model_, "--distill-from", model_,
          "--mixer-steps", "0", "--mixer-rate", "0.1"},
         2, "mixer_rate is of the steps in which mixers learn alone");
  expect(Arguments("run", {"--warm-up", "40"}), 2, "warm-up is 40, and there are but 40 steps");
  const std::string copy = Write("copy.txt", model::ReadFile(text_));
  expect({"tune", text_, "--held-out", copy, "-o", Path("run"), "--model", model_}, 2,
         "copy.txt', which is held out, has the same content as '" + text_);
  expect({"tune", Path("none.txt"), "-o", Path("run"), "--model", model_}, 3, "none.txt");
  const std::string bad = Write("bad.jsonl", "{\"text\": \"ab ab ab\"}\n{\"text\": 7}\n");
  expect({"tune", bad, "-o", Path("run"), "--model", model_}, 4, "bad.jsonl");
  std::filesystem::create_directory(Path("empty"));
  expect({"tune", Path("empty"), "-o", Path("run"), "--model", model_}, 3, "holds no text");
}

TEST_F(TuneCommand, BadLinesAreLeftOutAndCountedOnRequest) {
  std::string lines;
  for (int i = 0; i < 20; ++i)
    lines += R"({"text": "ab ab b ab ab"})"
             "\n";
  const std::string file = Write("texts.jsonl", lines + "{\"text\": 7}\nno JSON\n");
  const json report = RunJson({"tune", file, "--skip-bad", "-o", Path("run"), "--model", model_,
                               "--length", "16", "--steps", "1", "--threads", "1", "--json"});
  ExpectDocumented("tune", report);
  EXPECT_EQ(report.at("data").at("bad_lines"), 2);
  EXPECT_EQ(report.at("data").at("documents"), 20);
}

}  // namespace
}  // namespace eidetic::apps
