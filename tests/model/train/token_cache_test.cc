// Training texts become tokens once, and nothing but these tokens comes back.
#include "model/train/token_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/error.h"
#include "model/gguf.h"
#include "model/train/token_cache_format.h"
#include "model/train/training_text.h"
#include "tests/model/full_disk.h"
#include "tests/model/model_files.h"

namespace eidetic::model {
namespace {

const Tokenizer& BaseTokenizer() {
  static const auto tokenizer = Tokenizer::FromGguf(*GgufFile::Open(BaseModelPath()));
  return *tokenizer;
}
constexpr int32_t kEndOfText = 0;  // <|endoftext|> of this tokenizer

class TokenCacheTest : public ::testing::Test {
 protected:
  std::string Write(const std::string& name, const std::string& bytes) const {
    WriteFile(folder_ / name, bytes);
    return folder_ / name;
  }
  TokenCacheReport Build(const std::vector<std::string>& files,
                         const TokenCacheOptions& options = {}) const {
    return BuildTokenCache(files, BaseTokenizer(), cache_, options, {});
  }
  // Builds, and gives the error that is expected.
  Error Refused(const std::vector<std::string>& files, ErrorCode code,
                const TokenCacheOptions& options = {}) const {
    try {
      Build(files, options);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      EXPECT_FALSE(error.remedy().empty()) << error.what();
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return Error(code, "");
  }
  TrainSequence All() const {
    const TokenCache cache(cache_);
    return cache.Sequence(0, cache.tokens());
  }

  const TemporaryFolder folder_;
  const std::string cache_ = folder_ / "texts.tokens";
};

void ExpectNames(const Error& error, const std::string& part) {
  EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
}

std::vector<int32_t> PlainTokens(const std::string& text) {
  return BaseTokenizer().Encode(text, false);
}

// Lines of words, more than a piece and a record hold.
std::string LongText() {
  std::string text;
  for (int i = 0; text.size() < (size_t{5} << 19); ++i) {
    text += i % 7 == 0 ? "\n" : "";
    text += "Line " + std::to_string(i * i) + " of the story, it's \xC3\xA9t\xC3\xA9: who knows?" +
            (i % 3 == 0   ? "  \n"
             : i % 3 == 1 ? " more\n"
                          : " (and so on)\n");
  }
  return text;
}

TEST_F(TokenCacheTest, TextsStandOneBehindAnotherEachWithItsEnd) {
  const std::string first = "It was late.\nThe lamp <|im_end|> went out.\n",
                    second = "A second one.";
  const auto report = Build({Write("a.txt", first), Write("b.md", "\xEF\xBB\xBF" + second)});
  std::vector<int32_t> expected = PlainTokens(first);
  expected.push_back(kEndOfText);
  for (const int32_t token : PlainTokens(second)) expected.push_back(token);
  expected.push_back(kEndOfText);
  const TokenCache cache(cache_);
  const TrainSequence all = cache.Sequence(0, cache.tokens());
  EXPECT_EQ(all.tokens, expected);
  EXPECT_TRUE(all.predicted.empty());
  EXPECT_EQ(cache.Sequence(3, 4).tokens,
            std::vector<int32_t>(expected.begin() + 3, expected.begin() + 7));
  EXPECT_EQ(report.files, 2);
  EXPECT_EQ(report.documents, 2);
  EXPECT_EQ(report.tokens, static_cast<int64_t>(expected.size()));
  EXPECT_EQ(report.predicted_tokens, report.tokens);
  EXPECT_EQ(report.bytes, static_cast<int64_t>(first.size() + second.size() + 3));
  EXPECT_FALSE(report.reused);
  EXPECT_EQ(cache.end_of_text(), kEndOfText);
  EXPECT_EQ(cache.vocabulary(), BaseTokenizer().vocabulary());
  EXPECT_THROW(cache.Sequence(0, cache.tokens() + 1), Error);
  EXPECT_THROW(cache.Sequence(-1, 2), Error);
  EXPECT_THROW(cache.Sequence(0, 0), Error);
}

TEST_F(TokenCacheTest, ALongTextHasTheTokensOfTheWholeHoweverManyThreadsThereAre) {
  const std::string text = LongText();
  std::vector<int32_t> expected = PlainTokens(text);
  expected.push_back(kEndOfText);
  ASSERT_GT(expected.size(), 2 * size_t{kTokenCacheRecordTokens});
  const std::string path = Write("long.txt", text);
  for (const int threads : {1, 3}) {
    std::filesystem::remove(cache_);
    Build({path}, {.threads = threads});
    EXPECT_EQ(All().tokens, expected) << threads;
  }
  const TokenCache cache(cache_);  // across the border of two records
  const int64_t border = kTokenCacheRecordTokens;
  EXPECT_EQ(cache.Sequence(border - 2, 5).tokens,
            std::vector<int32_t>(expected.begin() + border - 2, expected.begin() + border + 3));
}

// Of a letter of a language, of how it ends its lines, or of none.
TEST_F(TokenCacheTest, NoKindOfTextIsOnePiece) {
  const auto repeated = [](const std::string& text) {
    std::string all;
    while (all.size() < (size_t{5} << 18)) all += text;
    return all;
  };
  const TextEncoder encoder(BaseTokenizer(), /*skip_bad=*/false);
  for (const char* sentence :
       {"Lines that end as on Windows, in a full stop.\r\n \r\n",
        "\xE4\xBB\x96\xE8\xBF\x9B\xE4\xBA\x86\xE6\x88\xBF\xE9\x97\xB4\xE3\x80\x82\n",  // Chinese
        "\xE4\xBB\x96\xE6\x9D\xA5\xE4\xBA\x86\xEF\xBC\x8C\xE5\x8F\x88\xE8\xB5\xB0\xE4\xBA\x86\xE3"
        "\x80\x82",
        "\xD0\x9E\xD0\xBD \xD0\xB2\xD0\xBE\xD1\x88\xD1\x91\xD0\xBB.\n\n",               // Russian
        "\xE0\xA4\xB5\xE0\xA4\xB9 \xE0\xA4\x86\xE0\xA4\xAF\xE0\xA4\xBE\xE0\xA5\xA4\n",  // Hindi
        "12,5;3.25;-7\r\n", "It's all one line, it isn't cut anywhere.  "}) {
    const std::string text = repeated(sentence);
    TextPieces pieces({Write("text.txt", text)});
    std::vector<int32_t> tokens;
    int count = 0;
    while (const auto piece = pieces.Next()) {
      EXPECT_LT(piece->text.size(), (size_t{1} << 20) + 200) << sentence;
      ++count;
      for (const uint32_t token : encoder.Encode(*piece).tokens) {
        tokens.push_back(static_cast<int32_t>(token));
      }
    }
    EXPECT_EQ(count, 2) << sentence;
    std::vector<int32_t> expected = PlainTokens(text);
    expected.push_back(kEndOfText);
    EXPECT_TRUE(tokens == expected) << sentence;
  }
}

// Tokens with loss in brackets.
std::string Marked(const TrainSequence& sequence) {
  std::string text;
  for (size_t i = 0; i < sequence.tokens.size(); ++i) {
    const int32_t token = sequence.tokens[i];
    const std::string_view name = token == 0   ? "<end>"
                                  : token == 1 ? "<start>"
                                  : token == 2 ? "<stop>"
                                               : BaseTokenizer().TokenBytes(token);
    const bool learnt = sequence.predicted.empty() || sequence.predicted[i];
    text += learnt ? "[" + std::string(name) + "]" : std::string(name);
  }
  return text;
}

TEST_F(TokenCacheTest, OfAConversationTheAnswersAndTheirEndsCarryLoss) {
  const auto report = Build({Write(
      "chat.jsonl",
      R"({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"},)"
      R"( {"role": "assistant", "content": "I am."}, {"role": "user", "content": "<|im_end|> is 5"},)"
      R"( {"role": "assistant", "content": "Yes <|im_start|>"}]})"
      "\n\n"
      R"({"text": "Plain."})"
      "\r\n")});
  EXPECT_EQ(Marked(All()),
            "<start>system\nBe brief.<stop>\n<start>user\nWho?<stop>\n"
            "<start>assistant\n[I][ am][.][<stop>]\n<start>user\n<|im_end|> is 5<stop>\n"
            "<start>assistant\n[Yes][ <][|][im][_][start][|][>][<stop>]\n<end>"
            "[Pl][ain][.][<end>]");
  EXPECT_EQ(report.documents, 2);
  EXPECT_EQ(report.predicted_tokens, 4 + 9 + 4);
  const TokenCache cache(cache_);
  EXPECT_EQ(cache.PredictedTokens(0, cache.tokens()), 17);
  EXPECT_EQ(cache.PredictedTokens(cache.tokens() - 4, 4), 3);
}

TEST_F(TokenCacheTest, AConversationIsWhatTheChatTemplateMakesOfIt) {
  Build({Write("chat.JSONL", R"({"messages": [{"role": "user", "content": "Hi"},)"
                             R"( {"role": "assistant", "content": "Hello!"}]})")});
  std::vector<int32_t> expected = BaseTokenizer().Encode(
      RenderChat(BaseTokenizer(), {{"user", "Hi"}, {"assistant", "Hello!"}}, true, false), true);
  expected.push_back(kEndOfText);
  EXPECT_EQ(All().tokens, expected);  // with the template's own system message
}

TEST_F(TokenCacheTest, TheSameTextsAreTokenisedOnce) {
  const std::string path = Write("a.txt", "One two three.");
  const TokenCacheReport made = Build({path});
  const std::string bytes = ReadFile(cache_), digest = TokenCache(cache_).digest();
  EXPECT_EQ(digest.size(), 64u);
  const TokenCacheReport again = Build({path});
  EXPECT_TRUE(again.reused);
  EXPECT_EQ(again.tokens, made.tokens);
  EXPECT_EQ(again.predicted_tokens, made.predicted_tokens);
  EXPECT_EQ(again.bytes, made.bytes);
  EXPECT_TRUE(Build({Write("renamed.txt", "One two three.")}).reused);
  EXPECT_EQ(ReadFile(cache_), bytes);
}

TEST_F(TokenCacheTest, AnythingThatChangesTheTokensChangesTheDigest) {
  std::vector<std::string> digests;
  const auto add = [&](const std::vector<std::string>& files, const TokenCacheOptions& options) {
    EXPECT_FALSE(Build(files, options).reused);
    digests.push_back(TokenCache(cache_).digest());
  };
  const std::string a = Write("a.txt", R"({"text": "a"})"), b = Write("b.txt", "bc");
  add({a}, {});
  add({a, b}, {});
  add({b, a}, {});
  add({a}, {.skip_bad = true});
  add({Write("a.jsonl", R"({"text": "a"})")}, {});
  add({Write("a.txt", R"({"text": "b"})")}, {});
  std::sort(digests.begin(), digests.end());
  EXPECT_EQ(std::unique(digests.begin(), digests.end()), digests.end());
}

TEST_F(TokenCacheTest, AnyChangedByteIsAnErrorAndTheCacheIsMadeAgain) {
  const std::string path = Write("a.txt", "Some text of a few words.");
  Build({path});
  const std::string whole = ReadFile(cache_);
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << at % 8));
    WriteFile(cache_, damaged);
    EXPECT_THROW(All(), Error) << at;
    if (at < kTokenCacheMagicBytes) {
      ExpectNames(Refused({path}, ErrorCode::kInvalidArgument), "is no token cache");
      continue;
    }
    EXPECT_FALSE(Build({path}).reused) << at;
    EXPECT_EQ(ReadFile(cache_), whole) << at;
  }
  for (size_t size = 1; size < whole.size(); size += 5) {
    WriteFile(cache_, whole.substr(0, size));
    EXPECT_THROW(All(), Error) << size;
  }
  WriteFile(cache_, whole + "x");
  EXPECT_THROW(All(), Error);
}

