// What lingers of the last choice is the same wherever a turn goes on: in the process that read it,
// in one that opens it, and where it is read again.
#include <string>
#include <vector>

#include "sdk/document_reader.h"
#include "sdk/session.h"
#include "tests/sdk/sdk_fixture.h"

namespace eidetic::sdk {
namespace {

constexpr int kTurns = 12;

class SessionLingerTest : public SdkTest {
 protected:
  static SessionOptions Lingering(const std::string& name, double linger = 0.9) {
    SessionOptions options = SmallWindow(name);
    options.linger = linger;
    return options;
  }

  // One turn, committed: the first three read a few lines, the others a single token, which is read
  // as those of an answer are. Gives the answer and the logits after it.
  static std::string Turn(Session* session, int turn, bool commit = true) {
    const std::string prose = Prose(20000);
    std::vector<int32_t> tokens = session->engine().tokenizer().Encode(
        prose.substr(static_cast<size_t>(1000 + 700 * turn), 700), /*special=*/false);
    if (turn > 3) tokens.resize(1);
    MustOk(session->Append(tokens, /*use_span=*/true, {}));
    const GenerateResult said = Must(session->Generate(Sampled(3)));
    if (commit) Must(session->CommitTurn(""));
    const std::vector<float>& logits = session->logits();
    return said.text +
           std::string(reinterpret_cast<const char*>(logits.data()), logits.size() * sizeof(float));
  }

  static std::vector<std::string> Talk(Session* session, int turns) {
    std::vector<std::string> left;
    for (int turn = 1; turn <= turns; ++turn) left.push_back(Turn(session, turn));
    return left;
  }
};

TEST_F(SessionLingerTest, ATurnIsTheSameInOneProcessOpenedAndReadAgain) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  const auto whole = Talk(Must(Session::Create(engine, Lingering("whole"), archive)).get(), kTurns);
  const auto without =
      Talk(Must(Session::Create(engine, Lingering("without", 0), archive)).get(), 4);
  EXPECT_FALSE(whole[3] == without[3]);  // it does linger

  MustOk(archive->sessions().Fork("whole", 1, "opened", 1));
  for (int turn = 2; turn <= 6; ++turn) {
    const auto session = Must(Session::Open(engine, archive, "opened"));
    EXPECT_TRUE(Turn(session.get(), turn) == whole[turn - 1]) << turn;
  }
  // Turn 3 has no snapshot any more, and is read again from an earlier one.
  for (const int turn : {3, 4}) {
    const std::string name = "fork " + std::to_string(turn);
    MustOk(archive->sessions().Fork("whole", turn, name, 1));
    const auto session = Must(Session::Open(engine, archive, name));
    EXPECT_TRUE(Turn(session.get(), turn + 1) == whole[turn]) << turn;
    EXPECT_TRUE(Turn(session.get(), turn + 2) == whole[turn + 1]) << turn;
  }
}

TEST_F(SessionLingerTest, ReadAgainATurnThatBeganToSeeMoreIsTheSame) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  for (const char* name : {"one", "two"}) {
    IngestOptions ingest;
    ingest.collection = name;
    ingest.source = std::string(name) + ".txt";
    ingest.window = 256;
    Must(IngestDocument(*engine, archive.get(), name + Prose(4000), ingest));
  }
  auto session = Must(Session::Create(engine, Lingering("talk"), archive));
  std::vector<std::string> left;
  for (int turn = 1; turn <= kTurns; ++turn) {
    const bool sees_more = turn == 2 || turn == 3;
    left.push_back(Turn(session.get(), turn, !sees_more));
    if (!sees_more) continue;
    MustOk(session->Attach(archive, turn == 2 ? "one" : "two"));  // in the middle of the turn
    left.back() = Turn(session.get(), turn + 10);                 // a single token, and an answer
  }
  MustOk(archive->sessions().Fork("talk", 3, "again", 1));
  const auto again = Must(Session::Open(engine, archive, "again"));
  EXPECT_TRUE(Turn(again.get(), 4) == left[3]);
}

TEST_F(SessionLingerTest, TurnsThatWaitLeaveTheSameToWhoMayWriteAndToWhoMayNot) {
  const auto engine = HybridEngine();
  auto archive = OpenArchive();
  Talk(Must(Session::Create(engine, Lingering("talk"), archive)).get(), 3);
  memory::ForgetRequest request;
  request.session = "talk";
  request.turn = 1;
  Must(archive->Forget(request));
  ASSERT_EQ(Must(archive->sessions().Waiting("talk")).size(), 3u);
  archive.reset();
  archive = OpenArchive(/*read_only=*/true);
  const std::string read = Turn(Must(Session::Open(engine, archive, "talk")).get(), 4, false);
  archive.reset();
  archive = OpenArchive();
  EXPECT_TRUE(Turn(Must(Session::Open(engine, archive, "talk")).get(), 4) == read);
}

}  // namespace
}  // namespace eidetic::sdk
