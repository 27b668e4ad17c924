// What the tests of the kernels share: inputs, and the instruction sets that this machine has.
#ifndef EIDETIC_TESTS_KERNELS_TEST_NUMBERS_H_
#define EIDETIC_TESTS_KERNELS_TEST_NUMBERS_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "kernels/instruction_set.h"

namespace eidetic::kernels::testing {

inline constexpr float kNoScore = -std::numeric_limits<float>::infinity();

inline std::vector<InstructionSet> SupportedSets() {
  std::vector<InstructionSet> sets;
  for (const InstructionSet set :
       {InstructionSet::kPortable, InstructionSet::kAvx2, InstructionSet::kAvx512}) {
    if (Supports(set)) sets.push_back(set);
  }
  return sets;
}

inline std::vector<float> RandomNumbers(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(count);
  for (float& number : numbers) number = normal(random);
  return numbers;
}

}  // namespace eidetic::kernels::testing

#endif  // EIDETIC_TESTS_KERNELS_TEST_NUMBERS_H_