// Checksums that fit do not make a count or a token right (rule 6).
TEST_F(TokenCacheTest, WhatContradictsItselfIsRefusedWhateverItsChecksums) {
  Build({Write("a.txt", "Some text.")});
  const std::string whole = ReadFile(cache_);
  const auto refuse = [&](const std::function<void(TokenCacheHeader*, uint32_t*)>& change,
                          const char* part) {
    std::string bytes = whole;
    TokenCacheHeader header;
    std::memcpy(&header, bytes.data(), sizeof(header));
    std::vector<uint32_t> tokens(header.tokens);
    char* const data = bytes.data() + sizeof(header);
    const size_t size = tokens.size() * sizeof(uint32_t);
    std::memcpy(tokens.data(), data, size);
    change(&header, tokens.data());
    header.checksum = TokenHeaderChecksum(header);
    const uint64_t checksum = TokenRecordChecksum(0, tokens.data(), size);
    std::memcpy(bytes.data(), &header, sizeof(header));
    std::memcpy(data, tokens.data(), size);
    std::memcpy(data + size, &checksum, sizeof(checksum));
    WriteFile(cache_, bytes);
    try {
      All();
      ADD_FAILURE() << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorruption);
      ExpectNames(error, part);
    }
  };
  refuse([](auto* header, auto*) { header->tokens += 1; }, "bytes");
  refuse([](auto* header, auto*) { header->tokens = ~uint64_t{0} / 2; }, "contradict");
  refuse([](auto* header, auto*) { header->tokens = 0; }, "contradict");
  refuse([](auto* header, auto*) { header->record_tokens = 0; }, "contradict");
  refuse([](auto* header, auto*) { header->record_tokens = 1; }, "bytes");
  refuse([](auto* header, auto*) { header->documents = header->tokens + 1; }, "contradict");
  refuse([](auto* header, auto*) { header->predicted = header->tokens + 1; }, "contradict");
  refuse([](auto* header, auto*) { header->vocabulary = 1u << 31; }, "contradict");
  refuse([](auto* header, auto*) { header->end_of_text = header->vocabulary; }, "contradict");
  refuse([](auto* header, auto* tokens) { tokens[1] = header->vocabulary; }, "vocabulary");
}

