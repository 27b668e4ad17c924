// What scripts/soak tells tests that draw at random: other seeds, and to keep what a failure left.
#ifndef EIDETIC_TESTS_SEED_H_
#define EIDETIC_TESTS_SEED_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <string>

namespace eidetic::testing {

// The seed of a test that draws at random: EIDETIC_TEST_SEED, or `usual`.
inline std::uint64_t Seed(std::uint64_t usual) {
  const char* seed = std::getenv("EIDETIC_TEST_SEED");
  return seed == nullptr ? usual : std::stoull(seed);
}

// Whether the running test's files stay: it failed, and EIDETIC_TEST_KEEP is set.
inline bool KeepsFiles() {
  return ::testing::Test::HasFailure() && std::getenv("EIDETIC_TEST_KEEP") != nullptr;
}

}  // namespace eidetic::testing

#endif  // EIDETIC_TESTS_SEED_H_
