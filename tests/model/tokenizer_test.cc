#include "model/tokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "model/error.h"
#include "model/gguf_writer.h"
#include "tests/model/hard_cases.h"
#include "tests/model/model_files.h"

namespace eidetic::model {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;

const std::string kGolden = EIDETIC_GOLDEN_DIR;
const std::string kBook =
    std::string(EIDETIC_BOOKS_DIR) + "/charles-dickens_great-expectations.txt";

std::shared_ptr<const Tokenizer> Base() {
  static const auto tokenizer = Tokenizer::FromGguf(*GgufFile::Open(BaseModelPath()));
  return tokenizer;
}

TEST(Tokenizer, GivesTheTokensOfTheReferenceForABookOfOneMegabyte) {
  const json golden = json::parse(ReadFile(kGolden + "/tokenizer_golden.json"))["book"];
  const std::string book = ReadFile(kBook);
  ASSERT_EQ(book.size(), golden["bytes"].get<size_t>());
  const Ids ids = Base()->Encode(book, false);
  const Ids first = golden["first"].get<Ids>();
  ASSERT_GE(ids.size(), first.size());
  for (size_t i = 0; i < first.size(); ++i) ASSERT_EQ(ids[i], first[i]) << "token " << i;
  EXPECT_EQ(ids.size(), golden["tokens"].get<size_t>());
  EXPECT_EQ(Hash(ids), golden["fnv1a"].get<std::string>());
}

TEST(Tokenizer, GivesTheTokensOfTheReferenceForHardCases) {
  const std::vector<std::string> lines = HardLines(kGolden + "/hard_cases.txt");
  const json golden = json::parse(ReadFile(kGolden + "/tokenizer_golden.json"))["cases"];
  ASSERT_GT(golden.size(), 80u);
  for (const json& entry : golden) {
    const size_t line = entry["line"].get<size_t>();
    const std::string text = Unescaped(lines.at(line));
    const Ids plain = entry["plain"].get<Ids>();
    EXPECT_EQ(Base()->Encode(text, false), plain) << "line " << line << ": " << lines[line];
    const Ids special = entry.contains("special") ? entry["special"].get<Ids>() : plain;
    EXPECT_EQ(Base()->Encode(text, true), special) << "line " << line << ": " << lines[line];
  }
}

TEST(Tokenizer, DecodingGivesTheTextBack) {
  const std::string book = ReadFile(kBook);
  EXPECT_EQ(Base()->Decode(Base()->Encode(book, false)), book);
}

TEST(Tokenizer, OffsetsSayWhereEachTokenBegins) {
  const std::string text =
      ReadFile(kBook).substr(0, 100000) + " \xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd 42";
  std::vector<uint64_t> offsets;
  const Ids ids = Base()->EncodeWithOffsets(text, &offsets);
  EXPECT_EQ(ids, Base()->Encode(text, false));
  ASSERT_EQ(offsets.size(), ids.size());
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string_view bytes = Base()->TokenBytes(ids[i]);
    ASSERT_EQ(std::string_view(text).substr(offsets[i], bytes.size()), bytes) << "token " << i;
    ASSERT_EQ(offsets[i] + bytes.size(), i + 1 < ids.size() ? offsets[i + 1] : text.size());
  }
}

TEST(Tokenizer, OffsetsStayRightBehindACharacterThatHasNoToken) {
  // The vocabulary has no token for the byte 04: as in the reference it vanishes.
  std::vector<uint64_t> offsets;
  const Ids ids = Base()->EncodeWithOffsets("a\x04 b", &offsets);
  ASSERT_EQ(ids, Base()->Encode("a b", false));
  EXPECT_EQ(offsets, (std::vector<uint64_t>{0, 2}));
}

TEST(Tokenizer, OffsetsAreRefusedForTextThatIsNoUtf8) {
  std::vector<uint64_t> offsets;
  try {
    Base()->EncodeWithOffsets("abc\xff", &offsets);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(error.what()).find("at byte 3"), std::string::npos) << error.what();
  }
}

