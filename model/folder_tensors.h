// How the tensors of `transformers` stand for those that the loader of weights asks for.
#ifndef EIDETIC_MODEL_FOLDER_TENSORS_H_
#define EIDETIC_MODEL_FOLDER_TENSORS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/config.h"

namespace eidetic::model {

inline constexpr char kEmbedding[] = "model.embed_tokens.weight";
inline constexpr char kOutputMatrix[] = "lm_head.weight";

struct FolderTensor {
  // What is done to the values.
  enum class Form {
    kAsIs,
    kHalfSplitRows,  // rows of each head become interleaved: row s d/2 + i goes to row 2 i + s
    kLogOfDecay      // A_log becomes A = -exp(A_log)
  };
  std::string name;             // in GGUF
  std::vector<uint64_t> shape;  // likewise
  std::string source;           // in `transformers`
  std::vector<uint64_t> source_shape;
  Form form = Form::kAsIs;
  uint64_t first_value = 0;  // of the source's: where this tensor's part of it begins
  uint64_t head_dim = 0;     // kHalfSplitRows: rows of a head

  uint64_t Values() const;  // as many as `shape` has
  // Calls `read` for this tensor's values in the source's order and turns them into `values`.
  void Convert(const std::function<void(float*)>& read, float* values) const;
  // The way back: this tensor's values to the source's order, as many. A_log is rounded once more.
  void Revert(const float* values, float* source) const;

 private:
  uint64_t HalfSplitRow(uint64_t row) const;  // where a row of ours is in the source
};

// Every tensor that a model of this configuration has, by the names and layouts of LlamaForCausalLM
// ("llama") or GraniteMoeHybridForCausalLM ("granitehybrid").
std::vector<FolderTensor> FolderTensorsOf(const ModelConfig& config);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_FOLDER_TENSORS_H_
