// A tokenizer out of a GGUF's metadata.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/error.h"
#include "model/gguf.h"
#include "model/pretokenizer.h"
#include "model/text.h"
#include "model/tokenizer_tables.h"

namespace eidetic::model {
namespace {

[[noreturn]] void FailTable(const GgufFile& file, const std::string& message) {
  throw Error(ErrorCode::kCorruption, file.path() + ": " + message,
              "use a file that a converter for this tokenizer made");
}

template <typename T>
const std::vector<T>& Array(const GgufFile& file, const std::string& key) {
  const GgufValue* value = file.Find(key);
  const auto* array = value == nullptr ? nullptr : std::get_if<std::vector<T>>(value);
  if (array == nullptr)
    FailTable(file, "metadata " + Quoted(key) + " is missing or of another type");
  return *array;
}

// Types are int32 in files of llama.cpp; a file without them has normal tokens only.
std::vector<int64_t> ReadTypes(const GgufFile& file, size_t count) {
  const std::string key = "tokenizer.ggml.token_type";
  if (file.Find(key) == nullptr) return std::vector<int64_t>(count, kNormalToken);
  const auto& types = Array<int64_t>(file, key);
  if (types.size() != count) {
    FailTable(file, "metadata " + Quoted(key) + " has " + std::to_string(types.size()) +
                        " entries for " + std::to_string(count) + " tokens");
  }
  return types;
}

std::vector<std::pair<std::string, std::string>> ReadMerges(const GgufFile& file) {
  std::vector<std::pair<std::string, std::string>> merges;
  for (const std::string_view merge : Array<std::string_view>(file, "tokenizer.ggml.merges")) {
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) {
      FailTable(file, "merge " + std::to_string(merges.size()) + ", " + Quoted(merge) +
                          ", is not a pair");
    }
    merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  return merges;
}

int32_t ReadTokenId(const GgufFile& file, const std::string& key, size_t count) {
  if (file.Find(key) == nullptr) return -1;
  const uint64_t token = file.Unsigned(key);
  if (token >= count) {
    FailTable(file, "metadata " + Quoted(key) + " is " + std::to_string(token) +
                        ", not within the vocabulary of " + std::to_string(count));
  }
  return static_cast<int32_t>(token);
}

}  // namespace

std::shared_ptr<const Tokenizer> Tokenizer::FromGguf(const GgufFile& file) {
  const std::string& kind = file.String("tokenizer.ggml.model");
  if (kind != "gpt2") {
    throw Error(ErrorCode::kUnsupported,
                file.path() + ": the tokenizer model " + Quoted(kind) +
                    " is not supported, only 'gpt2' (byte-level BPE)",
                "docs/models.md lists what can be run");
  }
  TokenizerTables tables;
  tables.path = file.path();
  tables.pretokenizer = file.String("tokenizer.ggml.pre");
  tables.whole_words = TakesWholeWords(tables.pretokenizer);
  if (file.Find("tokenizer.chat_template") != nullptr) {
    tables.chat_template = file.String("tokenizer.chat_template");
  }
  const auto& tokens = Array<std::string_view>(file, "tokenizer.ggml.tokens");
  tables.tokens.assign(tokens.begin(), tokens.end());
  tables.types = ReadTypes(file, tokens.size());
  tables.merges = ReadMerges(file);
  tables.bos = ReadTokenId(file, "tokenizer.ggml.bos_token_id", tokens.size());
  tables.eos = ReadTokenId(file, "tokenizer.ggml.eos_token_id", tokens.size());
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    tables.ends.push_back(ReadTokenId(file, key, tokens.size()));
  }
  for (const char* key : {"model", "pre", "tokens", "token_type", "merges"}) {
    const std::string_view raw = file.RawValue(std::string("tokenizer.ggml.") + key);
    tables.fingerprint += std::string("\n") + key + " " + std::to_string(raw.size()) + "\n";
    tables.fingerprint += raw;
  }
  return MakeTokenizer(std::move(tables));
}

}  // namespace eidetic::model
