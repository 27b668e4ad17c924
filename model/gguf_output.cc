#include "model/gguf_output.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string_view>

#include "model/atomic_file.h"
#include "model/error.h"
#include "model/half.h"
#include "model/text.h"

namespace eidetic::model {
namespace {

std::string MadeBytes(const GgufSource& source) {
  const std::vector<float> values = source.values();
  const bool half = source.type == GgmlType::kF16;
  const float overflow = half ? kHalfOverflow : std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::fabs(values[i]) < overflow) continue;
    throw Error(ErrorCode::kInvalidArgument,
                "tensor " + Quoted(source.name) + " would hold " + std::to_string(values[i]) +
                    " at " + std::to_string(i) + ", which is no number of " +
                    GgmlTypeName(source.type),
                half ? "write it as F32" : "");
  }
  if (!half) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
  }
  std::string bytes;
  bytes.reserve(values.size() * sizeof(uint16_t));
  for (const float value : values) {
    const uint16_t bits = RoundToHalf(value);
    bytes += static_cast<char>(bits & 0xff);
    bytes += static_cast<char>(bits >> 8);
  }
  return bytes;
}

}  // namespace

void RefuseOverwriting(const std::string& input, const std::string& output) {
  std::error_code ignored;
  if (std::filesystem::equivalent(input, output, ignored)) {
    throw Error(ErrorCode::kInvalidArgument, output + " is an input of the merge",
                "choose another output path");
  }
}

void RefuseReplacingOthers(const std::string& output) {
  char magic[4] = {};
  std::ifstream file(output, std::ios::binary);
  file.read(magic, sizeof magic);
  if (file.gcount() > 0 && std::string_view(magic, sizeof magic) != "GGUF") {
    throw Error(ErrorCode::kInvalidArgument, output + " is a file that is no GGUF",
                "choose another output path, or remove it first");
  }
}

void WriteGguf(const GgufFile& file, const std::vector<GgufSource>& sources, GgufWriter* writer,
               const std::string& path,
               const std::function<bool(uint64_t done, uint64_t total)>& progress) {
  for (const GgufSource& source : sources) {
    writer->AddTensor(source.name, source.shape, source.type);
  }
  const std::string header = writer->Header();
  const uint64_t total = header.size() + writer->data_bytes();
  uint64_t done = 0;
  const auto advance = [&](uint64_t bytes) {
    done += bytes;
    if (progress && !progress(done, total)) {
      throw Error(ErrorCode::kCancelled, "the merge into " + path + " was cancelled", {});
    }
  };
  AtomicFile output(path);
  output.Write(header.data(), header.size());
  advance(header.size());
  const char zeros[GgufWriter::kAlignment] = {};
  for (const GgufSource& source : sources) {
    uint64_t bytes;
    if (source.base != nullptr) {
      bytes = source.base->bytes;
      output.Write(file.TensorData(*source.base), bytes);
    } else {
      const std::string made = MadeBytes(source);
      bytes = made.size();
      output.Write(made.data(), bytes);
    }
    output.Write(zeros, GgufWriter::Padding(bytes));
    advance(bytes + GgufWriter::Padding(bytes));
  }
  output.Commit();
}

}  // namespace eidetic::model
