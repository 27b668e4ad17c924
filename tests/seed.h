// The seeds of tests that draw at random.
#ifndef EIDETIC_TESTS_SEED_H_
#define EIDETIC_TESTS_SEED_H_

#include <cstdint>
#include <cstdlib>
#include <string>

namespace eidetic::tests {

// EIDETIC_TEST_SEED, with which scripts/soak gives other ones, or `usual`.
inline std::uint64_t Seed(std::uint64_t usual) {
  const char* seed = std::getenv("EIDETIC_TEST_SEED");
  return seed == nullptr ? usual : std::stoull(seed);
}

}  // namespace eidetic::tests

#endif  // EIDETIC_TESTS_SEED_H_
