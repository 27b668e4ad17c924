// Kills a writing process at seeded moments and looks at what is left: everything acknowledged,
// nothing but a prefix, and an archive that goes on as if nothing had been (rule 2).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "memory/forgotten_bytes.h"
#include "tests/crash/crash_workload.h"
#include "tests/memory/test_blocks.h"
#include "tests/seed.h"

namespace eidetic::memory {
namespace {

using testing::TemporaryFolder;
using testing::Workload;

// What the killed process had been told.
struct Acknowledged {
  int lines = 0;
  std::map<int, uint64_t> tokens;
  std::map<int, bool> finished;
  std::set<int> forgotten;
  uint64_t turns = 0;
  // Processes killed since the last acknowledged turn: each may have saved one more without living
  // to say so.
  uint64_t silent = 0;

  void Add(const std::string& line) {
    std::istringstream words(line);
    std::string what;
    uint64_t number = 0;
    words >> what >> number;
    ++lines;
    if (what == "document") words >> tokens[static_cast<int>(number)];
    if (what == "finished") finished[static_cast<int>(number)] = true;
    if (what == "forgotten") forgotten.insert(static_cast<int>(number));
    if (what == "session") {
      turns = number + 1;
      silent = 0;
    }
  }
};

// Runs the writer until it has acknowledged `lines` times and `microseconds` more have passed.
// False when it ended before.
bool RunAndKill(const std::string& path, uint64_t seed, int lines, unsigned microseconds,
                Acknowledged* acknowledged) {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const std::string seed_text = std::to_string(seed);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execl(CRASH_WRITER, CRASH_WRITER, path.c_str(), seed_text.c_str(), nullptr);
    _exit(127);
  }
  close(ends[1]);
  std::string line;
  bool killed = false;
  if (lines == 0) {
    usleep(microseconds);
    kill(child, SIGKILL);
    killed = true;
  }
  // To the end of the pipe: lines written before the kill count.
  for (char byte = 0; read(ends[0], &byte, 1) == 1;) {
    if (byte != '\n') {
      line.push_back(byte);
      continue;
    }
    acknowledged->Add(line);
    line.clear();
    if (!killed && acknowledged->lines == lines) {
      usleep(microseconds);
      kill(child, SIGKILL);
      killed = true;
    }
  }
  close(ends[0]);
  ++acknowledged->silent;
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status)) {
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
  return WIFSIGNALED(status);
}

std::string VerifiedDigest(const Archive& archive) {
  const auto report = archive.Verify(nullptr);
  EXPECT_TRUE(report.ok()) << testing::Explain(report.status());
  for (const Damage& damage : report->damage) ADD_FAILURE() << damage.what;
  return report->collections.empty() ? "" : report->collections[0].digest;
}