TEST(Tokenizer, EmptyTextHasNoTokens) {
  std::vector<uint64_t> offsets{7};
  EXPECT_TRUE(Base()->Encode("", true).empty());
  EXPECT_TRUE(Base()->EncodeWithOffsets("", &offsets).empty());
  EXPECT_TRUE(offsets.empty());
  EXPECT_EQ(Base()->Decode({}), "");
}

TEST(Tokenizer, NamesOfControlTokensAreTextUnlessAskedFor) {
  const Ids special = Base()->Encode("<|im_start|>", true);
  EXPECT_EQ(special, Ids{Base()->bos()});
  const Ids plain = Base()->Encode("<|im_start|>", false);
  EXPECT_GT(plain.size(), 1u);
  EXPECT_EQ(Base()->Decode(plain), "<|im_start|>");
}

TEST(Tokenizer, ControlTokensHaveNoBytes) {
  EXPECT_EQ(Base()->TokenBytes(Base()->bos()), "");
  EXPECT_TRUE(Base()->IsControl(Base()->bos()));
  const int32_t word = Base()->Encode(" the", false).at(0);
  EXPECT_FALSE(Base()->IsControl(word));
  EXPECT_EQ(Base()->TokenBytes(word), " the");
  EXPECT_EQ(Base()->Decode({Base()->bos(), word, Base()->eos()}), " the");
}

TEST(Tokenizer, KnowsWhichTokensEndAnAnswer) {
  EXPECT_EQ(Base()->bos(), 1);
  EXPECT_EQ(Base()->eos(), 2);
  EXPECT_TRUE(Base()->IsEnd(2));  // <|im_end|>
  EXPECT_TRUE(Base()->IsEnd(Base()->Encode("<|endoftext|>", true).at(0)));
  EXPECT_FALSE(Base()->IsEnd(1));  // <|im_start|>
  EXPECT_FALSE(Base()->IsEnd(Base()->Encode(" the", false).at(0)));
}

TEST(Tokenizer, UnknownIdsAreRefused) {
  for (const int32_t id : {-1, Base()->vocabulary(), 1 << 30}) {
    EXPECT_THROW(Base()->TokenBytes(id), Error) << id;
    EXPECT_THROW(Base()->IsControl(id), Error) << id;
    EXPECT_THROW(Base()->IsEnd(id), Error) << id;
    EXPECT_THROW(Base()->Decode({5, id}), Error) << id;
  }
}