TEST_F(TokenCacheTest, ALineThatCannotBeUsedIsNamedOrCounted) {
  const std::string good = R"({"text": "fine"})";
  const std::pair<const char*, const char*> lines[] = {
      {R"({"text": "cut)", "no JSON"},
      {"{\"text\": \"\xff\"}", "no JSON"},
      {R"({"text": "a", "x": 1e999})", "out of range"},
      {R"(["text"])", "no JSON object"},
      {R"({"txt": "a"})", "neither"},
      {R"({"text": "a", "messages": []})", "both"},
      {R"({"text": 5})", "no text under \"text\""},
      {R"({"text": ""})", "empty"},
      {R"({"messages": []})", "no list of messages"},
      {R"({"messages": [5]})", "message 1 is no object"},
      {R"({"messages": [{"role": "user"}]})", "message 1 has no text under \"content\""},
      {R"({"messages": [{"role": "tool", "content": "a"}]})", "'tool'"},
      {R"({"messages": [{"role": "user", "content": "a"}]})", "no answer"}};
  std::string all = good + "\n";
  for (const auto& [line, why] : lines) {
    const std::string path = Write("bad.jsonl", good + "\n\n" + line + "\n" + good);
    const Error error = Refused({path}, ErrorCode::kCorruption);
    ExpectNames(error, path + ", line 3: ");
    ExpectNames(error, why);
    EXPECT_FALSE(std::filesystem::exists(cache_));
    all += std::string(line) + "\n";
  }
  const TokenCacheReport report = Build({Write("bad.jsonl", all + good)}, {.skip_bad = true});
  EXPECT_EQ(report.bad_lines, static_cast<int64_t>(std::size(lines)));
  EXPECT_EQ(report.documents, 2);
  EXPECT_EQ(Build({folder_ / "bad.jsonl"}, {.skip_bad = true}).bad_lines, report.bad_lines);
}

