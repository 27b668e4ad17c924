#include "model/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "model/error.h"

namespace eidetic::model {
namespace {

constexpr char kStateVersion = 1;

[[noreturn]] void FailOption(const char* name, double value, const char* range) {
  throw Error(ErrorCode::kInvalidArgument,
              std::string("sampling option ") + name + " is " + std::to_string(value) +
                  ", not within " + range,
              "correct it, or leave it 0 to turn it off");
}

struct Candidate {
  int32_t token;
  double logit;
  double weight;  // exp(logit - highest logit); the probability but for its scale
};

// Most probable first; of equals the lowest id, so that the order never depends on the algorithm.
bool Before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// The finite logits, with the penalty applied once to each token of `recent`.
std::vector<Candidate> Penalised(const std::vector<float>& logits,
                                 const std::vector<int32_t>& recent, double penalty) {
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  std::vector<bool> seen(logits.size(), false);
  for (const int32_t token : recent) {
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "recent token " + std::to_string(token) + " is not within the vocabulary of " +
                      std::to_string(logits.size()),
                  {});
    }
    seen[static_cast<size_t>(token)] = true;
  }
  for (size_t i = 0; i < logits.size(); ++i) {
    double logit = logits[i];
    if (!std::isfinite(logit)) continue;
    if (seen[i]) logit = logit > 0 ? logit / penalty : logit * penalty;
    candidates.push_back({static_cast<int32_t>(i), logit, 0});
  }
  if (candidates.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "none of the " + std::to_string(logits.size()) + " logits is a finite number", {});
  }
  return candidates;
}

void KeepTopK(int top_k, std::vector<Candidate>* candidates) {
  const auto kept = static_cast<size_t>(top_k);
  if (top_k == 0 || kept >= candidates->size()) return;
  std::nth_element(candidates->begin(), candidates->begin() + top_k, candidates->end(), Before);
  candidates->resize(kept);
}

void Weigh(double temperature, std::vector<Candidate>* candidates) {
  const double highest = std::min_element(candidates->begin(), candidates->end(), Before)->logit;
  for (Candidate& candidate : *candidates) {
    candidate.weight = std::exp((candidate.logit - highest) / temperature);
  }
}

// The fewest of the most probable that together reach top_p. A heap gives them up one by one: few
// are needed as a rule, and sorting a whole vocabulary takes milliseconds.
void KeepTopP(double top_p, std::vector<Candidate>* candidates) {
  if (top_p == 0 || top_p == 1) return;
  const double total =
      std::accumulate(candidates->begin(), candidates->end(), 0.0,
                      [](double sum, const Candidate& each) { return sum + each.weight; });
  const auto after = [](const Candidate& a, const Candidate& b) { return Before(b, a); };
  std::make_heap(candidates->begin(), candidates->end(), after);
  std::vector<Candidate> kept;
  double sum = 0;
  while (!candidates->empty() && sum < top_p * total) {
    std::pop_heap(candidates->begin(), candidates->end(), after);
    kept.push_back(candidates->back());
    sum += kept.back().weight;
    candidates->pop_back();
  }
  *candidates = std::move(kept);
}

void KeepMinP(double min_p, std::vector<Candidate>* candidates) {
  if (min_p == 0) return;  // the highest weight is 1
  std::erase_if(*candidates, [&](const Candidate& each) { return each.weight < min_p; });
}

int32_t Draw(double uniform, std::vector<Candidate>* candidates) {
  std::sort(candidates->begin(), candidates->end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
  double total = 0;
  for (const Candidate& candidate : *candidates) total += candidate.weight;
  double left = uniform * total;
  for (const Candidate& candidate : *candidates) {
    left -= candidate.weight;
    if (left < 0) return candidate.token;
  }
  // Rounding left nothing to the last ones: the last that can be drawn at all.
  const auto last = std::find_if(candidates->rbegin(), candidates->rend(),
                                 [](const Candidate& each) { return each.weight > 0; });
  return last->token;
}

uint64_t SplitMix64(uint64_t* state) {
  *state += 0x9e3779b97f4a7c15u;
  uint64_t mixed = *state;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
  return mixed ^ (mixed >> 31);
}

uint64_t Xoshiro256StarStar(uint64_t* s) {
  const uint64_t result = std::rotl(s[1] * 5, 7) * 9;
  const uint64_t shifted = s[1] << 17;
  s[2] ^= s[0];
  s[3] ^= s[1];
  s[1] ^= s[2];
  s[0] ^= s[3];
  s[2] ^= shifted;
  s[3] = std::rotl(s[3], 45);
  return result;
}

}  // namespace

// Written so that NaN fails each of them.
void CheckSamplingOptions(const SamplingOptions& options) {
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!finite(options.temperature) || !(options.temperature >= 0)) {
    FailOption("temperature", options.temperature, "0 and above");
  }
  if (options.top_k < 0) FailOption("top_k", options.top_k, "0 and above");
  if (!(options.top_p >= 0 && options.top_p <= 1)) FailOption("top_p", options.top_p, "0 to 1");
  if (!(options.min_p >= 0 && options.min_p <= 1)) FailOption("min_p", options.min_p, "0 to 1");
  if (!finite(options.repetition_penalty) || !(options.repetition_penalty > 0)) {
    FailOption("repetition_penalty", options.repetition_penalty, "above 0");
  }
}

Sampler::Sampler(uint64_t seed) {
  for (uint64_t& word : state_) word = SplitMix64(&seed);
}

int32_t Sampler::Sample(const std::vector<float>& logits, const std::vector<int32_t>& recent,
                        const SamplingOptions& options) {
  CheckSamplingOptions(options);
  std::vector<Candidate> candidates = Penalised(logits, recent, options.repetition_penalty);
  if (options.temperature == 0) {
    return std::min_element(candidates.begin(), candidates.end(), Before)->token;
  }
  KeepTopK(options.top_k, &candidates);
  Weigh(options.temperature, &candidates);
  KeepTopP(options.top_p, &candidates);
  KeepMinP(options.min_p, &candidates);
  const double uniform = static_cast<double>(Xoshiro256StarStar(state_) >> 11) * 0x1p-53;  // [0, 1)
  return Draw(uniform, &candidates);
}

std::string Sampler::Serialize() const {
  std::string bytes(1, kStateVersion);
  for (const uint64_t word : state_) {
    for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(word >> shift & 0xff);
  }
  return bytes;
}

void Sampler::Restore(const std::string& state) {
  const size_t expected = 1 + sizeof(state_);
  if (state.size() != expected || state[0] != kStateVersion) {
    throw Error(ErrorCode::kCorruption,
                "a sampler's state has " + std::to_string(state.size()) + " bytes" +
                    (state.empty() ? "" : " and version " + std::to_string(state[0])) + ", not " +
                    std::to_string(expected) + " bytes of version " + std::to_string(kStateVersion),
                "restore the archive from a backup");
  }
  uint64_t words[4] = {};
  for (size_t i = 0; i < 32; ++i) {
    words[i / 8] |= static_cast<uint64_t>(static_cast<uint8_t>(state[1 + i])) << (i % 8 * 8);
  }
  if ((words[0] | words[1] | words[2] | words[3]) == 0) {  // from there only zeros would follow
    throw Error(ErrorCode::kCorruption, "a sampler's state is all zeros",
                "restore the archive from a backup");
  }
  std::copy(words, words + 4, state_);
}

}  // namespace eidetic::model
