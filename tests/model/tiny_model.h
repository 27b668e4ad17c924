// A random model of four small layers (tests/parity/make_tiny_granite.py), and what tests need
// around it: streams of tokens, a sink that remembers, logits by name.
#ifndef EIDETIC_TESTS_MODEL_TINY_MODEL_H_
#define EIDETIC_TESTS_MODEL_TINY_MODEL_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "model/hybrid_model.h"
#include "model/safetensors.h"

namespace eidetic::model {

// The value of an environment variable, for programs that run where they were not built.
inline std::string FromEnvironment(const char* variable, const char* usual) {
  const char* value = std::getenv(variable);
  return value == nullptr ? usual : value;
}

inline std::string ParityFile(const std::string& name) {
  return FromEnvironment("EIDETIC_TEST_PARITY_DIR", EIDETIC_PARITY_DIR) + "/" + name;
}

// The device that tests compute on: EIDETIC_TEST_DEVICE, or the CPU. Tolerances are the same.
inline std::string TestDevice() {
  return FromEnvironment("EIDETIC_TEST_DEVICE", "cpu");
}

inline const HybridModel& TinyModel() {
  static const std::shared_ptr<const HybridModel> model = HybridModel::Load(
      GgufFile::Open(ParityFile("tiny_granite.gguf")), LoadOptions{TestDevice(), /*threads=*/1});
  return *model;
}

// Layers m a m a: attention layers 1 and 3.
inline AttentionOptions TinyOptions(AttentionMode mode) {
  AttentionOptions options;
  options.mode = mode;
  options.window = 16;
  options.sinks = 8;
  options.block_tokens = 4;
  options.query_offset = 16;
  return options;
}

inline std::vector<int32_t> RandomTokens(int count, int vocabulary, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocabulary);
  return tokens;
}

inline std::vector<int32_t> Slice(const std::vector<int32_t>& tokens, size_t first, size_t count) {
  count = std::min(count, tokens.size() - first);
  return {tokens.begin() + static_cast<int64_t>(first),
          tokens.begin() + static_cast<int64_t>(first + count)};
}

// Reads `tokens` in segments; returns the logits of all of them.
inline std::vector<float> Read(const HybridModel& model, ModelState* state,
                               const std::vector<int32_t>& tokens, size_t segment,
                               ForwardOptions options = {}) {
  std::vector<float> all, part;
  for (size_t first = 0; first < tokens.size(); first += segment) {
    const std::vector<int32_t> ids = Slice(tokens, first, segment);
    options.logit_rows = static_cast<int64_t>(ids.size());
    model.Forward(ids, state, options, &part);
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

inline double LargestDifference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= largest)) largest = difference;  // NaN counts
  }
  return largest;
}

inline std::vector<float> Floats(const SafeTensor& tensor) {
  std::vector<float> values(tensor.bytes / sizeof(float));
  std::memcpy(values.data(), tensor.data, tensor.bytes);
  return values;
}

inline std::vector<int32_t> Integers(const SafeTensor& tensor) {
  std::vector<int32_t> values;
  for (uint64_t at = 0; at < tensor.bytes; at += tensor.dtype == "I64" ? 8 : 4) {
    int32_t value;  // the low half of an I64; ids are small and not negative
    std::memcpy(&value, tensor.data + at, sizeof(value));
    values.push_back(value);
  }
  return values;
}

// Keeps every run it is given.
class RecordingSink : public BlockSink {
 public:
  struct Run {
    uint64_t position;
    std::vector<int32_t> ids;
    std::vector<int> layers;
    std::vector<std::vector<float>> keys, values;  // per layer [tokens, kv_heads, head_dim]
  };
  explicit RecordingSink(int row) : row_(row) {}
  void Accept(const EvictedRun& run) override {
    Run copy;
    copy.position = run.position;
    copy.ids.assign(run.token_ids, run.token_ids + run.tokens);
    copy.layers.assign(run.layer_ids, run.layer_ids + run.layers);
    const size_t count = static_cast<size_t>(run.tokens) * row_;
    for (int layer = 0; layer < run.layers; ++layer) {
      copy.keys.emplace_back(run.keys[layer], run.keys[layer] + count);
      copy.values.emplace_back(run.values[layer], run.values[layer] + count);
    }
    runs.push_back(std::move(copy));
  }
  // All runs put together.
  Run Joined() const {
    Run all = runs.front();
    for (size_t i = 1; i < runs.size(); ++i) {
      all.ids.insert(all.ids.end(), runs[i].ids.begin(), runs[i].ids.end());
      for (size_t layer = 0; layer < all.keys.size(); ++layer) {
        all.keys[layer].insert(all.keys[layer].end(), runs[i].keys[layer].begin(),
                               runs[i].keys[layer].end());
        all.values[layer].insert(all.values[layer].end(), runs[i].values[layer].begin(),
                                 runs[i].values[layer].end());
      }
    }
    return all;
  }
  std::vector<Run> runs;

 private:
  int row_;
};

}  // namespace eidetic::model

#endif  // EIDETIC_TESTS_MODEL_TINY_MODEL_H_
