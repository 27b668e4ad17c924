// Runs that distil, in their two stages: what they would take, how they go on, and how they end.
#include <gtest/gtest.h>

#include <algorithm>

#include "model/adapter_file.h"
#include "model/train/adapter_folder.h"
#include "model/train/train_step.h"
#include "model/train/tune_estimate.h"
#include "model/train/tune_subject.h"
#include "tests/model/train/tune_runs.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

// Two steps for mixers alone, then four. The tiny hybrid is of the tiny Llama's sizes, with a
// mixer in place of its first attention.
class DistillRunTest : public TuneRuns {
 protected:
  DistillRunTest() {
    TinyFolder::Llama().Write(folder_ / "teacher");
    std::mt19937 random(1);
    std::string text;  // without a token that a test puts in
    for (int i = 0; i < 400; ++i) text += random() % 2 == 0 ? "ab " : "abab b ";
    WriteFile(folder_ / "a.txt", text);
    WriteFile(folder_ / "held-out.txt", text.substr(0, 200));
  }
  TuneOptions Options(const std::string& run) const {
    TuneOptions options = TuneRuns::Options(run);
    options.teacher = folder_ / "teacher";
    options.inputs = {folder_ / "a.txt"};
    options.trained.kind = AdapterKind::kMixers;
    options.attention.mode = SequenceMode::kFull;
    options.batch = 4;
    options.steps = 6;
    options.rate = 1e-3;
    options.mixer_steps = 2;
    options.warm_up = 1;
    options.schedule = RateSchedule::kConstant;
    options.evaluate_every = options.checkpoint_every = 100;
    return options;
  }
  // Five steps, then 35, with a checkpoint in each stage and between two evaluations.
  TuneOptions Longer(const std::string& run) const {
    TuneOptions options = Options(run);
    options.batch = 2;
    options.steps = 40;
    options.mixer_steps = 5;
    options.mixer_rate = 2e-2;
    options.warm_up = 3;
    options.rate = 1e-2;
    options.schedule = RateSchedule::kCosine;
    options.evaluate_every = 4;
    options.checkpoint_every = 8;
    return options;
  }
  static TuneCallback StoppingAt(int64_t step) {  // when so many are taken; at -1 never
    return [step](const TuneProgress& progress) {
      return progress.stage != TuneStage::kTraining || progress.step != step;
    };
  }
  static void RunUpTo(const TuneOptions& options, int64_t step) {
    bool stopped = false;
    try {
      Tune(options, StoppingAt(step));
    } catch (const Error& error) {
      stopped = true;
      EXPECT_EQ(error.code(), ErrorCode::kCancelled) << error.what();
    }
    EXPECT_EQ(stopped, step >= 0);
  }
  // The first of two is told to stop.
  void RunInTwoUpTo(const TuneOptions& options, int64_t step) {
    const TwoProcesses run(options, folder_ / ("meeting-" + std::to_string(++meetings_)),
                           StoppingAt(step));
    for (const auto& end : run.ends) {
      ASSERT_EQ(end.has_value(), step >= 0) << (end ? end->what() : "it did not stop");
      if (!end) continue;
      EXPECT_EQ(end->code(), ErrorCode::kCancelled) << end->what();
    }
  }

  int meetings_ = 0;
};

TEST_F(DistillRunTest, LearnsInTwoStagesAndGoesOnToTheSameBits) {
  const TuneOptions options = Longer("run"), pieces = Longer("pieces");
  const TuneReport report = Tune(options, {});
  EXPECT_EQ(report.kind, "mixers");
  double first_distance = 0, first_divergence = 0, distance = 0, divergence = 0;
  for (const json& line : Metrics(options)) {
    if (line.at("event") == "evaluation") {
      EXPECT_EQ(line.at("teacher_loss"), *report.state.teacher_loss);
      continue;
    }
    const bool of_mixers = line.at("step") <= 5;
    EXPECT_EQ(line.at("objective"), of_mixers ? "mixers" : "teacher") << line;
    const double loss = line.at("loss");
    (of_mixers ? distance : divergence) = loss;
    if (line.at("step") == 1) first_distance = loss;
    if (line.at("step") == 6) first_divergence = loss;
  }
  EXPECT_LT(distance, 0.9 * first_distance);
  EXPECT_LT(divergence, 0.9 * first_divergence);
  EXPECT_EQ(AdapterFile::Open(options.folder + "/last")->Kind(), "mixers");
  for (int left : {3, 9, 14, 20, 1000}) {
    try {
      Tune(pieces, [&](const TuneProgress& progress) {
        return progress.stage == TuneStage::kTokenizing || --left > 0;
      });
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::kCancelled) << error.what();
    }
  }
  ExpectEqualRuns(options, pieces);
  TuneOptions other = options;
  other.mixer_steps = 6;
  ExpectInvalid(other, "mixer-steps was 5, is 6");
}

