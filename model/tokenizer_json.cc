#include "model/tokenizer_json.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "model/error.h"
#include "model/json_file.h"
#include "model/mapped_file.h"
#include "model/pretokenizer.h"
#include "model/text.h"
#include "model/tokenizer_tables.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

// The value at `key` of an object; null when there is none.
const json& At(const json& object, const char* key) {
  static const json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

bool IsTrue(const json& object, const char* key, bool fallback) {
  const json& value = At(object, key);
  return value.is_boolean() ? value.get<bool>() : fallback;
}

[[noreturn]] void Refuse(const JsonFile& file, const char* key, const std::string& problem) {
  file.Fail(ErrorCode::kUnsupported, key, problem);
}

// ByteLevel as the last step: it writes bytes, and may split as GPT-2 does.
bool IsByteLevel(const json& step, bool use_regex) {
  return At(step, "type") == "ByteLevel" && !IsTrue(step, "add_prefix_space", true) &&
         IsTrue(step, "use_regex", true) == use_regex;
}

// The expression of a Split that keeps all of a text. Removed and inverted is the same as isolated
// for those known here, in which every character matches something.
std::string SplitExpression(const json& step) {
  const bool inverted = IsTrue(step, "invert", false);
  const bool keeps = At(step, "behavior") == (inverted ? "Removed" : "Isolated");
  const json& expression = At(At(step, "pattern"), "Regex");
  if (At(step, "type") != "Split" || !keeps || !expression.is_string()) return {};
  return expression.get<std::string>();
}

// The name that GGUF files give to this chain of pre-tokenizers.
std::string PretokenizerName(const JsonFile& file) {
  const json& rule = At(file.root(), "pre_tokenizer");
  const json& steps = At(rule, "pretokenizers");
  std::string name;
  if (IsByteLevel(rule, true)) {
    name = "gpt-2";
  } else if (At(rule, "type") == "Sequence" && steps.is_array() && steps.size() == 2) {
    if (At(steps[0], "type") == "Digits" && IsTrue(steps[0], "individual_digits", false) &&
        IsByteLevel(steps[1], true)) {
      name = "smollm";
    } else if (IsByteLevel(steps[1], false)) {
      name = PretokenizerOfExpression(SplitExpression(steps[0]));
    }
  }
  if (!name.empty()) return name;
  Refuse(file, "pre_tokenizer",
         "is " + Quoted(rule.dump()) +
             "; supported is ByteLevel (no add_prefix_space) alone, behind Digits "
             "(individual_digits), or behind a Split by the expression of a model that "
             "docs/models.md lists");
}

// Everything else that decides which tokens a text becomes.
void CheckRules(const JsonFile& file) {
  if (const json& normalizer = At(file.root(), "normalizer"); !normalizer.is_null()) {
    Refuse(file, "normalizer", "is " + Quoted(normalizer.dump()) + "; supported is none");
  }
  if (const json& decoder = At(file.root(), "decoder"); At(decoder, "type") != "ByteLevel") {
    Refuse(file, "decoder", "is " + Quoted(decoder.dump()) + "; supported is ByteLevel");
  }
  const json& model = At(file.root(), "model");
  if (!model.is_object()) file.Fail(ErrorCode::kCorruption, "model", "is missing or no object");
  if (const json& type = At(model, "type"); !type.is_null() && type != "BPE") {
    Refuse(file, "model", "has the type " + Quoted(type.dump()) + "; supported is BPE");
  }
  if (IsTrue(model, "byte_fallback", false)) Refuse(file, "model", "has byte_fallback");
  for (const char* part : {"continuing_subword_prefix", "end_of_word_suffix", "dropout"}) {
    const json& value = At(model, part);
    if (!value.is_null() && value != "" && value != 0) {
      Refuse(file, "model", "has " + std::string(part) + " " + Quoted(value.dump()));
    }
  }
}

// An id within the vocabulary; throws otherwise.
int32_t Id(const JsonFile& file, const char* key, const std::string& name, const json& id,
           size_t vocabulary) {
  if (!id.is_number_unsigned() || id.get<uint64_t>() >= vocabulary) {
    file.Fail(ErrorCode::kCorruption, key,
              "gives " + Quoted(name) + " the id " + Quoted(id.dump()) +
                  ", which is none of the vocabulary of " + std::to_string(vocabulary));
  }
  return id.get<int32_t>();
}

void ReadVocabulary(const JsonFile& file, size_t vocabulary, TokenizerTables* tables) {
  const json& tokens = At(At(file.root(), "model"), "vocab");
  if (!tokens.is_object()) {
    file.Fail(ErrorCode::kCorruption, "model", "has no vocab, or one that is no object");
  }
  tables->tokens.assign(vocabulary, "");
  tables->types.assign(vocabulary, kUnusedToken);
  for (const auto& [name, id] : tokens.items()) {
    const auto token = static_cast<size_t>(Id(file, "vocab", name, id, vocabulary));
    if (tables->types[token] != kUnusedToken) {
      file.Fail(ErrorCode::kCorruption, "vocab",
                "gives the id " + std::to_string(token) + " to " + Quoted(tables->tokens[token]) +
                    " and to " + Quoted(name));
    }
    tables->tokens[token] = name;
    tables->types[token] = kNormalToken;
  }
}

// Tokens that are found in the text before it is split: the special ones are control tokens.
void ReadAddedTokens(const JsonFile& file, TokenizerTables* tables) {
  const char* key = "added_tokens";
  const json& added = At(file.root(), key);
  if (added.is_null()) return;
  if (!added.is_array()) file.Fail(ErrorCode::kCorruption, key, "is no array");
  for (const json& entry : added) {
    const json& content = At(entry, "content");
    if (!content.is_string() || content.get_ref<const std::string&>().empty()) {
      file.Fail(ErrorCode::kCorruption, key, "holds a token without content");
    }
    const std::string name = content.get<std::string>();
    for (const char* flag : {"lstrip", "rstrip", "single_word"}) {
      if (IsTrue(entry, flag, false)) {
        Refuse(file, key, "gives " + Quoted(name) + " the rule " + flag);
      }
    }
    const auto token =
        static_cast<size_t>(Id(file, key, name, At(entry, "id"), tables->tokens.size()));
    if (tables->types[token] != kUnusedToken && tables->tokens[token] != name) {
      file.Fail(ErrorCode::kCorruption, key,
                "gives " + Quoted(name) + " the id of " + Quoted(tables->tokens[token]));
    }
    tables->tokens[token] = name;
    tables->types[token] = IsTrue(entry, "special", false) ? kControlToken : kUserDefinedToken;
  }
}

// "a b", or ["a", "b"] since names may hold spaces.
void ReadMerges(const JsonFile& file, TokenizerTables* tables) {
  const json& merges = At(At(file.root(), "model"), "merges");
  if (!merges.is_array()) file.Fail(ErrorCode::kCorruption, "merges", "is missing or no array");
  tables->merges.reserve(merges.size());
  for (const json& merge : merges) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      tables->merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : "";
    const size_t space = text.find(' ', 1);
    if (space == std::string::npos) {
      file.Fail(ErrorCode::kCorruption, "merges",
                "has at " + std::to_string(tables->merges.size()) + " " + Quoted(merge.dump()) +
                    ", which is not a pair");
    }
    tables->merges.emplace_back(text.substr(0, space), text.substr(space + 1));
  }
}

