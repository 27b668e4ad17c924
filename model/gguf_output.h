// A GGUF that is made of another one: most tensors copied, some new.
#ifndef EIDETIC_MODEL_GGUF_OUTPUT_H_
#define EIDETIC_MODEL_GGUF_OUTPUT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/gguf.h"
#include "model/gguf_writer.h"

namespace eidetic::model {

// A tensor of the output: bytes of another file's, or values made when their turn comes.
struct GgufSource {
  std::string name;
  std::vector<uint64_t> shape;
  GgmlType type = GgmlType::kF32;    // of made values kF32 or kF16
  const GgufTensor* base = nullptr;  // in `file` of WriteGguf; null: made
  std::function<std::vector<float>()> values;
};

// Throws kInvalidArgument when the two are one file.
void RefuseOverwriting(const std::string& input, const std::string& output);

// Throws kInvalidArgument when `output` is a file with something in it that is no GGUF.
void RefuseReplacingOthers(const std::string& output);

// Adds the sources' tensors to `writer`, which has the metadata, and writes the file: beside
// `path`, then renamed. `progress` (may be empty) gets bytes done and in all and returns false to
// cancel. Throws Error: kNotFound, kNoSpace, kIo, kCancelled; kInvalidArgument for values that are
// not finite or too large for their type. After any of them nothing is left.
void WriteGguf(const GgufFile& file, const std::vector<GgufSource>& sources, GgufWriter* writer,
               const std::string& path,
               const std::function<bool(uint64_t done, uint64_t total)>& progress);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_GGUF_OUTPUT_H_
