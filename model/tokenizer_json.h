// A tokenizer out of a folder's tokenizer.json.
#ifndef EIDETIC_MODEL_TOKENIZER_JSON_H_
#define EIDETIC_MODEL_TOKENIZER_JSON_H_

#include <memory>

#include "model/model_folder.h"
#include "model/tokenizer.h"

namespace eidetic::model {

// `vocabulary`: rows of the embedding; ids without a token are unused. End tokens and the chat
// template come from tokenizer_config.json, generation_config.json, config.json and
// chat_template.jinja. Throws Error: kUnsupported for a normalizer, pre-tokenizer, decoder or model
// other than byte-level BPE as docs/models.md describes it, kCorruption when the tables contradict
// themselves.
std::shared_ptr<const Tokenizer> TokenizerFromFolder(const ModelFolderFiles& files, int vocabulary);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TOKENIZER_JSON_H_
