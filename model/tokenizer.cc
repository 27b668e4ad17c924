#include "model/tokenizer.h"

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_map>
#include <utility>

#include "model/byte_pair_encoder.h"
#include "model/error.h"
#include "model/pretokenizer.h"
#include "model/text.h"
#include "model/tokenizer_tables.h"
#include "model/utf8.h"

namespace eidetic::model {
namespace {

// Part of the fingerprint: raised when the same tables give other tokens.
constexpr std::string_view kRulesVersion = "byte-level BPE, rules 1";
constexpr size_t kLongestText = size_t{1} << 31;  // symbols are counted in 32 bits
constexpr size_t kLongestCachedWord = 64;
constexpr size_t kMostCachedWords = 1 << 16;

// Control tokens after which nothing of an answer comes, in the families that use them.
constexpr std::string_view kEndNames[] = {"<|im_end|>",      "<|endoftext|>", "<|eot_id|>",
                                          "<|end_of_text|>", "<|end|>",       "</s>"};

// GPT-2's alphabet writes every byte as one printable character: those that are printable in
// Latin-1 as themselves, the rest in order from U+0100 on.
std::array<uint32_t, 256> ByteAlphabet() {
  std::array<uint32_t, 256> alphabet{};
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    alphabet[byte] = printable ? byte : next++;
  }
  return alphabet;
}

// The bytes that a token's name stands for; a name with a character outside of the alphabet stands
// for itself.
class ByteNames {
 public:
  ByteNames() {
    bytes_.fill(-1);
    const std::array<uint32_t, 256> alphabet = ByteAlphabet();
    for (uint32_t byte = 0; byte < 256; ++byte) bytes_[alphabet[byte]] = static_cast<int>(byte);
  }

  std::string Decode(std::string_view name) const {
    std::string bytes;
    for (size_t i = 0; i < name.size();) {
      uint32_t code = static_cast<uint8_t>(name[i]);
      const size_t length = code < 0x80 ? 1 : 2;  // the alphabet ends at U+0143
      if (length == 2) {
        if (i + 1 == name.size() || (code & 0xe0) != 0xc0) return std::string(name);
        code = (code & 0x1f) << 6 | (static_cast<uint8_t>(name[i + 1]) & 0x3f);
      }
      if (code >= bytes_.size() || bytes_[code] < 0) return std::string(name);
      bytes += static_cast<char>(bytes_[code]);
      i += length;
    }
    return bytes;
  }

 private:
  std::array<int, 0x144> bytes_;
};

// Finds the names of special tokens in text: the leftmost, and of those the longest.
class NameMatcher {
 public:
  void Add(std::string name, int32_t token) {
    auto& names = by_first_byte_[static_cast<uint8_t>(name[0])];
    names.emplace_back(std::move(name), token);
    std::sort(names.begin(), names.end(),
              [](const auto& a, const auto& b) { return a.first.size() > b.first.size(); });
  }

  struct Match {
    size_t begin, end;
    int32_t token;
  };
  // begin == npos when there is none from `position` on.
  Match Find(std::string_view text, size_t position) const {
    for (; position < text.size(); ++position) {
      for (const auto& [name, token] : by_first_byte_[static_cast<uint8_t>(text[position])]) {
        if (text.substr(position, name.size()) == name) {
          return {position, position + name.size(), token};
        }
      }
    }
    return {std::string_view::npos, 0, -1};
  }