// Blocks of a lineage are those that were written, byte by byte.
void ExpectBlocks(const Archive& archive, LineageId lineage, uint64_t tokens,
                  const std::function<Block(uint64_t)>& expected) {
  uint64_t end = 0;
  std::vector<PayloadKey> keys;
  std::vector<std::string> bytes;
  EID_ASSERT_OK(archive.store().ScanBlocks(
      lineage,
      [&](const BlockHeader& header, const std::vector<uint16_t>& representatives) -> Status {
        const Block block = expected(header.position);
        EXPECT_EQ(header.position, end);
        EXPECT_EQ(header.tokens, block.header.tokens);
        EXPECT_EQ(representatives, block.representatives);
        end += header.tokens.size();
        for (size_t layer = 0; layer < block.keys.size(); ++layer) {
          keys.push_back(
              {lineage, testing::WorkloadLayout().layers[layer], Part::kKeys, header.position});
          bytes.push_back(block.keys[layer]);
          keys.push_back(
              {lineage, testing::WorkloadLayout().layers[layer], Part::kValues, header.position});
          bytes.push_back(block.values[layer]);
        }
        return {};
      }));
  EXPECT_EQ(end, tokens);
  std::vector<PayloadPtr> payloads;
  EID_ASSERT_OK(archive.store().ReadPayloads(keys, &payloads));
  for (size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(payloads[i]->bytes, bytes[i]);
}

// Nothing of a forgotten document is in any file, packed or not.
void ExpectGone(const Archive& archive, const Workload& workload, int document) {
  const std::string text = testing::WorkloadText(workload, document);
  ForgottenBytes samples;
  samples.Add(text.substr(0, ForgottenBytes::kLong));  // its number is in it
  ASSERT_FALSE(samples.empty());
  FileScan scan;
  EID_ASSERT_OK(archive.store().records().SearchFiles(samples, &scan));
  EXPECT_TRUE(scan.clean()) << "document " << document << " was forgotten, and is in "
                            << scan.found.front();
  EXPECT_GT(scan.files, 0u);
}

void ExpectAcknowledgedPrefix(const std::string& path, const Workload& workload,
                              const Acknowledged& acknowledged) {
  ArchiveOptions options;
  options.path = path;
  options.create = true;  // it may have been killed before there was an archive
  EID_ASSERT_RESULT(auto archive, Archive::Open(options));
  VerifiedDigest(*archive);
  if (!archive->Collection("books").ok()) {
    EXPECT_EQ(acknowledged.lines, 0);
    return;
  }
  EID_ASSERT_RESULT(const auto documents, archive->Documents("books"));
  size_t forgotten = 0;
  for (int number = 0; number < workload.documents; ++number) {
    const auto found =
        std::find_if(documents.begin(), documents.end(), [&](const DocumentRecord& document) {
          return document.source == testing::WorkloadSource(number);
        });
    const auto told = acknowledged.tokens.find(number);
    const uint64_t tokens = told == acknowledged.tokens.end() ? 0 : told->second;
    const bool finished = acknowledged.finished.contains(number);
    EXPECT_FALSE(acknowledged.forgotten.contains(number) && found != documents.end()) << number;
    const bool next_finished =
        testing::WorkloadForgets(workload, number) &&
        archive->FindDocument("books", testing::WorkloadSource(number + 1)).value().has_value();
    if (found == documents.end() && next_finished) {
      // Forgotten, whether or not there was time to say so.
      ++forgotten;
      ExpectGone(*archive, workload, number);
      continue;
    }
    EXPECT_FALSE(acknowledged.forgotten.contains(number)) << number;
    if (found == documents.end()) {
      EXPECT_EQ(tokens, 0u) << number;
      EXPECT_FALSE(finished) << number;
      // What comes later is not there either.
      EXPECT_EQ(documents.size() + forgotten, static_cast<size_t>(number));
      break;
    }
    EXPECT_GE(found->committed_tokens, tokens);
    EXPECT_TRUE(found->complete || !finished);
    if (found->complete) {
      EXPECT_EQ(found->committed_tokens, workload.document_tokens);
    } else {
      // At most the one commit that was under way.
      EXPECT_LE(found->committed_tokens, tokens + workload.commit_tokens);
      EXPECT_EQ(found->committed_tokens % workload.commit_tokens, 0u);
      EXPECT_EQ(documents.size() + forgotten, static_cast<size_t>(number) + 1);
    }
    ExpectBlocks(*archive, found->lineage, found->committed_tokens, [&](uint64_t position) {
      return testing::WorkloadBlock(workload, number, position);
    });
    EID_ASSERT_RESULT(const std::string text, archive->Text(found->id, 0, found->bytes));
    EXPECT_EQ(text, testing::WorkloadText(workload, number));
  }

  const auto record = archive->SessionRecord("friend");
  if (!record.ok()) {
    EXPECT_EQ(acknowledged.turns, 0u);
    return;
  }
  EID_ASSERT_RESULT(const auto lineages, archive->store().Lineages());
  for (const LineageRecord& lineage : lineages) {
    if (lineage.owner != "session/friend") continue;
    const uint64_t turns = lineage.committed_tokens / 32;
    EXPECT_GE(turns, acknowledged.turns);
    EXPECT_LE(turns, acknowledged.turns + acknowledged.silent);
    EXPECT_EQ(*record, testing::WorkloadSessionRecord(workload, turns - 1));
    ExpectBlocks(*archive, lineage.id, turns * 32,
                 [&](uint64_t position) { return testing::WorkloadTurn(workload, position / 32); });
  }
}

TEST(ArchiveCrash, KilledAtTwentySeededMomentsItKeepsWhatWasAcknowledgedAndGoesOn) {
  constexpr int kMoments = 20;
  std::mt19937_64 random(tests::Seed(20261124));
  Workload workload;
  workload.seed = 7;
  std::string expected;
  int all_lines = 0;
  {
    TemporaryFolder folder;
    EID_ASSERT_OK(testing::RunWorkload(folder / "archive", workload,
                                       [&](const std::string&) { ++all_lines; }));
    ArchiveOptions options;
    options.path = folder / "archive";
    EID_ASSERT_RESULT(auto archive, Archive::Open(options));
    expected = VerifiedDigest(*archive);
  }
  ASSERT_GT(all_lines, 60);

  int killed = 0;
  for (int moment = 0; moment < kMoments; ++moment) {
    SCOPED_TRACE("moment " + std::to_string(moment));
    TemporaryFolder folder;
    const std::string path = folder / "archive";
    // Spread over the whole run, the making of the archive included.
    const int lines = static_cast<int>(random() % static_cast<uint64_t>(all_lines));
    const unsigned microseconds = static_cast<unsigned>(random() % (lines == 0 ? 300000 : 12000));
    Acknowledged acknowledged;
    if (RunAndKill(path, workload.seed, lines, microseconds, &acknowledged)) ++killed;
    ASSERT_NO_FATAL_FAILURE(ExpectAcknowledgedPrefix(path, workload, acknowledged));
    EID_ASSERT_OK(testing::RunWorkload(path, workload, [](const std::string&) {}));
    ArchiveOptions options;
    options.path = path;
    EID_ASSERT_RESULT(auto archive, Archive::Open(options));
    EXPECT_EQ(VerifiedDigest(*archive), expected);
  }
  // A moment may fall behind the end, though hardly any does.
  EXPECT_GE(killed, kMoments - 2);
}

// One archive that is never given rest: each process begins with what the last one left.
TEST(ArchiveCrash, KilledAgainAndAgainItStillEndsWithTheSameDigest) {
  std::mt19937_64 random(tests::Seed(5));
  Workload workload;
  workload.seed = 3;
  TemporaryFolder folder;
  const std::string path = folder / "archive";
  Acknowledged acknowledged;
  for (int round = 0; round < 30; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    const int lines = acknowledged.lines + 1 + static_cast<int>(random() % 4);
    if (!RunAndKill(path, workload.seed, lines, static_cast<unsigned>(random() % 8000),
                    &acknowledged)) {
      break;
    }
    if (round % 5 == 0) {
      ASSERT_NO_FATAL_FAILURE(ExpectAcknowledgedPrefix(path, workload, acknowledged));
    }
  }
  EID_ASSERT_OK(testing::RunWorkload(path, workload, [](const std::string&) {}));
  TemporaryFolder other;
  EID_ASSERT_OK(testing::RunWorkload(other / "archive", workload, [](const std::string&) {}));
  std::vector<std::string> digests;
  for (const std::string& each : {path, other / "archive"}) {
    ArchiveOptions options;
    options.path = each;
    EID_ASSERT_RESULT(auto archive, Archive::Open(options));
    digests.push_back(VerifiedDigest(*archive));
  }
  EXPECT_EQ(digests[0], digests[1]);
}

}  // namespace
}  // namespace eidetic::memory
