// Runs that distil, in their two stages: what they would take, how they go on, and how they end.
#include <gtest/gtest.h>

#include <optional>

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

  TemporaryFolder folder_;
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

}  // namespace
}  // namespace eidetic::model
