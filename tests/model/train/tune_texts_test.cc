// The files of a run of training are known by their content: what is held out is not trained on,
// and a run that goes on with others says which.
#include <gtest/gtest.h>

#include "model/train/text_record.h"
#include "tests/model/train/tune_runs.h"

namespace eidetic::model {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class TuneTextsTest : public TuneRuns {
 protected:
  // A run of a step that goes on for as long as it is asked to.
  TuneOptions Short(const std::string& run) const {
    TuneOptions options = Options(run);
    options.schedule = RateSchedule::kConstant;
    options.steps = options.warm_up = 1;
    return options;
  }
  std::string Words(const std::string& name, uint32_t seed) const {
    WriteFile(folder_ / name, WordsOf(seed, 200));
    return folder_ / name;
  }
};

TEST_F(TuneTextsTest, WhatIsHeldOutIsNotTrainedOnUnderWhateverName) {
  TuneOptions options = Short("run");
  const std::string b = folder_ / "b.txt";
  options.held_out = {folder_ / "held-out.txt", b};
  ExpectInvalid(options, "'" + b + "' is held out, and trained on as '" + b + "'");
  const std::string roundabout = folder_ / "model/../b.txt";
  options.held_out = {roundabout};
  ExpectInvalid(options, "'" + roundabout + "' is held out, and trained on as '" + b + "'");
  fs::create_symlink(b, folder_ / "link.txt");
  options.held_out = {folder_ / "link.txt"};
  ExpectInvalid(options, "link.txt' is held out, and trained on as '" + b + "'");
  fs::copy_file(b, folder_ / "copy.txt");
  fs::copy_file(folder_ / "a.txt", folder_ / "another.txt");
  options.held_out = {folder_ / "copy.txt", folder_ / "another.txt"};
  ExpectInvalid(options, "copy.txt', which is held out, has the same content as '" + b +
                             "', which is trained on (and 1 more)");
  // Before anything is made of them, and of an estimate too.
  EXPECT_FALSE(fs::exists(options.folder + "/train.tokens"));
  EXPECT_THROW(EstimateTune(options, {}), Error);
  WriteFile(folder_ / "copy.txt", ReadFile(b) + "b");  // of one letter more it is another text
  options.held_out = {folder_ / "copy.txt"};
  EXPECT_EQ(Tune(options, {}).state.step, 1);
}

TEST_F(TuneTextsTest, ARunThatGoesOnWithOtherFilesNamesThem) {
  TuneOptions options = Short("run");
  Tune(options, {});
  const std::string a = folder_ / "a.txt", b = folder_ / "b.txt";
  const auto refused = [&](const std::vector<std::string>& inputs, const std::string& words) {
    TuneOptions other = options;
    other.inputs = inputs;
    ExpectInvalid(other, "was begun otherwise: " + words);
  };
  refused({a}, "data differs (removed: " + b + ")");
  const std::string c = Words("c.txt", 11);
  refused({a, b, c}, "data differs (added: " + c + ")");
  refused({a, c}, "data differs (added: " + c + "; removed: " + b + ")");
  refused({b, a}, "data differs (the same files in another order)");
  std::vector<std::string> many = {a, b};
  for (uint32_t i = 0; i < 7; ++i) many.push_back(Words(std::to_string(i) + ".txt", 20 + i));
  refused(many, "data differs (added: " + many[2] + ", " + many[3] + ", " + many[4] + ", " +
                    many[5] + ", " + many[6] + " and 2 more)");
  TuneOptions other = options;
  other.held_out.push_back(c);
  ExpectInvalid(other, "held-out differs (added: " + c + ")");
  other = options;
  other.held_out.clear();
  ExpectInvalid(other, "held-out differs (removed: " + options.held_out[0] + ")");
  const std::string before = ReadFile(b);
  WriteFile(b, WordsOf(9, 200));
  refused({a, b}, "data differs (changed: " + b + ")");
  WriteFile(b, before);
  other = options;
  other.skip_bad = true;
  ExpectInvalid(other, "skip-bad was no, is yes");
  // Another name is no difference.
  fs::rename(b, folder_ / "renamed.txt");
  options.inputs = {a, folder_ / "renamed.txt"};
  options.steps = 2;
  EXPECT_EQ(Tune(options, {}).resumed_from, 1);
}

TEST_F(TuneTextsTest, ARunOfAnEarlierVersionGoesOnAndWritesItsFilesDown) {
  TuneOptions options = Short("run");
  Tune(options, {});
  const std::string path = options.folder + "/last/training.json";
  json training = json::parse(ReadFile(path));
  ASSERT_EQ(training.erase("texts"), 1u);
  ASSERT_EQ(training.at("settings").erase("skip-bad"), 1u);
  WriteFile(path, training.dump());
  TuneOptions other = options;
  other.inputs.pop_back();
  ExpectInvalid(other, "data differs (the checkpoint is of an earlier version");
  options.steps = 2;
  EXPECT_EQ(Tune(options, {}).resumed_from, 1);
  other.steps = 2;
  ExpectInvalid(other, "data differs (removed: " + options.inputs[1] + ")");
}

TEST_F(TuneTextsTest, AListOfFilesThatIsDamagedIsAnError) {
  TuneOptions options = Short("run");
  Tune(options, {});
  const std::string path = options.folder + "/last/training.json";
  const json training = json::parse(ReadFile(path));
  for (const json& texts : {json(7), json{{"train", 7}, {"held_out", json::array()}},
                            json{{"train", {{{"path", 1}}}}, {"held_out", json::array()}}}) {
    json damaged = training;
    damaged["texts"] = texts;
    WriteFile(path, damaged.dump());
    const Error error = Failure(options);
    EXPECT_EQ(error.code(), ErrorCode::kCorruption) << error.what();
    EXPECT_NE(std::string(error.what()).find("texts"), std::string::npos) << error.what();
  }
}

TEST(TextRecordTest, FilesThatAreThereTwiceCountTwice) {
  const TextRecord a{"a", 1, "1"}, again{"again", 1, "1"}, b{"b", 2, "2"};
  EXPECT_EQ(TextDifferences({a, b}, {a, b}), "");
  EXPECT_EQ(TextDifferences({a, again}, {a}), "removed: again");
  EXPECT_EQ(TextDifferences({a}, {a, again, b}), "added: again, b");
}

}  // namespace
}  // namespace eidetic::model