 private:
  std::array<std::vector<std::pair<std::string, int32_t>>, 256> by_first_byte_;
};

// What MakeTokenizer was given, checked.
struct Tables {
  std::vector<std::string> bytes;  // of every token; control tokens have their name here
  std::vector<int64_t> types;
  std::array<int32_t, 256> byte_tokens;
  std::vector<BytePairEncoder::Merge> merges;
  int32_t bos = -1, eos = -1;
  std::vector<bool> ends;
  std::string pretokenizer;
  // Words that are not merged, views into `bytes`; empty when all are.
  std::unordered_map<std::string_view, int32_t> words;
  std::string chat_template;
  std::string fingerprint;
};

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(Tables tables)
      : tables_(std::move(tables)),
        pretokenizer_(tables_.pretokenizer),
        encoder_(tables_.byte_tokens, tables_.merges) {
    tables_.merges = {};  // the encoder has them
    tables_.fingerprint += pretokenizer_.pattern();
    for (size_t token = 0; token < tables_.bytes.size(); ++token) {
      const int64_t type = tables_.types[token];
      if (tables_.bytes[token].empty()) continue;
      if (type == kControlToken || type == kUserDefinedToken) {
        all_names_.Add(tables_.bytes[token], static_cast<int32_t>(token));
      }
      if (type == kUserDefinedToken) {
        plain_names_.Add(tables_.bytes[token], static_cast<int32_t>(token));
      }
    }
  }

  std::vector<int32_t> Encode(std::string_view text, bool special) const override {
    if (FindInvalidUtf8(text) == std::string_view::npos) return EncodeValid(text, special, nullptr);
    return EncodeValid(RepairUtf8(text), special, nullptr);
  }

  std::vector<int32_t> EncodeWithOffsets(std::string_view text,
                                         std::vector<uint64_t>* offsets) const override {
    const size_t invalid = FindInvalidUtf8(text);
    if (invalid != std::string_view::npos) {
      throw Error(ErrorCode::kInvalidArgument,
                  "the text is not UTF-8 at byte " + std::to_string(invalid) + " of " +
                      std::to_string(text.size()),
                  "convert it to UTF-8");
    }
    offsets->clear();
    return EncodeValid(text, false, offsets);
  }

  std::string_view TokenBytes(int32_t token) const override {
    Check(token);
    if (IsControl(token)) return {};
    return tables_.bytes[static_cast<size_t>(token)];
  }

  std::string Decode(const std::vector<int32_t>& tokens) const override {
    std::string bytes;
    for (const int32_t token : tokens) bytes += TokenBytes(token);
    return FindInvalidUtf8(bytes) == std::string_view::npos ? bytes : RepairUtf8(bytes);
  }

  int vocabulary() const override { return static_cast<int>(tables_.bytes.size()); }
  int32_t bos() const override { return tables_.bos; }
  int32_t eos() const override { return tables_.eos; }
  bool IsControl(int32_t token) const override {
    Check(token);
    const int64_t type = tables_.types[static_cast<size_t>(token)];
    return type == kControlToken || type == kUnknownToken || type == kUnusedToken;
  }
  bool IsEnd(int32_t token) const override {
    Check(token);
    return tables_.ends[static_cast<size_t>(token)];
  }
  const std::string& chat_template() const override { return tables_.chat_template; }
  std::string FingerprintBytes() const override { return tables_.fingerprint; }

 private:
  // One call's words and their tokens, so that a word is merged once.
  struct Cache {
    struct Range {
      size_t begin, end;
    };
    std::unordered_map<std::string_view, Range> words;
    std::vector<int32_t> tokens;
    std::vector<uint32_t> begins;
    BytePairEncoder::Workspace workspace;
  };

