// What a run leaves that ends before anything came of it, and what the next one makes of that.
#include "model/train/run_folder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "model/resource_errors.h"
#include "tests/model/train/tune_runs.h"

namespace eidetic::model {
namespace {

namespace fs = std::filesystem;

class RunFolderTest : public TuneRuns {
 protected:
  // Names in a folder, sorted.
  static std::vector<std::string> NamesIn(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) {
      names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }
  // A run that takes no step: its tokens are damaged after the loss before training was measured.
  static void FailAtTheFirstStep(const TuneOptions& options) {
    bool has_evaluated = false, is_damaged = false;
    try {
      Tune(options, [&](const TuneProgress& progress) {
        has_evaluated = has_evaluated || progress.stage == TuneStage::kEvaluating;
        if (progress.stage == TuneStage::kSaving && !is_damaged) {
          is_damaged = true;
          const std::string path = options.folder + "/train.tokens";
          std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
          file.seekp(static_cast<std::streamoff>(fs::file_size(path)) - 1);
          file.put('x');
        }
        return true;
      });
      FAIL() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruption) << error.what();
    }
    EXPECT_TRUE(has_evaluated);
  }
  static const std::vector<std::string> kTokens;
};
const std::vector<std::string> RunFolderTest::kTokens = {"held-out.tokens", "train.tokens"};

TEST_F(RunFolderTest, OfARunThatTookNoStepTheTokensStayAndNoAdapter) {
  const TuneOptions whole = Options("whole"), options = Options("run");
  Tune(whole, {});
  FailAtTheFirstStep(options);
  EXPECT_EQ(NamesIn(options.folder), kTokens);
  Tune(options, {});
  EXPECT_FALSE(fs::exists(options.folder + "/best.before"));
  ExpectEqualRuns(whole, options);
}

TEST_F(RunFolderTest, WhatWasThereBeforeIsThereAgain) {
  const TuneOptions options = Options("run");
  fs::create_directories(options.folder + "/best");
  WriteFile(options.folder + "/best/mine", "of an earlier run");
  FailAtTheFirstStep(options);
  EXPECT_EQ(NamesIn(options.folder), (std::vector<std::string>{"best", kTokens[0], kTokens[1]}));
  EXPECT_EQ(ReadFile(options.folder + "/best/mine"), "of an earlier run");
}

TEST_F(RunFolderTest, StepsWithoutACheckpointAreKeptToBeLookedAt) {
  TuneOptions options = Options("run");
  options.schedule = RateSchedule::kConstant;
  options.checkpoint_every = 100;
  options.warm_up = 0;
  options.rate = 1e30;
  Failure(options);
  EXPECT_FALSE(fs::exists(options.folder + "/last"));
  EXPECT_GE(Metrics(options).size(), 2u);
}

TEST_F(RunFolderTest, FoldersThatWereMadeForItAreTakenAway) {
  const std::string outer = folder_ / "outer";
  TuneOptions options = Options("outer/inner/run");
  options.model = folder_ / "none";
  Failure(options);
  EXPECT_FALSE(fs::exists(outer));
  fs::create_directories(outer + "/inner");  // theirs
  Failure(options);
  EXPECT_EQ(NamesIn(outer + "/inner"), std::vector<std::string>());
  fs::create_directories(options.folder);
  WriteFile(options.folder + "/metrics.jsonl", "");  // as an earlier version left it
  Failure(options);
  EXPECT_EQ(NamesIn(options.folder), std::vector<std::string>());
}

TEST_F(RunFolderTest, ARunThatIsThereIsLeftAsItWas) {
  TuneOptions options = Options("run");
  Tune(options, {});
  const std::vector<std::string> names = NamesIn(options.folder);
  const std::string metrics = ReadFile(options.folder + "/metrics.jsonl");
  options.rate = 2e-2;
  ExpectInvalid(options, "rate was 0.01, is 0.02");
  EXPECT_EQ(NamesIn(options.folder), names);
  EXPECT_EQ(ReadFile(options.folder + "/metrics.jsonl"), metrics);
  {
    const RunFolder other(options.folder);
    EXPECT_THROW(RunFolder(options.folder), LockedError);
  }
  EXPECT_EQ(ReadFile(options.folder + "/metrics.jsonl"), metrics);
}

}  // namespace
}  // namespace eidetic::model
