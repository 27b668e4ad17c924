// Rotary positions made to reach further than a model was trained. No Torch in here.
//
// Of n rotated numbers of a head, pair i turns by base^(-2 i / n) a position. With f = factor:
//   "linear"  all of them divided by f. Chen et al., arXiv 2306.15595
//   "ntk"     the base becomes base f^(n / (n - 2)): the slowest pair turns f times slower, the
//             fastest as ever. Peng et al., arXiv 2309.00071, section 3.1
//   "yarn"    divided by f where a pair turns less than beta_slow times within original_context
//             tokens, left alone where more than beta_fast times, a mixture in between; and rotated
//             keys and queries are multiplied by attention_factor, which makes scores larger by its
//             square. The same paper, sections 3.2 to 3.4, as `transformers` and llama.cpp have it
#ifndef EIDETIC_MODEL_ROTARY_SCALING_H_
#define EIDETIC_MODEL_ROTARY_SCALING_H_

#include <cstdint>
#include <string>
#include <vector>

namespace eidetic::model {

enum class RotaryScalingKind : uint8_t { kNone, kLinear, kNtk, kYarn };  // stand in fingerprints

struct RotaryScaling {
  RotaryScalingKind kind = RotaryScalingKind::kNone;
  double factor = 1;                     // f, 1 or more
  double original_context = 0;           // kYarn: tokens; 0: what the model says it was trained on
  double beta_fast = 32, beta_slow = 1;  // kYarn: turns; the first is larger
  double attention_factor = 0;           // kYarn; 0: 0.1 ln f + 1
  bool operator==(const RotaryScaling&) const = default;
};

// "none", or "linear:F", "ntk:F", "yarn:F", "yarn:F:ORIGINAL_CONTEXT". Throws Error
// kInvalidArgument for anything else.
RotaryScaling ParseRotaryScaling(const std::string& text);

// What ParseRotaryScaling reads back as the same, of one that it gave; "none" too.
std::string RotaryScalingText(const RotaryScaling& scaling);

// What is wrong with a scaling, for a message behind its place ("factor is 0.5, ..."); empty:
// nothing.
std::string ProblemOf(const RotaryScaling& scaling);

// The angle of each pair per position: [dims / 2]. `scaling` has no problem.
std::vector<double> RotaryFrequencies(int dims, double base, const RotaryScaling& scaling);
// The base that "ntk" rotates by, in place of `base`.
double NtkBase(int dims, double base, double factor);
// What rotated keys and queries are multiplied by.
double RotaryLength(const RotaryScaling& scaling);

// All that changes keys or logits, as text for a fingerprint; empty without scaling.
std::string DescribeRotaryScaling(const RotaryScaling& scaling);

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_ROTARY_SCALING_H_
