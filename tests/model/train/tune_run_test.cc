// A run of training learns, is stopped and killed at any moment, and goes on to the same bits.
#include "model/train/tune_run.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "model/adapter_file.h"
#include "model/error.h"
#include "model/resource_errors.h"
#include "model/safetensors.h"
#include "model/train/adapter_folder.h"
#include "model/train/atomic_folder.h"
#include "model/train/device_meter.h"
#include "model/train/metrics_file.h"
#include "model/train/train_flops.h"
#include "model/train/train_step.h"
#include "model/train/tune_subject.h"
#include "tests/model/train/tune_runs.h"

namespace eidetic::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class TuneRunTest : public TuneRuns {};

TEST_F(TuneRunTest, LearnsAndLeavesAdaptersOfTheLossesItTells) {
  const TuneOptions options = Options("run");
  const TuneReport report = Tune(options, {});
  EXPECT_EQ(report.state.step, 12);
  EXPECT_EQ(report.state.tokens, 12 * 2 * 32);
  EXPECT_EQ(report.kind, "hylora");
  const std::vector<json> metrics = Metrics(options);
  ASSERT_EQ(metrics.size(), 12u + 4u);  // evaluations after 0, 4, 8 and 12 steps
  EXPECT_EQ(metrics[0].at("event"), "evaluation");
  EXPECT_EQ(metrics[1].at("step"), 1);
  EXPECT_LT(metrics.back().at("loss").get<double>(), 0.8 * metrics[0].at("loss").get<double>());
  EXPECT_EQ(metrics.back().at("loss"), report.state.held_out_loss);

  // The loss that was told is that of the adapter that was written.
  const auto base = Checkpoint::Open(options.model);
  DifferentiableModel model = OnTestDevice(*base, at::kFloat);
  const auto adapter = LoadAdapter(*AdapterFile::Open(options.folder + "/best"), &model);
  const TuneData data = ReadTuneData(options, *base->ReadTokenizer(), options.folder, {});
  ASSERT_EQ(data.held_out_windows.size(), 3u);
  std::vector<TrainSequence> sequences;
  for (const int64_t first : data.held_out_windows) {
    sequences.push_back(data.held_out->Sequence(first, data.held_out_length));
  }
  EXPECT_NEAR(MeanLoss(model, sequences, ForwardOptionsOf(options)), report.state.best_loss, 1e-6);
}

TEST_F(TuneRunTest, EveryAttentionAndTypeTrainsAndGoesOn) {
  for (const char* name :
       {"se", "se-no-memory", "se-random", "se-landmark", "se-stream", "window", "s2", "full"}) {
    for (const bool bf16 : {false, true}) {
      if (bf16 && std::string(name) != "se" && std::string(name) != "se-stream") continue;
      TuneOptions options = Options(std::string(name) + (bf16 ? "-bf16" : ""));
      options.attention.mode = *FindSequenceMode(name);
      options.attention.stream = {.segment = 8,
                                  .window = 8,
                                  .sinks = 4,
                                  .query_offset = 8,
                                  .representative_tokens = 4,
                                  .votes = 4,
                                  .candidates = 4,
                                  .span_blocks = 2,
                                  .span_layers = {}};
      options.bf16 = bf16;
      options.evaluate_every = options.checkpoint_every = 100;  // at the end alone
      options.steps = 1;
      options.warm_up = 1;
      options.schedule = RateSchedule::kConstant;
      const double before = Tune(options, {}).state.held_out_loss;
      options.steps = 5;
      const TuneReport report = Tune(options, {});
      EXPECT_EQ(report.resumed_from, 1) << name;
      EXPECT_LT(report.state.held_out_loss, before) << name;
      EXPECT_GT(AttentionPairs(options.attention, options.length), 0) << name;
    }
  }
}

