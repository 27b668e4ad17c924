// Which files a run is trained on and measured on, each known by its content.
//
// No LibTorch in here.
#ifndef EIDETIC_MODEL_TRAIN_TEXT_RECORD_H_
#define EIDETIC_MODEL_TRAIN_TEXT_RECORD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "model/train/token_cache.h"

namespace eidetic::model {

struct TextRecord {
  std::string path;    // as it was given
  uint64_t bytes = 0;  // of the file
  std::string hash;    // XXH3-128 of them, 32 hexadecimal digits
};

struct TuneTexts {
  std::vector<TextRecord> train, held_out;  // in the order in which they are read
};

// Reads all of each file once. `progress` is called on large ones; false: stop. Throws Error: as
// TrainingFile does (model/train/training_text.h), kCancelled.
std::vector<TextRecord> RecordTexts(const std::vector<std::string>& files,
                                    const TokenCacheProgress& progress);

// Throws Error kInvalidArgument when a file is trained on and held out, or a copy of it is; names
// both.
void CheckHeldOutIsApart(const TuneTexts& texts);

// "changed: a.txt; added: b.txt, c.txt; removed: d.txt". A file that has but another name is the
// same. "the same files in another order" where that is all; empty when nothing differs.
std::string TextDifferences(const std::vector<TextRecord>& was, const std::vector<TextRecord>& is);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_TEXT_RECORD_H_