TEST(Tokenizer, ManyThreadsGetTheSameTokens) {
  const std::string text = ReadFile(kBook).substr(200000, 50000);
  const Ids expected = Base()->Encode(text, false);
  std::vector<Ids> results(4);
  std::vector<std::thread> threads;
  for (Ids& result : results) {
    threads.emplace_back([&] { result = Base()->Encode(text, false); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ids& result : results) EXPECT_EQ(result, expected);
}

// One million bytes in one piece, of the kinds that defeat quadratic merging and backtracking. A
// quadratic merge of the run of letters takes minutes.
TEST(Tokenizer, AMegabyteInOnePieceTakesSeconds) {
  constexpr size_t kLength = 1 << 20;
  std::mt19937 random(1);
  std::string letters, marks;
  for (size_t i = 0; i < kLength; ++i) {
    letters += static_cast<char>('a' + random() % 26);
    marks += "!?.,;:-+*/=<>(){}[]#&%$@^~|"[random() % 27];
  }
  const std::string cases[] = {std::string(kLength, 'a'),
                               std::string(kLength, ' '),
                               std::string(kLength, '\n'),
                               std::string(kLength, '='),
                               std::string(kLength, '7'),
                               std::string(kLength, ' ') + "x",
                               letters,
                               marks,
                               Repeated(kLength / 2, "\xc3\xa9"),
                               std::string(kLength, '\xff')};
  for (const std::string& text : cases) {
    const auto begin = std::chrono::steady_clock::now();
    const Ids ids = Base()->Encode(text, false);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    EXPECT_LT(seconds, 30) << text.substr(0, 8);  // under a second but for sanitizers
    if (text[0] != '\xff') {
      EXPECT_EQ(Base()->Decode(ids), text) << text.substr(0, 8);
    }
  }
}

TEST(Tokenizer, LongPiecesAreMergedAsShortOnesAre) {
  // The pieces of the long text are those of the short one: the same tokens over and over.
  const std::string sentence = "Mr. Pumblechook's 12 unextinguished lamps, antediluvian\n";
  const Ids once = Base()->Encode(sentence, false);
  Ids expected;
  for (int i = 0; i < 500; ++i) expected.insert(expected.end(), once.begin(), once.end());
  EXPECT_EQ(Base()->Encode(Repeated(500, sentence), false), expected);
}

TEST(StreamingDetokenizer, PiecesAreWholeCharactersAndAddUpToTheText) {
  for (const std::string& line : HardLines(kGolden + "/hard_cases.txt")) {
    if (line.empty() || line[0] == '#') continue;
    const Ids ids = Base()->Encode(Unescaped(line), true);
    StreamingDetokenizer stream(Base());
    std::string text;
    for (const int32_t id : ids) {
      const std::string piece = stream.Push(id);
      // The JSON library refuses to write what is not UTF-8.
      ASSERT_NO_THROW(json(piece).dump()) << line;
      text += piece;
    }
    text += stream.Finish();
    EXPECT_EQ(text, Base()->Decode(ids)) << line;
  }
}

TEST(StreamingDetokenizer, ACharacterAppearsWithItsLastByte) {
  const Ids ids = Base()->Encode("\xf0\x9f\xa6\xa4", false);  // a dodo: several tokens
  ASSERT_GT(ids.size(), 1u);
  StreamingDetokenizer stream(Base());
  for (size_t i = 0; i + 1 < ids.size(); ++i) EXPECT_EQ(stream.Push(ids[i]), "");
  EXPECT_EQ(stream.Push(ids.back()), "\xf0\x9f\xa6\xa4");
  EXPECT_EQ(stream.Finish(), "");
}

TEST(StreamingDetokenizer, RandomTokensGiveWhatDecodeGives) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    Ids ids;
    // Low ids hold the single bytes: most sequences are no UTF-8.
    for (int i = 0; i < 40; ++i) ids.push_back(static_cast<int32_t>(random() % 400));
    StreamingDetokenizer stream(Base());
    std::string text;
    for (const int32_t id : ids) {
      const std::string piece = stream.Push(id);
      ASSERT_NO_THROW(json(piece).dump());
      text += piece;
    }
    text += stream.Finish();
    ASSERT_EQ(text, Base()->Decode(ids));
  }
}

TEST(StreamingDetokenizer, HalfACharacterAtTheEndBecomesAReplacement) {
  const Ids ids = Base()->Encode("\xf0\x9f\xa6\xa4", false);
  StreamingDetokenizer stream(Base());
  EXPECT_EQ(stream.Push(ids[0]), "");
  EXPECT_EQ(stream.Finish(), "\xef\xbf\xbd");
  EXPECT_EQ(stream.Finish(), "");
}

