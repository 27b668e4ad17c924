// An adapter held against the base that it is to change, and the tensors that come of both.
#ifndef EIDETIC_MODEL_ADAPTER_FIT_H_
#define EIDETIC_MODEL_ADAPTER_FIT_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/adapter_file.h"
#include "model/checkpoint.h"
#include "model/folder_tensors.h"

namespace eidetic::model {

// Immutable and thread-safe. Tensors are named as in Checkpoint, so as in GGUF; what `transformers`
// calls a module, and in which order the base has its rows, is folder_tensors.h's affair.
class AdapterFit {
 public:
  // Throws Error: kMismatch, naming modules, when the adapter changes what the base does not have
  // or has in another shape, lacks what its configuration says that it changes, or changes what
  // that does not say; kUnsupported for bases whose order of rows is not known.
  AdapterFit(std::shared_ptr<const Checkpoint> base, std::shared_ptr<const AdapterFile> adapter);

  const Checkpoint& base() const { return *base_; }
  const AdapterFile& adapter() const { return *adapter_; }

  // The tensors that are not the base's, ascending. Where embedding and output matrix were tied and
  // the adapter changes one of them alone, "output.weight" is among them: they are untied.
  std::vector<std::string> Changed() const;
  bool Changes(const std::string& tensor) const { return parts_.contains(tensor); }
  // False for an output matrix that is the base's embedding as it was.
  bool ChangesValues(const std::string& tensor) const;
  bool Unties() const { return unties_; }
  const std::vector<uint64_t>& Shape(const std::string& tensor) const;
  // The base's tensor that a changed one is made of.
  const std::string& BaseTensor(const std::string& tensor) const;
  // Of a changed tensor, W + scale * B A: products and sums in double, rounded once. The same bits
  // whatever the number of threads.
  void Read(const std::string& tensor, float* values) const;

 private:
  struct Part {
    FolderTensor form;
    std::string base;  // the tensor of the base
    const LowRank* low_rank = nullptr;
    const SafeTensor* whole = nullptr;
  };
  class Builder;
  void AddLowRank(const Part& part, float* values) const;

  const std::shared_ptr<const Checkpoint> base_;
  const std::shared_ptr<const AdapterFile> adapter_;
  std::map<std::string, Part> parts_;
  bool unties_ = false;
};

// The base with the adapter applied, as a model is loaded from it, with the rotary scaling that the
// adapter was trained with. path(), files() and the tokenizer are the base's. Throws as AdapterFit
// does.
std::shared_ptr<const Checkpoint> WithAdapter(std::shared_ptr<const Checkpoint> base,
                                              std::shared_ptr<const AdapterFile> adapter);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_ADAPTER_FIT_H_