TEST_F(DistillRunTest, TheTeachersLossIsThatOfTheTeacherReadAsAWhole) {
  TuneOptions options = Options("run");
  options.steps = 1;
  const TuneReport report = Tune(options, {});
  const auto teacher = Checkpoint::Open(options.teacher);
  const TuneData data = ReadTuneData(options, *teacher->ReadTokenizer(), options.folder, {});
  std::vector<TrainSequence> sequences;
  for (const int64_t first : data.held_out_windows) {
    sequences.push_back(data.held_out->Sequence(first, data.held_out_length));
  }
  EXPECT_NEAR(MeanLoss(OnTestDevice(*teacher, at::kFloat), sequences, ForwardOptionsOf(options)),
              *report.state.teacher_loss, 1e-6);
}

TEST_F(DistillRunTest, WhatDoesNotFitTheTeacherIsRefused) {
  TuneOptions options = Options("mismatched");
  options.teacher = options.model;  // has no attention where the model has a mixer
  EXPECT_EQ(Failure(options).code(), ErrorCode::kMismatch);
  options = Options("no-mixers");
  options.trained.kind = AdapterKind::kLora;
  ExpectInvalid(options, "kind lora trains nothing of them");
  options.mixer_steps = -1;  // left to its default
  options.steps = 16;
  try {
    EstimateTune(options, {});
    FAIL() << "an estimate of a run that is refused";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("kind lora trains nothing of them"), std::string::npos)
        << error.what();
  }
}

TEST_F(DistillRunTest, ByDefaultMixersLearnAloneForAnEighthOfWhatTheRunWasBegunWith) {
  TuneOptions options = Options("run");
  options.mixer_steps = -1;
  options.steps = 8;
  options.warm_up = -1;
  Tune(options, {});
  options.steps = 16;
  EXPECT_EQ(Tune(options, {}).resumed_from, 8);
}

// A run of four steps has none for mixers alone, however much longer it is made.
TEST_F(DistillRunTest, AnEstimateOfARunThatIsThereKeepsItsStages) {
  TuneOptions options = Options("run");
  options.mixer_steps = -1;
  options.steps = 4;
  options.warm_up = -1;
  Tune(options, {});
  options.steps = 16;
  const auto measurements = [](const TuneOptions& of) {
    int64_t wanted = 0;
    EstimateTune(of, [&](const TuneProgress& progress) {
      if (progress.stage == TuneStage::kMeasuring) wanted = progress.total;
      return true;
    });
    return wanted;
  };
  EXPECT_EQ(measurements(options), 3);
  options.folder = folder_ / "another";
  EXPECT_EQ(measurements(options), 6);
}

TEST_F(DistillRunTest, ARunOfMixersThatAnEarlierVersionBeganGoesOn) {
  TuneOptions options = Options("run");
  Tune(options, {});
  EditSettings(options, [](json& settings) {
    EXPECT_FALSE(settings.contains("rank"));
    EXPECT_EQ(settings.erase("mixer-warm-up"), 1u);
    settings.update({{"rank", "32"}, {"alpha", "64"}, {"dropout", "0"}, {"targets", "q_proj"}});
  });
  options.steps = 7;
  EXPECT_EQ(Tune(options, {}).resumed_from, 6);
}

TEST_F(DistillRunTest, ATeacherReadsPositionsAsItsStudentDoes) {
  const auto scalings = [&](const char* scaling) {
    TuneOptions options = Options("run");
    if (scaling != nullptr) options.rotary_scaling = ParseRotaryScaling(scaling);
    const TuneSubject subject(options, *Checkpoint::Open(options.model), nullptr);
    return std::pair(subject.teacher()->config().rotary_scaling,
                     subject.model().config().rotary_scaling);
  };
  EXPECT_EQ(scalings(nullptr).first, RotaryScaling());
  const auto [of_teacher, of_student] = scalings("yarn:4");
  EXPECT_EQ(of_teacher, of_student);
  EXPECT_EQ(of_student, ParseRotaryScaling("yarn:4:256"));
  // One that counts positions otherwise reads them as its own file says.
  TinyFolder other = TinyFolder::Llama();
  other.config["rope_theta"] = 10000.0;
  other.Write(folder_ / "teacher");
  EXPECT_EQ(scalings("yarn:4").first, RotaryScaling());
}

