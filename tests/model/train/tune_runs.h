// Runs of training on tiny models, with what is told of them.
#ifndef EIDETIC_TESTS_MODEL_TRAIN_TUNE_RUNS_H_
#define EIDETIC_TESTS_MODEL_TRAIN_TUNE_RUNS_H_

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "model/error.h"
#include "model/train/tune_run.h"
#include "tests/model/train/train_models.h"

namespace eidetic::model {

// Words of the tiny tokenizer's letters, every other one the same, so that there is something to
// learn.
inline std::string WordsOf(uint32_t seed, int count) {
  const char* const words[] = {"ab", "b", "abab", "aab"};
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += i % 2 == 0 ? "ab " : std::string(words[random() % 4]) + " ";
  }
  return text;
}

// Twelve steps of two sequences, evaluated every 4 and saved every 3.
class TuneRuns : public ::testing::Test {
 protected:
  TuneRuns() {
    TinyFolder::Granite().Write(folder_ / "model");
    WriteFile(folder_ / "a.txt", WordsOf(1, 300));
    WriteFile(folder_ / "b.txt", WordsOf(2, 200));
    WriteFile(folder_ / "held-out.txt", WordsOf(3, 100));
  }
  TuneOptions Options(const std::string& run) const {
    TuneOptions options;
    options.model = folder_ / "model";
    options.inputs = {folder_ / "a.txt", folder_ / "b.txt"};
    options.held_out = {folder_ / "held-out.txt"};
    options.device = TestDevice();
    options.threads = 1;
    options.trained.rank = 4;
    options.trained.alpha = 8;
    options.trained.dropout = 0.25;
    options.attention = TrainOptions(SequenceMode::kPaper).attention;
    options.attention.chunk_sizes = {8, 16};
    options.length = 32;
    options.batch = 2;
    options.steps = 12;
    options.rate = 1e-2;
    options.warm_up = 2;
    options.schedule = RateSchedule::kCosine;
    options.seed = 7;
    options.evaluate_every = 4;
    options.held_out_sequences = 3;
    options.checkpoint_every = 3;
    options.folder = folder_ / run;
    return options;
  }
  // Metrics without what a clock or a machine says.
  static std::vector<nlohmann::json> Metrics(const TuneOptions& options) {
    std::istringstream lines(ReadFile(options.folder + "/metrics.jsonl"));
    std::vector<nlohmann::json> metrics;
    for (std::string line; std::getline(lines, line);) {
      nlohmann::json one = nlohmann::json::parse(line);
      for (const char* key : {"seconds", "tokens_per_second", "peak_memory_bytes"}) one.erase(key);
      metrics.push_back(std::move(one));
    }
    return metrics;
  }
  static void ExpectEqualRuns(const TuneOptions& a, const TuneOptions& b) {
    EXPECT_EQ(Metrics(a), Metrics(b));
    for (const char* file : {"/last/adapter_model.safetensors", "/last/adapter_config.json",
                             "/last/optimizer.safetensors", "/best/adapter_model.safetensors"}) {
      EXPECT_TRUE(ReadFile(a.folder + file) == ReadFile(b.folder + file)) << file;
    }
    for (const char* name : {"/last.partial", "/best.partial", "/last.replaced"}) {
      EXPECT_FALSE(std::filesystem::exists(b.folder + name)) << name;
    }
  }
  // As another version of the program may have written them.
  template <typename Edit>
  static void EditSettings(const TuneOptions& options, const Edit& edit) {
    const std::string path = options.folder + "/last/training.json";
    nlohmann::json training = nlohmann::json::parse(ReadFile(path));
    edit(training.at("settings"));
    WriteFile(path, training.dump());
  }
  // The error of a run that must fail.
  static Error Failure(const TuneOptions& options) {
    try {
      Tune(options, {});
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no error";
    return {ErrorCode::kUnsupported, ""};
  }
  static void ExpectInvalid(const TuneOptions& options, const std::string& words) {
    const Error error = Failure(options);
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument) << error.what();
    EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
  }

  TemporaryFolder folder_;
};

// Two processes, each a thread here, of one run; what each of them ended with: nothing, or the
// words of its error.
struct TwoProcesses {
  TwoProcesses(TuneOptions options, const std::string& meeting, const TuneCallback& first) {
    options.device = "cpu";  // NCCL wants a GPU for each
    options.processes = 2;
    options.meeting = meeting;
    const auto run = [](TuneOptions own, const TuneCallback& callback, std::optional<Error>* end) {
      try {
        Tune(own, callback);
      } catch (const Error& error) {
        *end = error;
      }
    };
    TuneOptions second = options;
    second.process = 1;
    std::jthread other([&] { run(second, {}, &ends[1]); });
    run(options, first, &ends[0]);
  }
  std::optional<Error> ends[2];
};

}  // namespace eidetic::model

#endif  // EIDETIC_TESTS_MODEL_TRAIN_TUNE_RUNS_H_
