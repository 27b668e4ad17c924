// Folders as `transformers` saves models: config.json, weights in safetensors files,
// tokenizer.json.
#ifndef EIDETIC_MODEL_MODEL_FOLDER_H_
#define EIDETIC_MODEL_MODEL_FOLDER_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/checkpoint.h"

namespace eidetic::model {

// The files of a folder that are read: paths.
struct ModelFolderFiles {
  std::string config, tokenizer;
  std::vector<std::string> weights;   // ascending
  std::string index;                  // model.safetensors.index.json; empty: one file of weights
  std::map<std::string, size_t> map;  // the index's: tensor -> one of `weights`; empty without it
  // Empty where there is none: tokenizer_config.json, generation_config.json, chat_template.jinja
  std::string tokenizer_config, generation_config, chat_template;

  std::vector<std::string> All() const;  // ascending
};

// Throws Error: kNotFound naming the file that is missing, kCorruption for an index that is none or
// names a file outside of the folder. As in `transformers`, model.safetensors comes before an
// index.
ModelFolderFiles ListModelFolder(const std::string& path);

// See Checkpoint::Open.
std::shared_ptr<const Checkpoint> OpenModelFolder(const std::string& path);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_MODEL_FOLDER_H_
