// Runs that distil, in their two stages: what they would take, how they go on, and how they end.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "model/error.h"
#include "model/train/train_flops.h"
#include "model/train/tune_run.h"
#include "model/train/tune_subject.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {
namespace {

// Two steps for mixers alone, then four. The tiny hybrid is of the tiny Llama's sizes, with a mixer
// in place of its first attention.
class DistillRunTest : public ::testing::Test {
 protected:
  DistillRunTest() {
    TinyFolder::Granite().Write(folder_ / "model");
    TinyFolder::Llama().Write(folder_ / "teacher");
    std::mt19937 random(1);
    std::string text;
    for (int i = 0; i < 400; ++i) text += random() % 2 == 0 ? "ab " : "abab b ";
    WriteFile(folder_ / "a.txt", text);
    WriteFile(folder_ / "held-out.txt", text.substr(0, 200));
  }
  TuneOptions Options(const std::string& run) const {
    TuneOptions options;
    options.model = folder_ / "model";
    options.teacher = folder_ / "teacher";
    options.inputs = {folder_ / "a.txt"};
    options.held_out = {folder_ / "held-out.txt"};
    options.device = TestDevice();
    options.threads = 1;
    options.trained.kind = AdapterKind::kMixers;
    options.attention.mode = SequenceMode::kFull;
    options.length = 32;
    options.batch = 4;
    options.steps = 6;
    options.mixer_steps = 2;
    options.warm_up = 1;
    options.rate = 1e-3;
    options.seed = 7;
    options.evaluate_every = options.checkpoint_every = 100;
    options.folder = folder_ / run;
    return options;
  }
  // Of all steps and evaluations, in their order.
  static std::vector<double> Losses(const TuneOptions& options) {
    std::istringstream lines(ReadFile(options.folder + "/metrics.jsonl"));
    std::vector<double> losses;
    for (std::string line; std::getline(lines, line);) {
      losses.push_back(nlohmann::json::parse(line).at("loss"));
    }
    return losses;
  }
  static void ExpectSameBits(const TuneOptions& a, const TuneOptions& b) {
    EXPECT_EQ(Losses(a), Losses(b));
    EXPECT_EQ(Losses(a).size(), 6u + 2u);  // evaluated before and after
    for (const char* file : {"/last/adapter_model.safetensors", "/last/optimizer.safetensors"}) {
      EXPECT_TRUE(ReadFile(a.folder + file) == ReadFile(b.folder + file)) << file;
    }
  }
  // Told to stop when `step` steps are taken; at -1 never.
  static void RunUpTo(const TuneOptions& options, int64_t step) {
    bool stopped = false;
    try {
      Tune(options, [&](const TuneProgress& progress) {
        return progress.stage != TuneStage::kTraining || progress.step != step;
      });
    } catch (const Error& error) {
      stopped = true;
      EXPECT_EQ(error.code(), ErrorCode::kCancelled) << error.what();
    }
    EXPECT_EQ(stopped, step >= 0);
  }
  // By two processes, a thread each; the first is told to stop.
  void RunInTwoUpTo(TuneOptions options, int64_t step) {
    options.device = "cpu";
    options.processes = 2;
    options.meeting = folder_ / ("meeting-" + std::to_string(++meetings_));
    TuneOptions second = options;
    second.process = 1;
    std::jthread other([&] {
      try {
        Tune(second, {});
        EXPECT_LT(step, 0);
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::kCancelled) << error.what();
      }
    });
    RunUpTo(options, step);
  }

  TemporaryFolder folder_;
  int meetings_ = 0;
};

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
    EXPECT_NEAR(estimate.seconds, 6 * estimate.step_seconds, 1e-9 * estimate.seconds);
  }
}

TEST_F(DistillRunTest, OperationsAreThoseOfTheStage) {
  const TuneOptions options = Options("run");
  const TuneSubject subject(options, *Checkpoint::Open(options.model), nullptr);
  const auto flops = [&](TuneObjective objective) {
    return FlopsOf(options, subject, objective, 32);
  };
  EXPECT_EQ(flops(TuneObjective::kMixers), MixerFlops(*subject.teacher(), subject.model(), 32));
  EXPECT_GT(flops(TuneObjective::kTeacher), 1.2 * flops(TuneObjective::kMixers));
  EXPECT_GT(flops(TuneObjective::kTeacher), 1.2 * flops(TuneObjective::kText));
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
  ExpectSameBits(plain, recomputing);
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
    ExpectSameBits(whole, pieces);
  }
}

TEST_F(DistillRunTest, TwoProcessesTakeTheStepsOfOne) {
  TuneOptions alone = Options("alone"), whole = Options("whole"), pieces = Options("pieces");
  alone.device = "cpu";
  whole.micro_batch = pieces.micro_batch = 2;
  RunUpTo(alone, -1);
  RunInTwoUpTo(whole, -1);
  for (const int64_t step : {2, 3, -1}) RunInTwoUpTo(pieces, step);
  ExpectSameBits(whole, pieces);
  const std::vector<double> losses = Losses(whole), expected = Losses(alone);
  ASSERT_EQ(losses.size(), expected.size());
  for (size_t i = 0; i < losses.size(); ++i) {
    // Sums of single precision in another order, and six steps of Adam on them.
    EXPECT_NEAR(losses[i], expected[i], 1e-4 * expected[i]) << i;
  }
}

}  // namespace
}  // namespace eidetic::model
