#include "model/pretokenizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "model/error.h"
#include "model/gguf_writer.h"
#include "model/tokenizer.h"
#include "model/tokenizer_json.h"
#include "model/utf8.h"
#include "tests/model/hard_cases.h"
#include "tests/model/model_files.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

// The names under which GGUF files may have each rule of the golden file.
const std::map<std::string, std::vector<std::string>> kNamesOf = {
    {"smollm", {"smollm", "refact", "starcoder"}},
    {"gpt-2", {"gpt-2", "gpt2", "granite-docling"}},
    {"llama-bpe", {"llama-bpe", "llama3", "llama-v3", "falcon3"}},
    {"dbrx", {"dbrx", "smaug-bpe"}},
    {"qwen2", {"qwen2"}},
    {"tekken", {"tekken"}},
    {"default", {"default"}},
};

class PretokenizerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    golden_ = json::parse(ReadFile(std::string(EIDETIC_GOLDEN_DIR) + "/pretokenizer_golden.json"));
    lines_ = HardLines(std::string(EIDETIC_GOLDEN_DIR) + "/hard_cases.txt");
    ASSERT_EQ(golden_["rules"].size(), kNamesOf.size());
    ASSERT_GT(golden_["cases"].size(), 100u);
  }
  std::string Text(const json& entry) const {
    return RepairUtf8(Unescaped(lines_.at(entry["line"].get<size_t>())));
  }
  std::shared_ptr<const Tokenizer> FromGguf(const std::string& pre) {
    GgufWriter writer;
    writer.AddString("tokenizer.ggml.model", "gpt2");
    writer.AddString("tokenizer.ggml.pre", pre);
    writer.AddStringArray("tokenizer.ggml.tokens",
                          golden_["tokens"].get<std::vector<std::string>>());
    std::vector<std::string> merges;
    for (const json& merge : golden_["merges"]) {
      merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
    }
    writer.AddStringArray("tokenizer.ggml.merges", merges);
    WriteFile(folder_ / "t.gguf", writer.Header());
    return Tokenizer::FromGguf(*GgufFile::Open(folder_ / "t.gguf"));
  }
  // As `transformers` saves it.
  std::shared_ptr<const Tokenizer> FromFolder(const json& pre_tokenizer, bool whole_words) {
    json vocabulary = json::object();
    for (const json& token : golden_["tokens"]) {
      vocabulary[token.get<std::string>()] = vocabulary.size();
    }
    const json tokenizer = {{"normalizer", nullptr},
                            {"pre_tokenizer", pre_tokenizer},
                            {"decoder", {{"type", "ByteLevel"}}},
                            {"model",
                             {{"type", "BPE"},
                              {"ignore_merges", whole_words},
                              {"vocab", vocabulary},
                              {"merges", golden_["merges"]}}}};
    ModelFolderFiles files;
    files.config = folder_ / "config.json";
    files.tokenizer = folder_ / "tokenizer.json";
    WriteFile(files.config, "{}");
    WriteFile(files.tokenizer, tokenizer.dump());
    return TokenizerFromFolder(files, static_cast<int>(vocabulary.size()));
  }
  void ExpectTokens(const Tokenizer& tokenizer, const std::string& rule) {
    for (const json& entry : golden_["cases"]) {
      EXPECT_EQ(Hash(tokenizer.Encode(Text(entry), false)), entry[rule][0].get<std::string>())
          << "line " << entry["line"];
    }
  }

  json golden_;
  std::vector<std::string> lines_;
  TemporaryFolder folder_;
};

TEST_F(PretokenizerTest, SplitsHardCasesAsTheReferenceDoes) {
  for (const auto& [rule, names] : kNamesOf) {
    for (const std::string& name : names) {
      SCOPED_TRACE(name);
      const Pretokenizer pretokenizer(name);
      for (const json& entry : golden_["cases"]) {
        const std::string text = Text(entry);
        std::vector<size_t> ends;
        pretokenizer.Split(text, [&](std::string_view piece) {
          ends.push_back(static_cast<size_t>(piece.data() - text.data()) + piece.size());
        });
        const std::vector<size_t> expected(entry[rule].begin() + 1, entry[rule].end());
        EXPECT_EQ(ends, expected) << "line " << entry["line"] << ": "
                                  << lines_[entry["line"].get<size_t>()];
      }
    }
  }
}

TEST_F(PretokenizerTest, GgufFilesGiveTheTokensOfTheReference) {
  for (const auto& [rule, names] : kNamesOf) {
    for (const std::string& name : names) {
      SCOPED_TRACE(name);
      ExpectTokens(*FromGguf(name), rule);
      EXPECT_EQ(TakesWholeWords(name), golden_["rules"][rule]["whole_words"].get<bool>());
    }
  }
}

TEST_F(PretokenizerTest, FoldersGiveTheTokensOfTheReference) {
  for (const auto& [rule, settings] : golden_["rules"].items()) {
    SCOPED_TRACE(rule);
    if (settings["pre_tokenizer"].is_null()) continue;
    ExpectTokens(*FromFolder(settings["pre_tokenizer"], settings["whole_words"].get<bool>()), rule);
  }
}

