// One flipped bit anywhere in an archive's folder: `memory verify` names the damage or it is of no
// consequence, and `ask` gives the same answer as before or an error, but never crashes (rule 3).
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "tests/apps/program.h"
#include "tests/seed.h"

namespace eidetic::apps {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kFlips = 8;

class Damage : public ProgramTest {
 protected:
  void Ingest() {
    const Outcome outcome =
        RunProgram({"ingest", Write("story.txt", Prose(3000)), "--into", "stories", "--archive",
                    ArchivePath(), "--model", HybridModel(), "--window", "128"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  Outcome Verify() const {
    return RunProgram({"memory", "verify", "--archive", ArchivePath(), "--json"});
  }
  Outcome Ask() const {
    return RunProgram({"ask", "To Sherlock Holmes she is always", "--archive", ArchivePath(),
                       "--model", HybridModel(), "--max-tokens", "6", "--json"});
  }
  // The archive's files that are not empty; of `extension` alone, or all.
  std::vector<std::string> Files(const std::string& extension = "") const {
    std::vector<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(ArchivePath())) {
      const bool wanted = extension.empty() || entry.path().extension() == extension;
      if (wanted && entry.is_regular_file() && entry.file_size() > 0) {
        files.push_back(entry.path().string());
      }
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  static void Flip(const std::string& path, std::uint64_t bit) {
    std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
    const auto at = static_cast<std::streamoff>(bit / 8);
    file.seekg(at);
    const int byte = file.get();
    file.seekp(at);
    file.put(static_cast<char>(byte ^ 1 << bit % 8));
    ASSERT_TRUE(file.flush()) << path;
  }
  // A run that failed as it should: by itself, with words that name the archive.
  void ExpectError(const Outcome& outcome) const {
    EXPECT_EQ(outcome.signal, 0);
    EXPECT_TRUE(outcome.code == 1 || outcome.code == 4) << outcome.code;
    EXPECT_NE(outcome.err.find(ArchivePath()), std::string::npos) << outcome.err;
  }

  std::string ArchivePath() const { return Path("archive"); }
};

// The parts of a reply that depend on what was attended to.
json Said(const Outcome& outcome) {
  const json reply = json::parse(outcome.out);
  return {reply.at("answer"), reply.at("sources")};
}

TEST_F(Damage, AFlippedBitIsNamedOrWithoutConsequenceAndCrashesNothing) {
  ASSERT_NO_FATAL_FAILURE(Ingest());
  const json clean = json::parse(Verify().out).at("collections");
  const json answer = Said(Ask());
  std::mt19937_64 random(tests::Seed(7));
  // Every other flip in a table: there nearly every bit is of consequence.
  const std::vector<std::string> all = Files(), tables = Files(".sst");
  int named = 0;
  for (int flip = 0; flip < kFlips; ++flip) {
    const std::vector<std::string>& files = flip % 2 == 0 ? tables : all;
    const std::string& file = files.at(random() % files.size());
    const std::uint64_t bit = random() % (8 * fs::file_size(file));
    SCOPED_TRACE("bit " + std::to_string(bit) + " of " + file);
    ASSERT_NO_FATAL_FAILURE(Flip(file, bit));

    const Outcome verify = Verify();
    if (verify.code == 0) {
      // It lies where nothing of the content does.
      EXPECT_EQ(json::parse(verify.out).at("collections"), clean);
    } else {
      ++named;
      ExpectError(verify);
      // A report that names it, or the error when the archive could not even be opened.
      const json said = json::parse(verify.out);
      EXPECT_TRUE(said.contains("damaged") ? !said.at("damaged").empty()
                                           : said.value("event", "") == "error")
          << verify.out;
    }
    const Outcome ask = Ask();
    if (ask.code == 0) {
      EXPECT_EQ(Said(ask), answer);
    } else {
      ExpectError(ask);
      EXPECT_NE(verify.code, 0) << "ask met damage that verify did not";
    }
    if (HasFailure()) return;  // with the flipped bit as it is
    ASSERT_NO_FATAL_FAILURE(Flip(file, bit));
  }
  EXPECT_GT(named, 0);
  EXPECT_EQ(json::parse(Verify().out).at("collections"), clean);
}

}  // namespace
}  // namespace eidetic::apps