  void Check(int32_t token) const {
    if (token < 0 || static_cast<size_t>(token) >= tables_.bytes.size()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "token " + std::to_string(token) + " is not within the vocabulary of " +
                      std::to_string(tables_.bytes.size()),
                  "pass tokens of this model's own tokenizer");
    }
  }

  std::vector<int32_t> EncodeValid(std::string_view text, bool special,
                                   std::vector<uint64_t>* offsets) const {
    if (text.size() > kLongestText) {
      throw Error(ErrorCode::kInvalidArgument,
                  "a text of " + std::to_string(text.size()) + " bytes is longer than 2 GiB",
                  "give it in parts");
    }
    std::vector<int32_t> tokens;
    tokens.reserve(text.size() / 4 + 8);
    Cache cache;
    const NameMatcher& names = special ? all_names_ : plain_names_;
    for (size_t position = 0; position < text.size();) {
      const NameMatcher::Match match = names.Find(text, position);
      const size_t end = std::min(match.begin, text.size());
      pretokenizer_.Split(text.substr(position, end - position), [&](std::string_view word) {
        EncodeWord(word, &cache, &tokens, offsets,
                   static_cast<uint64_t>(word.data() - text.data()));
      });
      if (match.begin == std::string_view::npos) break;
      tokens.push_back(match.token);
      if (offsets != nullptr) offsets->push_back(match.begin);
      position = match.end;
    }
    return tokens;
  }

  void EncodeWord(std::string_view word, Cache* cache, std::vector<int32_t>* tokens,
                  std::vector<uint64_t>* offsets, uint64_t word_begin) const {
    const bool cached = word.size() <= kLongestCachedWord && cache->words.size() < kMostCachedWords;
    Cache::Range range;
    const auto found = cache->words.find(word);
    const size_t pooled = cache->tokens.size();
    if (found != cache->words.end()) {
      range = found->second;
    } else {
      EncodeNewWord(word, cache);
      range = {pooled, cache->tokens.size()};
      if (cached) cache->words.emplace(word, range);
    }
    for (size_t i = range.begin; i < range.end; ++i) {
      tokens->push_back(cache->tokens[i]);
      if (offsets != nullptr) offsets->push_back(word_begin + cache->begins[i]);
    }
    if (found == cache->words.end() && !cached) {
      cache->tokens.resize(pooled);
      cache->begins.resize(pooled);
    }
  }

  void EncodeNewWord(std::string_view word, Cache* cache) const {
    const auto whole = tables_.words.find(word);
    if (whole == tables_.words.end()) {
      encoder_.Encode(word, &cache->workspace, &cache->tokens, &cache->begins);
      return;
    }
    cache->tokens.push_back(whole->second);
    cache->begins.push_back(0);
  }

  Tables tables_;
  Pretokenizer pretokenizer_;
  BytePairEncoder encoder_;
  NameMatcher all_names_, plain_names_;
};

[[noreturn]] void Fail(const TokenizerTables& given, const std::string& message) {
  throw Error(ErrorCode::kCorruption, given.path + ": " + message,
              "use a file that a converter for this tokenizer made");
}

using TokenIds = std::unordered_map<std::string_view, int32_t>;

// Token ids by name; fills `tables->bytes` and `tables->byte_tokens`.
TokenIds ReadTokens(const TokenizerTables& given, Tables* tables) {
  const std::vector<std::string>& names = given.tokens;
  if (names.empty() || names.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    Fail(given, "the vocabulary is empty or too long");
  }
  tables->byte_tokens.fill(-1);
  TokenIds ids;
  const ByteNames byte_names;
  for (size_t i = 0; i < names.size(); ++i) {
    const auto token = static_cast<int32_t>(i);
    if (!ids.emplace(names[i], token).second && given.types[i] != kUnusedToken) {
      Fail(given, "token " + std::to_string(i) + ", " + Quoted(names[i]) +
                      ", has the name of token " + std::to_string(ids[names[i]]));
    }
    const bool normal = given.types[i] == kNormalToken;
    tables->bytes.push_back(normal ? byte_names.Decode(names[i]) : names[i]);
    const std::string& bytes = tables->bytes.back();
    // A name of one character that is no part of the alphabet has more than one byte.
    if (normal && bytes.size() == 1) tables->byte_tokens[static_cast<uint8_t>(bytes[0])] = token;
  }
  return ids;
}