// Tables that differ give texts that differ.
std::string FingerprintOf(const TokenizerTables& tables) {
  std::string text = "\nfolder\npre " + tables.pretokenizer + "\ntokens\n";
  const auto add = [&text](const std::string& name) {
    text += std::to_string(name.size()) + ":" + name;
  };
  for (size_t i = 0; i < tables.tokens.size(); ++i) {
    text += std::to_string(tables.types[i]) + " ";
    add(tables.tokens[i]);
  }
  text += "\nmerges\n";
  for (const auto& [left, right] : tables.merges) {
    add(left);
    add(right);
  }
  return text;
}

// Which tokens begin and end texts, and how a chat is written.
class Settings {
 public:
  explicit Settings(const ModelFolderFiles& files)
      : files_(files), config_(files.config, kDownload) {
    if (!files.tokenizer_config.empty()) tokenizer_.emplace(files.tokenizer_config, kDownload);
    if (!files.generation_config.empty()) generation_.emplace(files.generation_config, kDownload);
  }

  void AddTo(TokenizerTables* tables) const {
    tables->bos = Named("bos_token", *tables);
    tables->eos = Named("eos_token", *tables);
    const size_t vocabulary = tables->tokens.size();
    for (const JsonFile* file : {generation_ ? &*generation_ : nullptr, &config_}) {
      if (file == nullptr) continue;
      const std::vector<int32_t> ends = Ids(*file, "eos_token_id", vocabulary);
      tables->ends.insert(tables->ends.end(), ends.begin(), ends.end());
      if (tables->eos < 0 && !ends.empty()) tables->eos = ends[0];
      const std::vector<int32_t> begins = Ids(*file, "bos_token_id", vocabulary);
      if (tables->bos < 0 && !begins.empty()) tables->bos = begins[0];
    }
    tables->chat_template = ChatTemplate();
  }