// Steps far below what bf16 can tell apart are not lost.
TEST_F(DistillRunTest, MixersAreTrainedInFp32AlsoWhereTheyComputeInBf16) {
  TuneOptions options = Options("run");
  options.teacher.clear();
  options.bf16 = true;
  options.steps = 1;
  options.rate = 1e-6;
  options.warm_up = 0;
  Tune(options, {});
  const HostTensors trained = TensorsOf(*AdapterFile::Open(options.folder + "/last"));
  const DifferentiableModel before = OnTestDevice(*Checkpoint::Open(options.model), at::kFloat);
  const std::string name = "model.layers.0.mamba.in_proj.weight";
  const std::vector<float> was = ToHost(before.parameters().at(name)).values;
  size_t moved = 0;
  for (size_t i = 0; i < was.size(); ++i) {
    const float change = std::abs(trained.at(name).values[i] - was[i]);
    EXPECT_LT(change, 2e-6f);
    moved += change > 0;
  }
  EXPECT_GT(moved, was.size() / 2);
}

TEST_F(DistillRunTest, AnEstimateMeasuresTheStagesThatThereAreAndWhatIsReadAtOnce) {
  struct Case {
    int64_t mixer_steps, micro_batch;
    int processes;
    int64_t measurements, tokens;
  };
  for (const Case& each :
       {Case{2, 1, 1, 6, 32}, {0, 3, 1, 3, 96}, {6, 8, 1, 3, 128}, {2, 4, 2, 6, 64}}) {
    TuneOptions options = Options("run");
    options.mixer_steps = each.mixer_steps;
    options.micro_batch = each.micro_batch;
    options.processes = each.processes;
    options.meeting = folder_ / "meeting";
    int64_t measurements = 0, wanted = 0;
    const TuneEstimate estimate = EstimateTune(options, [&](const TuneProgress& progress) {
      if (progress.stage == TuneStage::kMeasuring) {
        measurements = progress.done;
        wanted = progress.total;
      }
      return true;
    });
    EXPECT_EQ(measurements, each.measurements);
    EXPECT_EQ(wanted, each.measurements);
    EXPECT_EQ(estimate.measured_tokens, each.tokens);
    EXPECT_GT(estimate.seconds, 0);
  }
}

// Counted by hand: 2 a weight and token forward, 2 more back to the input and 2 to a weight that is
// trained; attention 4 a number of its heads and pair, the scan 5 a number of the state.
TEST_F(DistillRunTest, OperationsAreThoseOfTheStage) {
  const TuneOptions options = Options("run");
  const TuneSubject subject(options, *Checkpoint::Open(options.model), nullptr);
  const double tokens = 32, attention = 4 * 32 * (32 * 33 / 2), scan = tokens * 5 * 32 * 8;
  const double projections = 2 * 32 * 32 + 2 * 16 * 32, feed_forward = 3 * 32 * 48;
  const double in = (32 + 64 + 4) * 32, out = 32 * 32, head = 24 * 32;
  const double teacher_layers = 2 * (tokens * 2 * (projections + feed_forward) + attention);
  // The norm before a mixer is not trained, and nothing goes on to it.
  const double mixers = teacher_layers + tokens * (4 * in + 6 * out) + 3 * scan;
  const double text = tokens * (4 * (projections + 2 * feed_forward + head) + 6 * (in + out)) +
                      3 * (attention + scan);
  const auto flops = [&](TuneObjective objective) {
    return FlopsOf(options, subject, objective, 32);
  };
  EXPECT_EQ(flops(TuneObjective::kMixers), mixers);
  EXPECT_EQ(flops(TuneObjective::kText), text);
  EXPECT_EQ(flops(TuneObjective::kTeacher), text + teacher_layers + tokens * 2 * head);
}

TEST(TuneEstimates, StagesTakeTheirTimesTogetherAndTheLargerMemory) {
  for (const bool larger_first : {true, false}) {
    const double first = larger_first ? 900 : 100, second = larger_first ? 100 : 900;
    const TuneEstimate both = EstimateOf({{2, 10, first, 64}, {6, 50, second, 32}});
    EXPECT_EQ(both.seconds, 320);
    EXPECT_EQ(both.step_seconds, 40);
    EXPECT_EQ(both.steps, 8);
    EXPECT_EQ(both.memory_bytes, 900u);
    EXPECT_EQ(both.measured_tokens, 64);
  }
}