TEST_F(TokenCacheTest, LinesAreNumberedAcrossPieces) {
  std::string lines;
  int64_t number = 1;
  for (; lines.size() < (size_t{3} << 19); ++number) {
    lines += R"({"text": ")" + std::string(1000, 'a') + "\"}\n";
  }
  const std::string path = Write("long.jsonl", lines + "{\n");
  ExpectNames(Refused({path}, ErrorCode::kCorruption), ", line " + std::to_string(number) + ":");
}

TEST_F(TokenCacheTest, FilesThatAreNoTextAreNamed) {
  const std::string good = Write("good.txt", "Good.");
  const std::pair<const char*, std::string> files[] = {
      {"empty.txt", ""},         {"empty.jsonl", ""},
      {"blank.jsonl", "\n \n"},  {"binary.txt", std::string("a\0b", 3)},
      {"utf16.txt", "\xFF\xFE"}, {"latin.txt", "caf\xe9"},
  };
  for (const auto& [name, bytes] : files) {
    ExpectNames(Refused({good, Write(name, bytes)}, ErrorCode::kUnsupported), name);
    EXPECT_FALSE(std::filesystem::exists(cache_));
  }
  ExpectNames(Refused({good, folder_ / "none.txt"}, ErrorCode::kNotFound), "none.txt");
  ExpectNames(Refused({}, ErrorCode::kInvalidArgument), "no training texts");
  const std::string bad = Write("all-bad.jsonl", "{}\n");
  ExpectNames(Refused({bad}, ErrorCode::kUnsupported, {.skip_bad = true}), "all-bad.jsonl");
}