void ReadMerges(const TokenizerTables& given, const TokenIds& ids, Tables* tables) {
  if (given.merges.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    Fail(given, "there are too many merges");
  }
  std::unordered_map<uint64_t, size_t> seen;
  tables->merges.reserve(given.merges.size());
  for (size_t i = 0; i < given.merges.size(); ++i) {
    const std::string &left = given.merges[i].first, &right = given.merges[i].second;
    const std::string merged = left + right;
    const auto fail = [&](const std::string& problem) {
      Fail(given,
           "merge " + std::to_string(i) + ", " + Quoted(left + " " + right) + ", " + problem);
    };
    for (const std::string* part : {&left, &right, &merged}) {
      if (!ids.contains(*part)) fail("needs " + Quoted(*part) + ", which is no token");
    }
    tables->merges.push_back({ids.at(left), ids.at(right), ids.at(merged)});
    const auto& pair = tables->merges.back();
    const uint64_t key = static_cast<uint64_t>(pair.left) << 32 | static_cast<uint32_t>(pair.right);
    if (const auto [first, fresh] = seen.emplace(key, i); !fresh) {
      fail("repeats merge " + std::to_string(first->second));
    }
  }
}

void ReadWholeWords(Tables* tables) {
  for (size_t token = 0; token < tables->bytes.size(); ++token) {
    if (tables->types[token] != kNormalToken) continue;
    tables->words.emplace(tables->bytes[token], static_cast<int32_t>(token));
  }
}

void ReadEnds(const TokenizerTables& given, const TokenIds& ids, Tables* tables) {
  tables->ends.assign(tables->bytes.size(), false);
  const auto add = [&](int32_t token) {
    if (token >= 0) tables->ends[static_cast<size_t>(token)] = true;
  };
  add(tables->eos);
  for (const int32_t token : given.ends) add(token);
  for (const std::string_view name : kEndNames) {
    const auto found = ids.find(name);
    if (found == ids.end()) continue;
    if (tables->types[static_cast<size_t>(found->second)] == kControlToken) add(found->second);
  }
}

}  // namespace

std::shared_ptr<const Tokenizer> MakeTokenizer(TokenizerTables given) {
  Tables tables;
  const TokenIds ids = ReadTokens(given, &tables);
  const auto& bytes = tables.byte_tokens;
  if (given.has_unknown_token && std::find(bytes.begin(), bytes.end(), -1) != bytes.end()) {
    throw Error(ErrorCode::kUnsupported,
                given.path +
                    ": bytes without a token become an unknown token, which is not "
                    "supported",
                "docs/models.md lists what can be run");
  }
  ReadMerges(given, ids, &tables);
  tables.bos = given.bos;
  tables.eos = given.eos;
  tables.types = given.types;
  ReadEnds(given, ids, &tables);
  tables.pretokenizer = std::move(given.pretokenizer);
  tables.chat_template = std::move(given.chat_template);
  tables.fingerprint = std::string(kRulesVersion) + given.fingerprint;
  if (given.whole_words) {
    ReadWholeWords(&tables);
    tables.fingerprint += "\nwhole words\n";
  }
  return std::make_shared<BpeTokenizer>(std::move(tables));
}

StreamingDetokenizer::StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer)
    : tokenizer_(std::move(tokenizer)) {}

std::string StreamingDetokenizer::Push(int32_t token) {
  pending_ += tokenizer_->TokenBytes(token);
  std::string text;
  size_t position = 0;
  while (position < pending_.size()) {
    const Utf8Character character = ReadUtf8(pending_, position);
    if (character.kind == Utf8Kind::kIncomplete) break;  // the next token may complete it
    text += character.kind == Utf8Kind::kValid
                ? std::string_view(pending_).substr(position, character.bytes)
                : kReplacementCharacter;
    position += character.bytes;
  }
  pending_.erase(0, position);
  return text;
}

std::string StreamingDetokenizer::Finish() {
  return RepairUtf8(std::exchange(pending_, {}));
}

}  // namespace eidetic::model