// One token is too much for the teacher: the sequence with it is named, and no other.
TEST_F(DistillRunTest, ATeacherThatIsNotFiniteEndsTheRunAndIsNamed) {
  constexpr size_t kToken = 1;  // "a"; it alone has a first number, which the values overflow with
  TinyFolder teacher = TinyFolder::Llama();
  auto& embedding = teacher.tensors.at("model.embed_tokens.weight").values;
  for (size_t token = 0; token < TinyFolder::kVocabulary; ++token) {
    embedding[token * TinyFolder::kHidden] = token == kToken ? 100 : 0;
  }
  teacher.tensors.at("model.layers.0.self_attn.v_proj.weight").values[0] = 3e38f;
  teacher.Write(folder_ / "teacher");
  const std::string text = ReadFile(folder_ / "a.txt");
  WriteFile(folder_ / "a.txt", text.substr(0, 602) + "aab " + text.substr(602));
  const auto error_of = [](const TuneOptions& options) -> std::string {
    try {
      Tune(options, {});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_FALSE(error.remedy().empty());
      return error.what();
    }
    return "no error";
  };
  for (const int64_t mixer_steps : {0, 12}) {
    TuneOptions options = Options("run-" + std::to_string(mixer_steps));
    options.steps = 12;  // a pass
    options.mixer_steps = mixer_steps;
    const std::string message = error_of(options);
    const TuneData data = ReadTuneData(options, *Checkpoint::Open(options.model)->ReadTokenizer(),
                                       options.folder, {});
    const std::vector<int32_t> tokens = data.train->Sequence(0, data.train->tokens()).tokens;
    const int64_t at = std::find(tokens.begin(), tokens.end(), int32_t{kToken}) - tokens.begin();
    const std::vector<int64_t> windows = data.train->Epoch(options.length, options.seed, 0);
    const auto faulty = std::find_if(windows.begin(), windows.end(), [&](int64_t first) {
      return first <= at && at < first + options.length;
    });
    ASSERT_NE(faulty, windows.end());
    const auto step = std::to_string((faulty - windows.begin()) / options.batch + 1);
    const std::string expected = "in step " + step +
                                 " the teacher's outputs are not finite, on tokens " +
                                 std::to_string(*faulty) + " to " + std::to_string(*faulty + 31) +
                                 " of the data; that step was not taken";
    EXPECT_EQ(message.substr(0, expected.size()), expected);
  }
  WriteFile(folder_ / "held-out.txt", "aab " + text.substr(0, 200));
  EXPECT_NE(error_of(Options("held-out")).find("in the evaluation after step 0 the teacher's"),
            std::string::npos);
}

TEST_F(DistillRunTest, RecomputingChangesNoBit) {
  const TuneOptions plain = Options("plain");
  TuneOptions recomputing = Options("recomputing");
  recomputing.recompute = true;
  RunUpTo(plain, -1);
  RunUpTo(recomputing, -1);
  ExpectEqualRuns(plain, recomputing);
}

// Moments begin anew there, the rate is another's, and progress is of another loss.
TEST_F(DistillRunTest, StoppedWhereTheStagesMeetItGoesOnToTheSameBits) {
  const TuneOptions whole = Options("whole");
  RunUpTo(whole, -1);
  for (const std::vector<int64_t>& stops :
       std::vector<std::vector<int64_t>>{{1}, {2}, {3}, {1, 2, 3}}) {
    const TuneOptions pieces = Options("pieces-" + std::to_string(10 * stops.size() + stops[0]));
    for (const int64_t step : stops) RunUpTo(pieces, step);
    RunUpTo(pieces, -1);
    ExpectEqualRuns(whole, pieces);
  }
}

TEST_F(DistillRunTest, TwoProcessesTakeTheStepsOfOne) {
  TuneOptions alone = Options("alone"), whole = Options("whole"), pieces = Options("pieces");
  alone.device = "cpu";
  whole.micro_batch = pieces.micro_batch = 2;
  RunUpTo(alone, -1);
  RunInTwoUpTo(whole, -1);
  for (const int64_t step : {2, 3, -1}) RunInTwoUpTo(pieces, step);
  ExpectEqualRuns(whole, pieces);
  const std::vector<json> metrics = Metrics(whole), expected = Metrics(alone);
  ASSERT_EQ(metrics.size(), 6u + 2u);  // evaluated before and after
  ASSERT_EQ(expected.size(), metrics.size());
  for (size_t i = 0; i < metrics.size(); ++i) {
    // Sums of single precision in another order, and six steps of Adam on them.
    const double loss = expected[i].at("loss");
    EXPECT_NEAR(metrics[i].at("loss"), loss, 1e-4 * loss) << i;
  }
}

}  // namespace
}  // namespace eidetic::model