TEST_F(PretokenizerTest, WhetherWholeWordsAreMergedDecidesOnTokensAndFingerprint) {
  const json& settings = golden_["rules"]["llama-bpe"];
  const auto merged = FromFolder(settings["pre_tokenizer"], false);
  const auto whole = FromFolder(settings["pre_tokenizer"], true);
  ExpectTokens(*merged, "dbrx");
  EXPECT_NE(merged->FingerprintBytes(), whole->FingerprintBytes());
  EXPECT_NE(FromGguf("dbrx")->FingerprintBytes(), FromGguf("llama-bpe")->FingerprintBytes());
}

TEST_F(PretokenizerTest, OtherChainsOfAFolderAreRefused) {
  const json good = golden_["rules"]["llama-bpe"]["pre_tokenizer"];
  const auto refuse = [&](const auto& change) {
    json pre_tokenizer = good;
    change(&pre_tokenizer["pretokenizers"]);
    try {
      FromFolder(pre_tokenizer, false);
      ADD_FAILURE() << pre_tokenizer.dump();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << error.what();
      EXPECT_NE(std::string(error.what()).find("pre_tokenizer"), std::string::npos) << error.what();
    }
  };
  FromFolder(good, false);
  refuse([](json* steps) { (*steps)[0]["pattern"]["Regex"] = "\\s+|\\S+"; });
  refuse([](json* steps) { (*steps)[0]["pattern"] = {{"String", " "}}; });
  refuse([](json* steps) { (*steps)[0]["behavior"] = "MergedWithNext"; });
  refuse([](json* steps) { (*steps)[0]["invert"] = true; });
  refuse([](json* steps) { (*steps)[1]["use_regex"] = true; });
  refuse([](json* steps) { (*steps)[1]["add_prefix_space"] = true; });
  refuse([](json* steps) { steps->push_back((*steps)[1]); });
}

TEST_F(PretokenizerTest, TextThatIsCutHasThePiecesOfTheWhole) {
  // Letters, one with a mark upon it, numbers, punctuation, spaces.
  const char* const characters[] = {
      "a",  "s",      "B",  "'",    "'s", "\u00e9", "\u4ed6", "\u0301", "7",
      "12", "\u00b2", ".",  "_",    "/",  "$",      "\u3002", "\u2019", "\U0001f600",
      " ",  "  ",     "\n", "\r\n", "\t", "\u00a0", "\u3000"};
  for (const auto& [rule, names] : kNamesOf) {
    const Pretokenizer pretokenizer(names[0]);
    const auto add_pieces = [&](std::string_view text, std::vector<std::string>* pieces) {
      pretokenizer.Split(text, [&](std::string_view piece) { pieces->emplace_back(piece); });
    };
    std::mt19937 random(12);
    int cuts = 0;
    for (int i = 0; i < 2000; ++i) {
      std::string text;
      for (int j = 0; j < 9; ++j) text += characters[random() % std::size(characters)];
      std::vector<std::string> whole;
      add_pieces(text, &whole);
      size_t last = 0;
      for (size_t from = 1; from <= text.size(); ++from) {
        const size_t cut = Pretokenizer::NextCut(text, from);
        ASSERT_GE(cut, from);
        if (cut == last || cut == text.size()) continue;
        last = cut;
        ++cuts;
        std::vector<std::string> parts;
        add_pieces(std::string_view(text).substr(0, cut), &parts);
        add_pieces(std::string_view(text).substr(cut), &parts);
        ASSERT_EQ(parts, whole) << rule << ": " << text << ", cut at " << cut;
      }
    }
    EXPECT_GT(cuts, 2000);
  }
  EXPECT_EQ(Pretokenizer::NextCut("", 0), 0u);
  EXPECT_EQ(Pretokenizer::NextCut("abc", 7), 3u);
  EXPECT_EQ(Pretokenizer::NextCut("one two", 1), 3u);
  EXPECT_EQ(Pretokenizer::NextCut("one \r\ntwo", 4), 9u);  // not within white space
  EXPECT_EQ(Pretokenizer::NextCut("one.\ntwo", 4), 8u);    // nor before what punctuation takes
}

TEST_F(PretokenizerTest, TimeGrowsWithTheLengthAlone) {
  for (const auto& [rule, names] : kNamesOf) {
    const Pretokenizer pretokenizer(names[0]);
    for (const std::string part : {"A", "a", "Aa", "\u6f22A", "\u0301", " ", " \n", "\n ", "!",
                                   "!\n", "1", "'", "\u00a0", "\t"}) {
      for (const std::string end : {"", "x", "1", "!"}) {
        const std::string text = Repeated((size_t{1} << 17) / part.size(), part) + end;
        const auto start = std::chrono::steady_clock::now();
        size_t bytes = 0;
        pretokenizer.Split(text, [&](std::string_view piece) { bytes += piece.size(); });
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        EXPECT_EQ(bytes, text.size());
        // Takes milliseconds, and with time that grows with the square, many seconds.
        EXPECT_LT(seconds.count(), 2) << rule << " " << part << end;
      }
    }
  }
}

}  // namespace
}  // namespace eidetic::model
