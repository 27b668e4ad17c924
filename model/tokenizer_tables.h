// What a byte-level BPE tokenizer is made of, whatever file it stands in.
#ifndef EIDETIC_MODEL_TOKENIZER_TABLES_H_
#define EIDETIC_MODEL_TOKENIZER_TABLES_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "model/tokenizer.h"

namespace eidetic::model {

enum TokenType : int64_t {  // as GGUF numbers them
  kNormalToken = 1,
  kUnknownToken = 2,
  kControlToken = 3,
  kUserDefinedToken = 4,
  kUnusedToken = 5
};

struct TokenizerTables {
  std::string path;                 // the file they are from, for errors
  std::string pretokenizer;         // its name (pretokenizer.h)
  std::vector<std::string> tokens;  // names in GPT-2's byte alphabet; their index is the id
  std::vector<int64_t> types;       // a TokenType for each token
  std::vector<std::pair<std::string, std::string>> merges;  // in order of rank
  bool whole_words = false;        // a word that is a token is not merged ("ignore_merges")
  int32_t bos = -1, eos = -1;      // -1: none; else within the vocabulary
  std::vector<int32_t> ends;       // further tokens that end a generation; -1 stands for none
  bool has_unknown_token = false;  // what a byte without a token becomes; not supported
  std::string chat_template;
  std::string fingerprint;  // all of the above that decides which tokens a text becomes
};

// Throws Error: kUnsupported for an unknown pre-tokenizer, kCorruption when the tables contradict
// themselves.
std::shared_ptr<const Tokenizer> MakeTokenizer(TokenizerTables tables);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TOKENIZER_TABLES_H_
