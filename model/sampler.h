// From logits to a token: repetition penalty, top-k, temperature, top-p, min-p, a seeded draw, in
// this order. top-p and min-p look at the probabilities that temperature and top-k left.
#ifndef EIDETIC_MODEL_SAMPLER_H_
#define EIDETIC_MODEL_SAMPLER_H_

#include <cstdint>
#include <string>
#include <vector>

namespace eidetic::model {

struct SamplingOptions {
  float temperature = 0;         // 0: greedy (ties: the lowest id)
  int top_k = 0;                 // 0: off
  float top_p = 0;               // 0: off; otherwise (0, 1]
  float min_p = 0;               // 0: off; otherwise (0, 1]
  float repetition_penalty = 1;  // > 0; divides positive and multiplies negative logits
};

// Throws kInvalidArgument for an option out of range.
void CheckSamplingOptions(const SamplingOptions& options);

// Not thread-safe. The same seed and logits give the same draws on every machine (rule 9).
class Sampler {
 public:
  explicit Sampler(uint64_t seed);
  // `recent`: the tokens the repetition penalty looks at; each counts once. Logits that are not
  // finite are never chosen. Greedy sampling draws nothing. Throws kInvalidArgument for an option
  // out of range, an unknown recent token, or logits that hold no finite number.
  int32_t Sample(const std::vector<float>& logits, const std::vector<int32_t>& recent,
                 const SamplingOptions& options);
  // The generator's state, to be saved with a session: a version byte and 32 bytes.
  std::string Serialize() const;
  void Restore(const std::string& state);  // throws kCorruption

 private:
  uint64_t state_[4];  // xoshiro256**
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_SAMPLER_H_