// Tokenizers of a few tokens, to see what the tables do.
class TablesTest : public ::testing::Test {
 protected:
  struct Tables {
    std::string model = "gpt2", pre = "smollm";
    std::vector<std::string> tokens = {"<s>", "a", "b", "ab", "<x>", "c"};
    std::vector<int32_t> types = {3, 1, 1, 1, 4, 1};
    std::vector<std::string> merges = {"a b"};
    int eos = 0;
  };
  std::shared_ptr<const Tokenizer> Make(const Tables& tables) {
    GgufWriter writer;
    writer.AddString("tokenizer.ggml.model", tables.model);
    writer.AddString("tokenizer.ggml.pre", tables.pre);
    writer.AddStringArray("tokenizer.ggml.tokens", tables.tokens);
    writer.AddInt32Array("tokenizer.ggml.token_type", tables.types);
    writer.AddStringArray("tokenizer.ggml.merges", tables.merges);
    writer.AddUint32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(tables.eos));
    WriteFile(folder_ / "t.gguf", writer.Header());
    return Tokenizer::FromGguf(*GgufFile::Open(folder_ / "t.gguf"));
  }
  void ExpectRefused(const Tables& tables, ErrorCode code, const std::string& part) {
    try {
      Make(tables);
      ADD_FAILURE() << "no error about: " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
  TemporaryFolder folder_;
};

TEST_F(TablesTest, UserDefinedTokensAreAlwaysFoundAndControlTokensWhenAsked) {
  const auto tokenizer = Make({});
  EXPECT_EQ(tokenizer->Encode("ab<x>a", false), (Ids{3, 4, 1}));
  EXPECT_EQ(tokenizer->Encode("ab<s>", true), (Ids{3, 0}));
  EXPECT_EQ(tokenizer->Decode({3, 4, 0}), "ab<x>");
}

TEST_F(TablesTest, TheLongestOfSpecialTokensThatBeginTogetherWins) {
  Tables tables;
  tables.tokens = {"<s>", "a", "<s><s>", "<s"};
  tables.types = {3, 1, 3, 3};
  tables.merges = {};
  EXPECT_EQ(Make(tables)->Encode("<s><s><s>a<s", true), (Ids{2, 0, 1, 3}));
}

TEST_F(TablesTest, LowerRanksMergeFirstAndTiesGoLeft) {
  Tables tables;
  tables.tokens = {"a", "b", "aa", "ab", "aab"};
  tables.types = {1, 1, 1, 1, 1};
  tables.merges = {"a b", "a a"};
  EXPECT_EQ(Make(tables)->Encode("aab", false), (Ids{0, 3}));
  EXPECT_EQ(Make(tables)->Encode("aaaaa", false), (Ids{2, 2, 0}));
  tables.merges = {"a a", "a b", "aa b"};
  EXPECT_EQ(Make(tables)->Encode("aab", false), (Ids{4}));
  EXPECT_EQ(Make(tables)->Encode("aaab", false), (Ids{2, 3}));
}

TEST_F(TablesTest, TablesThatContradictThemselvesAreRefused) {
  const ErrorCode corrupt = ErrorCode::kCorruption;
  Tables tables;
  tables.merges = {"ab"};
  ExpectRefused(tables, corrupt, "merge 0, 'ab', is not a pair");
  tables.merges = {"a b", "a d"};
  ExpectRefused(tables, corrupt, "merge 1, 'a d', needs 'd'");
  tables.merges = {"a c"};
  ExpectRefused(tables, corrupt, "needs 'ac'");
  tables.merges = {"a b", "a b"};
  ExpectRefused(tables, corrupt, "repeats merge 0");
  tables = {};
  tables.types.pop_back();
  ExpectRefused(tables, corrupt, "5 entries for 6 tokens");
  tables = {};
  tables.tokens[5] = "a";
  ExpectRefused(tables, corrupt, "has the name of token 1");
  tables = {};
  tables.eos = 6;
  ExpectRefused(tables, corrupt, "'tokenizer.ggml.eos_token_id' is 6");
}

TEST_F(TablesTest, UnknownKindsAreRefused) {
  Tables tables;
  tables.model = "llama";
  ExpectRefused(tables, ErrorCode::kUnsupported, "'llama'");
  tables = {};
  tables.pre = "bloom";
  ExpectRefused(tables, ErrorCode::kUnsupported, "'bloom'");
}

TEST_F(TablesTest, TheFingerprintDependsOnTokensAndMerges) {
  const std::string fingerprint = Make({})->FingerprintBytes();
  EXPECT_EQ(Make({})->FingerprintBytes(), fingerprint);
  Tables tables;
  tables.merges = {};
  EXPECT_NE(Make(tables)->FingerprintBytes(), fingerprint);
  tables = {};
  std::swap(tables.tokens[1], tables.tokens[2]);
  EXPECT_NE(Make(tables)->FingerprintBytes(), fingerprint);
}

}  // namespace
}  // namespace eidetic::model