 private:
  // "<s>", or {"content": "<s>", ...}
  int32_t Named(const char* key, const TokenizerTables& tables) const {
    const json* value = tokenizer_ ? tokenizer_->Find(key) : nullptr;
    if (value == nullptr) return -1;
    const json& name = value->is_object() ? At(*value, "content") : *value;
    if (!name.is_string()) tokenizer_->Fail(ErrorCode::kCorruption, key, "is no token");
    const auto found =
        std::find(tables.tokens.begin(), tables.tokens.end(), name.get_ref<const std::string&>());
    if (found == tables.tokens.end()) {
      tokenizer_->Fail(
          ErrorCode::kCorruption, key,
          "is " + Quoted(name.get<std::string>()) + ", which " + tables.path + " does not hold");
    }
    return static_cast<int32_t>(found - tables.tokens.begin());
  }

  // One number or several.
  static std::vector<int32_t> Ids(const JsonFile& file, const char* key, size_t vocabulary) {
    const json* value = file.Find(key);
    std::vector<int32_t> ids;
    if (value == nullptr) return ids;
    const json several = value->is_array() ? *value : json::array({*value});
    for (const json& id : several) ids.push_back(Id(file, key, key, id, vocabulary));
    return ids;
  }

  // The file, or the text, or the one of several texts that is called "default".
  std::string ChatTemplate() const {
    if (!files_.chat_template.empty()) {
      const MappedFile file = MapFile(files_.chat_template);
      std::string text(reinterpret_cast<const char*>(file.data), file.size);
      Unmap(file);
      return text;
    }
    const json* value = tokenizer_ ? tokenizer_->Find("chat_template") : nullptr;
    if (value == nullptr) return "";
    if (value->is_string()) return value->get<std::string>();
    if (value->is_array()) {
      for (const json& entry : *value) {
        const json& text = At(entry, "template");
        if (At(entry, "name") == "default" && text.is_string()) return text.get<std::string>();
      }
    }
    return "";
  }

  const ModelFolderFiles& files_;
  const JsonFile config_;
  std::optional<JsonFile> tokenizer_, generation_;
};

}  // namespace

std::shared_ptr<const Tokenizer> TokenizerFromFolder(const ModelFolderFiles& files,
                                                     int vocabulary) {
  const JsonFile file(files.tokenizer, kDownload);
  TokenizerTables tables;
  tables.path = files.tokenizer;
  CheckRules(file);
  tables.pretokenizer = PretokenizerName(file);
  tables.whole_words = IsTrue(At(file.root(), "model"), "ignore_merges", false);
  tables.has_unknown_token = !At(At(file.root(), "model"), "unk_token").is_null();
  ReadVocabulary(file, static_cast<size_t>(vocabulary), &tables);
  ReadAddedTokens(file, &tables);
  ReadMerges(file, &tables);
  for (size_t i = 0; i < tables.tokens.size(); ++i) {
    // As converters to GGUF call them.
    if (tables.types[i] == kUnusedToken) tables.tokens[i] = "[PAD" + std::to_string(i) + "]";
  }
  Settings(files).AddTo(&tables);
  tables.fingerprint = FingerprintOf(tables);
  return MakeTokenizer(std::move(tables));
}

}  // namespace eidetic::model