TEST_F(TokenCacheTest, AFileThatIsNoCacheIsNotOverwritten) {
  const std::string path = Write("a.txt", "Some text.");
  WriteFile(cache_, "A person's notes.");
  ExpectNames(Refused({path}, ErrorCode::kInvalidArgument), cache_);
  EXPECT_EQ(ReadFile(cache_), "A person's notes.");
}

TEST_F(TokenCacheTest, AFullDiskLeavesTheOldCache) {
  Build({Write("a.txt", "Some text.")});
  const std::string old = ReadFile(cache_);
  const std::string other = Write("b.txt", "Some other text.");
  const auto expect_old = [&] {
    EXPECT_EQ(ReadFile(cache_), old);
    // Nothing is left behind: two texts and the cache.
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_ / "."), {}), 3);
  };
  for (const int64_t room : {0, 50, 115, 140}) {
    bytes_until_full = room;
    Refused({other}, ErrorCode::kNoSpace);
    bytes_until_full = -1;
    expect_old();
  }
  const auto stop = [](uint64_t done, uint64_t) { return done == 0; };
  try {
    BuildTokenCache({other}, BaseTokenizer(), cache_, {}, stop);
    ADD_FAILURE() << "it went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kCancelled);
  }
  expect_old();
  EXPECT_FALSE(Build({other}).reused);
}

TEST(EpochWindows, EveryWindowOnceInAnotherOrderEachEpoch) {
  for (const int64_t tokens : {100, 103, 109}) {
    std::vector<std::vector<int64_t>> epochs;
    for (int64_t epoch = 0; epoch < 30; ++epoch) {
      std::vector<int64_t> windows = EpochWindows(tokens, 10, 5, epoch);
      epochs.push_back(windows);
      std::sort(windows.begin(), windows.end());
      EXPECT_GE(windows.front(), 0);
      EXPECT_LE(windows.front(), tokens % 10);
      for (int64_t i = 0; i < 10; ++i) EXPECT_EQ(windows[i], windows.front() + 10 * i);
    }
    std::vector<bool> read(static_cast<size_t>(tokens));
    for (const auto& epoch : epochs) {
      for (const int64_t first : epoch) std::fill_n(read.begin() + first, 10, true);
    }
    EXPECT_EQ(std::count(read.begin(), read.end(), false), 0) << "a token never has its turn";
    EXPECT_EQ(EpochWindows(tokens, 10, 5, 3), epochs[3]);
    EXPECT_NE(epochs[3], epochs[4]);
    EXPECT_NE(EpochWindows(tokens, 10, 6, 3), epochs[3]);
  }
  EXPECT_THROW(EpochWindows(9, 10, 0, 0), Error);
  EXPECT_THROW(EpochWindows(9, 1, 0, 0), Error);
}

TEST(EpochWindows, PlacesAreAsLikelyAsEachOther) {
  constexpr int kWindows = 6, kEpochs = 6000;
  std::vector<int> counts(kWindows * kWindows);
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    const auto windows = EpochWindows(2 * kWindows, 2, 1, epoch);
    for (int i = 0; i < kWindows; ++i) ++counts[static_cast<size_t>(kWindows * i + windows[i] / 2)];
  }
  // 1,000 expected, with a standard deviation of 29; five of these.
  for (const int count : counts) EXPECT_NEAR(count, kEpochs / kWindows, 145);
}

// The same on every machine: written down once.
TEST(EpochWindows, AreTheRecordedOnes) {
  EXPECT_EQ(EpochWindows(43, 5, 7, 2), (std::vector<int64_t>{26, 36, 6, 1, 11, 21, 16, 31}));
}

TEST_F(TokenCacheTest, AnEpochLeavesOutSequencesWithNothingToPredict) {
  // One answer in a conversation of long questions.
  std::string question = R"({"role": "user", "content": "Why)";
  for (int i = 0; i < 100; ++i) question += " why";
  question += "\"}";
  Build({Write("chat.jsonl", R"({"messages": [)" + question +
                                 R"(, {"role": "assistant", "content": "Yes."}, )" + question +
                                 "]}")});
  const TokenCache cache(cache_);
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    const std::vector<int64_t> windows = cache.Epoch(16, 1, epoch);
    ASSERT_FALSE(windows.empty());
    EXPECT_LE(windows.size(), 2u);
    for (const int64_t first : windows) EXPECT_GT(cache.PredictedTokens(first, 16), 0);
  }
  EXPECT_THROW(cache.Epoch(cache.tokens() + 1, 1, 0), Error);
}

}  // namespace
}  // namespace eidetic::model