TEST_F(TuneRunTest, StoppedAnywhereItGoesOnToTheSameBits) {
  const TuneOptions whole = Options("whole"), pieces = Options("pieces");
  Tune(whole, {});
  std::mt19937 random(4);
  int calls = 0;
  for (bool finished = false; !finished; ++calls) {
    ASSERT_LT(calls, 40);
    int left = static_cast<int>(4 + random() % 12);
    try {
      Tune(pieces, [&](const TuneProgress& progress) {
        return progress.stage == TuneStage::kTokenizing || --left > 0;
      });
      finished = true;
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::kCancelled) << error.what();
    }
  }
  EXPECT_GT(calls, 3);
  ExpectEqualRuns(whole, pieces);
}

TEST_F(TuneRunTest, KilledAtSeededMomentsItGoesOnToTheSameBits) {
  const TuneOptions whole = Options("whole"), killed = Options("killed");
  Tune(whole, {});
  std::mt19937 random(5);
  int kills = 0;
  for (bool finished = false; !finished;) {
    ASSERT_LT(kills, 60);
    const int moment =
        static_cast<int>(4 + random() % 20);  // a call tells some ten times in three steps
    const pid_t child = ::fork();
    if (child == 0) {
      int left = moment;
      try {
        Tune(killed, [&](const TuneProgress&) {
          if (--left == 0) ::raise(SIGKILL);
          return true;
        });
      } catch (...) {
        ::_exit(2);
      }
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    finished = WIFEXITED(status);
    if (finished) {
      ASSERT_EQ(WEXITSTATUS(status), 0);
    } else {
      ++kills;
    }
  }
  EXPECT_GT(kills, 2);
  ExpectEqualRuns(whole, killed);
}

TEST_F(TuneRunTest, SeveralProcessesStopTogetherWhereverOneIsToldTo) {
  const TuneOptions whole = Options("whole"), pieces = Options("pieces");
  const TwoProcesses at_once(whole, folder_ / "meeting", {});
  ASSERT_FALSE(at_once.ends[0]) << at_once.ends[0]->what();
  ASSERT_FALSE(at_once.ends[1]) << at_once.ends[1]->what();
  for (const auto& [stage, step] :
       {std::pair(TuneStage::kSaving, 3), {TuneStage::kTraining, 6}, {TuneStage::kEvaluating, 8}}) {
    const TwoProcesses stopped(pieces, folder_ / ("meeting-" + std::to_string(step)),
                               [stage = stage, step = step](const TuneProgress& progress) {
                                 return progress.stage != stage || progress.step < step;
                               });
    for (const auto& end : stopped.ends) {
      ASSERT_TRUE(end) << "at step " << step;
      EXPECT_EQ(end->code(), ErrorCode::kCancelled) << end->what();
    }
  }
  const TwoProcesses rest(pieces, folder_ / "meeting-of-the-rest", {});
  ASSERT_FALSE(rest.ends[0]) << rest.ends[0]->what();
  ASSERT_FALSE(rest.ends[1]) << rest.ends[1]->what();
  ExpectEqualRuns(whole, pieces);
}

TEST_F(TuneRunTest, OtherOptionsThanTheCheckpointsAreNamed) {
  TuneOptions options = Options("run");
  options.schedule = RateSchedule::kConstant;
  options.steps = 3;
  Tune(options, {});
  TuneOptions other = options;
  other.trained.rank = 8;
  other.length = 16;
  const Error error = Failure(other);
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  EXPECT_NE(std::string(error.what()).find("length was 32, is 16; rank was 4, is 8"),
            std::string::npos)
      << error.what();
  other = options;
  other.held_out_sequences = 2;  // what `best` is the best of
  ExpectInvalid(other, "eval-sequences was 3, is 2");
  other = options;
  other.schedule = RateSchedule::kCosine;
  ExpectInvalid(other, "schedule was constant, is cosine");
  other = options;
  other.attention.mode = SequenceMode::kFull;
  ExpectInvalid(other, "attention was se, is full");  // by the names of --attention
  // A longer run of the same kind is the same run, also where more or fewer sequences go through
  // the model at once: that is what one lowers when memory ends.
  options.steps = 4;
  options.micro_batch = 2;
  const TuneReport report = Tune(options, {});
  EXPECT_EQ(report.resumed_from, 3);
  EXPECT_EQ(report.state.step, 4);
  options.micro_batch = 1;
  options.steps = 5;
  EditSettings(options, [](json& settings) { settings["micro-batch"] = "2"; });  // as told before
  EXPECT_EQ(Tune(options, {}).resumed_from, 4);
}

TEST_F(TuneRunTest, PatternsAreKeptAndOthersNamed) {
  TuneOptions options = Options("whole");
  options.schedule = RateSchedule::kConstant;
  options.steps = 6;
  options.trained.targets = {};
  options.trained.target_pattern = R"(.*\.[qv]_proj)";
  options.trained.ranks = {{"q_proj", 6}};
  options.trained.alphas = {{"v_proj", 3}};
  options.trained.dropouts = {{"q_proj", 0.5}};
  const TuneEstimate estimate = EstimateTune(options, {});
  const TuneReport report = Tune(options, {});
  EXPECT_EQ(report.trained_numbers, estimate.trained_numbers);
  const auto file = AdapterFile::Open(options.folder + "/last");
  EXPECT_EQ(file->modules().Rank("model.layers.1.self_attn.q_proj"), 6);
  EXPECT_EQ(file->config().alphas, options.trained.alphas);
  // Two more columns of A and rows of B than without.
  const LowRank& q = file->low_rank().at("model.layers.1.self_attn.q_proj");
  TuneOptions other = options;
  other.trained.ranks = {};
  EXPECT_EQ(estimate.trained_numbers - EstimateTune(other, {}).trained_numbers,
            static_cast<int64_t>(2 * (q.a->shape[1] + q.b->shape[0])));

  TuneOptions pieces = options;
  pieces.folder = folder_ / "pieces";
  EXPECT_THROW(Tune(pieces, [](const TuneProgress& progress) { return progress.step < 3; }), Error);
  other = pieces;
  other.trained.ranks = {{"q_proj", 8}};
  other.trained.alphas = {};
  ExpectInvalid(other, "alpha-for was v_proj=3, is not given; rank-for was q_proj=6, is q_proj=8");
  other = pieces;
  other.trained.dropouts = {{"q_proj", 0.25}};
  ExpectInvalid(other, "dropout-for was q_proj=0.5, is q_proj=0.25");
  other = pieces;
  other.trained.target_pattern = R"(.*\.[qvk]_proj)";
  ExpectInvalid(other, R"(target-pattern was .*\.[qv]_proj, is .*\.[qvk]_proj)");
  Tune(pieces, {});
  ExpectEqualRuns(options, pieces);
}

// Of which training.json does not say how many sequences an evaluation reads.
TEST_F(TuneRunTest, ARunThatAnEarlierVersionBeganGoesOn) {
  TuneOptions options = Options("run");
  options.schedule = RateSchedule::kConstant;
  options.steps = 3;
  Tune(options, {});
  EditSettings(options, [](json& settings) { ASSERT_EQ(settings.erase("eval-sequences"), 1u); });
  options.steps = 4;
  EXPECT_EQ(Tune(options, {}).resumed_from, 3);
  // What the attention does not read was told too, and need not be given again.
  EditSettings(options, [](json& settings) {
    EXPECT_FALSE(settings.contains("window"));
    settings["window"] = "77";
  });
  options.steps = 5;  // from here on it is told
  options.held_out_sequences = 2;
  ExpectInvalid(options, "eval-sequences was 3, is 2");
}

TEST_F(TuneRunTest, AWarmUpThatWasNotGivenStaysWhenTheRunIsMadeLonger) {
  TuneOptions options = Options("run");
  options.schedule = RateSchedule::kConstant;
  options.steps = 20;
  options.warm_up = -1;
  Tune(options, {});
  const std::vector<json> metrics = Metrics(options);
  EXPECT_EQ(metrics[1].at("rate"), options.rate / 2);
  EXPECT_EQ(metrics[2].at("rate"), options.rate);
  options.steps = 40;
  EXPECT_EQ(Tune(options, {}).resumed_from, 20);
  options.warm_up = 4;
  ExpectInvalid(options, "warm-up was 2, is 4");
}

TEST_F(TuneRunTest, AFinishedRunIsOnlyReported) {
  const TuneOptions options = Options("run");
  Tune(options, {});
  const std::string metrics = ReadFile(options.folder + "/metrics.jsonl");
  const TuneReport report = Tune(options, {});
  EXPECT_EQ(report.state.step, 12);
  EXPECT_EQ(report.resumed_from, 12);
  EXPECT_TRUE(report.data.reused);
  EXPECT_EQ(ReadFile(options.folder + "/metrics.jsonl"), metrics);
}

TEST_F(TuneRunTest, GoesOnFromAnAdapterOfAnotherRun) {
  TuneOptions first = Options("first");
  first.steps = 4;
  first.trained.kind = AdapterKind::kLora;
  const TuneReport before = Tune(first, {});
  TuneOptions second = Options("second");
  second.adapter = first.folder + "/last";
  const TuneReport after = Tune(second, {});
  EXPECT_EQ(after.kind, "lora");
  EXPECT_EQ(after.trained_numbers, before.trained_numbers);
  // It begins where the first one ended.
  EXPECT_EQ(Metrics(second)[0].at("loss"), before.state.held_out_loss);
  // And is stopped and goes on as any other, without the adapter it came from.
  TuneOptions pieces = Options("pieces");
  pieces.adapter = second.adapter;
  EXPECT_THROW(Tune(pieces, [](const TuneProgress& progress) { return progress.step < 5; }), Error);
  Tune(pieces, {});
  ExpectEqualRuns(second, pieces);
}

TEST_F(TuneRunTest, AnAdapterSaysWithWhichScalingItWasTrained) {
  const auto scaling_of = [](const std::string& folder) {
    return AdapterFile::Open(folder)->config().rotary_scaling;
  };
  TuneOptions options = Options("scaled");
  options.steps = 4;
  options.schedule = RateSchedule::kConstant;
  options.rotary_scaling = ParseRotaryScaling("yarn:4");
  Tune(options, {});
  for (const char* name : {"/last", "/best"}) {
    // The context is the model's; it is told, or the adapter would depend on what that says.
    EXPECT_EQ(scaling_of(options.folder + name), ParseRotaryScaling("yarn:4:256")) << name;
  }
  TuneOptions other = options;
  other.rotary_scaling.reset();
  ExpectInvalid(other, "rope-scaling was yarn:4, is not given");
  options.steps = 5;
  EXPECT_EQ(Tune(options, {}).resumed_from, 4);

  // Who goes on from it need not know of it, and may take another.
  TuneOptions second = Options("second");
  second.adapter = options.folder + "/last";
  second.steps = 2;
  second.warm_up = 1;
  second.schedule = RateSchedule::kConstant;
  Tune(second, {});
  EXPECT_EQ(Metrics(second)[0].at("loss"), Metrics(options).back().at("loss"));
  EXPECT_EQ(scaling_of(second.folder + "/last"), ParseRotaryScaling("yarn:4:256"));
  second.steps = 3;  // goes on by its own checkpoint
  Tune(second, {});
  EXPECT_EQ(scaling_of(second.folder + "/last"), ParseRotaryScaling("yarn:4:256"));
  TuneOptions third = Options("third");
  third.adapter = options.folder + "/last";
  third.steps = third.warm_up = 1;
  third.rotary_scaling = ParseRotaryScaling("none");  // as the model's file: nothing to tell
  Tune(third, {});
  EXPECT_FALSE(scaling_of(third.folder + "/last"));
  EXPECT_NE(Metrics(third)[0].at("loss"), Metrics(second)[0].at("loss"));
}

// To a model that is scaled they are two.
TEST_F(TuneRunTest, NoScalingAndNoneGivenAreTwoSettings) {
  TinyFolder scaled = TinyFolder::Granite();
  scaled.config["rope_parameters"]["rope_type"] = "linear";
  scaled.config["rope_parameters"]["factor"] = 4;
  scaled.Write(folder_ / "model");
  TuneOptions options = Options("run");
  options.steps = options.warm_up = 1;
  options.schedule = RateSchedule::kConstant;
  Tune(options, {});
  EXPECT_FALSE(AdapterFile::Open(options.folder + "/last")->config().rotary_scaling);
  TuneOptions none = options;
  none.rotary_scaling = ParseRotaryScaling("none");
  ExpectInvalid(none, "rope-scaling was not given, is none");
  none.folder = folder_ / "none";
  Tune(none, {});
  EXPECT_NE(Metrics(none)[0].at("loss"), Metrics(options)[0].at("loss"));
  EXPECT_EQ(AdapterFile::Open(none.folder + "/last")->config().rotary_scaling, RotaryScaling());
}

TEST_F(TuneRunTest, ALossThatIsNoNumberEndsTheRunBeforeItsStep) {
  TuneOptions options = Options("run");
  options.schedule = RateSchedule::kConstant;
  options.checkpoint_every = 1;
  options.held_out.clear();
  options.warm_up = 0;
  options.rate = 1e30;
  const Error error = Failure(options);
  EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
  const std::string message = error.what();
  for (const char* words :
       {"of step ", "on the batch of tokens ", "the last good checkpoint is "}) {
    EXPECT_NE(message.find(words), std::string::npos) << message;
  }
  EXPECT_NE(error.remedy().find("--rate"), std::string::npos);
  EXPECT_TRUE(fs::exists(options.folder + "/last/adapter_model.safetensors"));
}

TEST_F(TuneRunTest, ADamagedCheckpointIsAnErrorThatNamesTheFile) {
  TuneOptions options = Options("run");
  options.steps = 3;
  Tune(options, {});
  for (const char* name : {"adapter_model.safetensors", "optimizer.safetensors", "training.json"}) {
    const std::string path = options.folder + "/last/" + name, bytes = ReadFile(path);
    std::string changed = bytes;
    changed[changed.size() / 2] ^= 1;
    if (std::string(name) == "training.json") changed = bytes.substr(0, bytes.size() / 2);
    WriteFile(path, changed);
    const Error error = Failure(options);
    EXPECT_EQ(error.code(), ErrorCode::kCorruption) << error.what();
    EXPECT_NE(std::string(error.what()).find(name), std::string::npos) << error.what();
    WriteFile(path, bytes);
  }
  EXPECT_EQ(Tune(options, {}).state.step, 3);
}

TEST_F(TuneRunTest, WhatCannotBeTrainedOnIsRefused) {
  TuneOptions options = Options("run");
  options.length = 100'000;
  ExpectInvalid(options, "too few for one sequence of 100000");
  options = Options("run");
  options.inputs = {};
  ExpectInvalid(options, "nothing to train on");
  options = Options("run");
  options.warm_up = 12;
  ExpectInvalid(options, "warm-up is 12, and there are but 12 steps of the run");
  options = Options("run");
  options.rate = -1;
  ExpectInvalid(options, "rate is -1");
  options = Options("run");
  options.trained.targets = {"z_proj"};
  ExpectInvalid(options, "z_proj");
  options = Options("run");
  options.trained.ranks = {{"q_proj", 0}};
  ExpectInvalid(options, "rank of 'q_proj' is 0");
  options = Options("run");
  options.trained.target_pattern = R"(.*\.(q_proj)";
  ExpectInvalid(options, R"('.*\.(q_proj' for targets is no regular expression)");
  options = Options("run");
  options.attention.stream.span_layers = {9999};
  ExpectInvalid(options, "span layer 9999");
  WriteFile(folder_ / "a.txt", "");
  EXPECT_NE(std::string(Failure(Options("run")).what()).find("a.txt"), std::string::npos);
  WriteFile(folder_ / "a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \n");
  options = Options("run");
  options.inputs = {folder_ / "a.jsonl"};
  EXPECT_NE(std::string(Failure(options).what()).find("a.jsonl"), std::string::npos);
}

TEST_F(TuneRunTest, OneProcessTrainsIntoAFolder) {
  const TuneOptions options = Options("run");
  fs::create_directories(options.folder);
  const MetricsFile other(options.folder + "/metrics.jsonl");
  EXPECT_THROW(Tune(options, {}), LockedError);
}

TEST_F(TuneRunTest, MemoryThatEndsIsToldWithWhatToLower) {
  const TuneOptions options = Options("run");
  try {
    WithMemoryAdvice(options, "step 3", [] {
      // LibTorch's own words for it.
      return at::empty({int64_t{1} << 48}, at::TensorOptions(OpenDevice(TestDevice())));
    });
    FAIL() << "no error";
  } catch (const OutOfMemoryError& error) {
    EXPECT_NE(std::string(error.what()).find("step 3 does not fit"), std::string::npos);
    EXPECT_NE(error.remedy().find("--length"), std::string::npos) << error.remedy();
    EXPECT_NE(error.remedy().find("--recompute"), std::string::npos) << error.remedy();
  }
}

TEST_F(TuneRunTest, AnEstimateMeasuresAndLeavesTheFolderAlone) {
  const TuneOptions options = Options("run");
  const TuneEstimate estimate = EstimateTune(options, {});
  EXPECT_FALSE(fs::exists(options.folder));
  EXPECT_EQ(estimate.steps, 12);
  EXPECT_EQ(estimate.measured_tokens, 32);
  EXPECT_GT(estimate.step_seconds, 0);
  EXPECT_GT(estimate.memory_bytes, 0u);
  EXPECT_GT(estimate.trained_numbers, 0);
  TuneOptions longer = options;
  longer.steps = 24;
  EXPECT_EQ(EstimateTune(longer, {}).steps, 24);
  longer.warm_up = 24;
  EXPECT_THROW(EstimateTune(longer, {}), Error);
}

TEST_F(TuneRunTest, AnEstimateTellsTheRoomOfCheckpoints) {
  TinyFolder untied = TinyFolder::Granite();
  untied.config["tie_word_embeddings"] = false;
  untied.tensors["lm_head.weight"] = untied.tensors.at("model.embed_tokens.weight");
  untied.Write(folder_ / "untied");
  for (const char* name : {"model", "untied"}) {
    SCOPED_TRACE(name);
    TuneOptions options = Options(std::string("run-of-") + name);
    options.model = folder_ / name;
    options.steps = 4;
    const TuneEstimate estimate = EstimateTune(options, {});
    Tune(options, {});
    uint64_t written = 0;
    for (const char* file : {"/last/adapter_model.safetensors", "/last/optimizer.safetensors",
                             "/best/adapter_model.safetensors"}) {
      const auto tensors = SafetensorsFile::Open(options.folder + file);
      for (const auto& [path, tensor] : tensors->tensors()) written += tensor.bytes;
    }
    EXPECT_EQ(estimate.checkpoint_bytes, written);
  }
}

TEST(TuneRates, GrowAndFall) {
  TuneOptions options;
  options.rate = 1;
  options.warm_up = 4;
  EXPECT_DOUBLE_EQ(RateOf(options, 0, 100), 0.25);
  EXPECT_DOUBLE_EQ(RateOf(options, 99, 100), 1);
  options.schedule = RateSchedule::kCosine;
  EXPECT_DOUBLE_EQ(RateOf(options, 3, 100), 1);
  EXPECT_DOUBLE_EQ(RateOf(options, 4, 100), 1);
  EXPECT_NEAR(RateOf(options, 52, 100), 0.5, 1e-12);
  EXPECT_NEAR(RateOf(options, 100, 100), 0, 1e-12);
  options.teacher = "another";  // two stages
  options.mixer_steps = 36;
  options.mixer_rate = 8;
  EXPECT_DOUBLE_EQ(RateOf(options, 0, 100), 2);
  EXPECT_DOUBLE_EQ(RateOf(options, 4, 100), 8);
  EXPECT_NEAR(RateOf(options, 20, 100), 4, 1e-12);
  EXPECT_DOUBLE_EQ(RateOf(options, 36, 100), 0.25);
  EXPECT_NEAR(RateOf(options, 70, 100), 0.5, 1e-12);
  EXPECT_NEAR(RateOf(options, 100, 100), 0, 1e-12);
}

TEST(TuneRates, GrowForATenthOfEachStageWhereNothingIsGiven) {
  struct Case {
    int64_t steps, mixer_steps, warm_up, mixer_warm_up;
  };
  for (const Case& each :
       {Case{5, 0, 1, 1}, {100, 12, 8, 1}, {160, 20, 14, 2}, {1600, 200, 20, 20}}) {
    TuneOptions options;
    options.teacher = "another";
    options.steps = each.steps;
    SettleStages(nullptr, &options);
    EXPECT_EQ(options.mixer_steps, each.mixer_steps);
    EXPECT_EQ(options.warm_up, each.warm_up);
    EXPECT_EQ(options.mixer_warm_up, each.mixer_warm_up);
    const int64_t last = each.mixer_steps + each.warm_up - 1;
    EXPECT_DOUBLE_EQ(RateOf(options, last, each.steps), options.rate);
    EXPECT_DOUBLE_EQ(RateOf(options, last + 1, each.steps), options.rate);
    if (each.mixer_steps == 0) continue;
    EXPECT_LT(RateOf(options, last - 1, each.steps), options.rate);
    EXPECT_DOUBLE_EQ(RateOf(options, each.mixer_warm_up - 1, each.steps), options.mixer_rate);
  }
}

TEST(TuneRates, AWarmUpThatIsGivenFitsIntoBothStages) {
  TuneOptions options;
  options.teacher = "another";
  options.steps = 100;
  options.mixer_steps = 10;
  options.warm_up = 9;
  SettleStages(nullptr, &options);
  EXPECT_EQ(options.warm_up, 9);
  EXPECT_EQ(options.mixer_warm_up, 9);
  const auto refused = [&](int64_t mixer_steps, int64_t warm_up) -> std::string {
    TuneOptions other = options;
    other.mixer_steps = mixer_steps;
    other.warm_up = warm_up;
    other.mixer_warm_up = -1;
    try {
      SettleStages(nullptr, &other);
    } catch (const Error& error) {
      EXPECT_FALSE(error.remedy().empty());
      return error.what();
    }
    return "";
  };
  EXPECT_NE(refused(10, 10).find("warm-up is 10, and there are but 10 steps of mixers alone"),
            std::string::npos);
  EXPECT_NE(refused(90, 10).find("but 10 steps of all together"), std::string::npos);
  EXPECT_EQ(refused(0, 10), "");
  EXPECT_EQ(refused(100, 10), "");
  // What a run was begun with is not refused.
  const TrainSettings begun = {{"mixer-steps", "10"}, {"warm-up", "20"}};
  TuneOptions later = options;
  later.mixer_steps = later.warm_up = later.mixer_warm_up = -1;
  SettleStages(&begun, &later);
  EXPECT_EQ(later.mixer_steps, 10);
  EXPECT_EQ(later.warm_up, 20);
  EXPECT_EQ(later.mixer_warm_up, 20);
}

// Counted one by one.
TEST(PeakFlopsTest, AreThoseOfTheDeviceWhoseNameItIs) {
  EXPECT_EQ(PeakFlops("NVIDIA H100 80GB HBM3", at::kBFloat16), 989e12);
  EXPECT_EQ(PeakFlops("NVIDIA H100 PCIe", at::kBFloat16), 756e12);
  // Names that begin alike are other devices.
  EXPECT_EQ(PeakFlops("NVIDIA L4", at::kBFloat16), 121e12);
  EXPECT_EQ(PeakFlops("NVIDIA L40", at::kBFloat16), 181e12);
  EXPECT_EQ(PeakFlops("NVIDIA L40S", at::kBFloat16), 362e12);
  EXPECT_EQ(PeakFlops("NVIDIA A100-SXM4-80GB", at::kFloat), 19.5e12);
  EXPECT_EQ(PeakFlops("a device that nobody knows", at::kFloat), 0);
}

TEST(AttentionPairsTest, AreThoseThatAHeadLooksAt) {
  SequenceAttentionOptions options;
  options.chunk_sizes = {10};
  options.block_tokens = 2;
  options.span_blocks = 3;
  options.window = 7;
  options.groups = 4;
  constexpr int64_t kTokens = 34;
  const auto counted = [&](auto sees) {
    double pairs = 0;
    for (int64_t query = 0; query < kTokens; ++query) {
      for (int64_t key = 0; key <= query; ++key) pairs += sees(query, key) ? 1 : 0;
    }
    return pairs;
  };
  options.mode = SequenceMode::kFull;
  EXPECT_EQ(AttentionPairs(options, kTokens), counted([](auto, auto) { return true; }));
  options.mode = SequenceMode::kWindow;
  EXPECT_EQ(AttentionPairs(options, kTokens),
            counted([](auto query, auto key) { return query - key < 7; }));
  options.mode = SequenceMode::kPaperNoMemory;
  const double chunks = counted([](auto query, auto key) { return query / 10 == key / 10; });
  EXPECT_EQ(AttentionPairs(options, kTokens), chunks);
  options.mode = SequenceMode::kPaper;
  EXPECT_EQ(AttentionPairs(options, kTokens), chunks + 24 * 6);
}

TEST(MetricsFileTest, IsCutBackToWhatACheckpointKnows) {
  const TemporaryFolder folder;
  const std::string path = folder / "metrics.jsonl";
  {
    MetricsFile file(path);
    file.Add(EvaluationMetrics{.step = 0, .loss = 3});
    for (int64_t step = 1; step <= 4; ++step) {
      file.Add(StepMetrics{.step = step, .loss = 2});
      if (step % 2 == 0) file.Add(EvaluationMetrics{.step = step, .loss = 3});
    }
  }
  const auto lines = [&] {
    const std::string text = ReadFile(path);
    return std::count(text.begin(), text.end(), '\n');
  };
  EXPECT_EQ(lines(), 7);
  MetricsFile(path).CutBack(4, 2);
  EXPECT_EQ(lines(), 6);
  WriteFile(path, ReadFile(path) + "{\"event\":\"step\",\"st");  // a kill
  MetricsFile(path).CutBack(4, 2);
  EXPECT_EQ(lines(), 6);
  EXPECT_EQ(ReadFile(path).back(), '\n');
  MetricsFile(path).CutBack(2, 2);
  EXPECT_EQ(lines(), 4);
  MetricsFile(path).CutBack(0, -1);
  EXPECT_EQ(ReadFile(path), "");
}

TEST(AtomicFolderTest, IsThereWholeOrAsItWas) {
  const TemporaryFolder folder;
  const std::string path = folder / "last";
  const auto write = [&](const std::string& text, bool commit) {
    AtomicFolder output(path);
    WriteFile(output.temporary() + "/a", text);
    if (commit) output.Commit();
  };
  write("one", true);
  write("two", false);
  EXPECT_EQ(ReadFile(path + "/a"), "one");
  write("three", true);
  EXPECT_EQ(ReadFile(path + "/a"), "three");
  EXPECT_FALSE(fs::exists(path + ".partial"));
  // A kill between the two renames of a file system that cannot swap.
  fs::rename(path, path + ".replaced");
  fs::create_directory(path + ".partial");
  AtomicFolder::Recover(path);
  EXPECT_EQ(ReadFile(path + "/a"), "three");
  EXPECT_FALSE(fs::exists(path + ".partial"));
  EXPECT_FALSE(fs::exists(path + ".replaced"));
}

}  // namespace
}  // namespace eidetic::model
