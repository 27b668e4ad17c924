// Layouts and seeded random blocks for the tests of memory/.
#ifndef EIDETIC_TESTS_MEMORY_TEST_BLOCKS_H_
#define EIDETIC_TESTS_MEMORY_TEST_BLOCKS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "memory/block.h"
#include "memory/status.h"
#include "tests/temporary_folder.h"

namespace eidetic::memory::testing {

// The status's text with its code: what a failed assertion prints.
inline std::string Explain(const Status& status) {
  return "code " + std::to_string(static_cast<int>(status.code())) + ": " + status.message();
}

#define EID_ASSERT_OK(expression)                                                              \
  do {                                                                                         \
    const ::eidetic::memory::Status eid_test_status = (expression);                            \
    ASSERT_TRUE(eid_test_status.ok()) << ::eidetic::memory::testing::Explain(eid_test_status); \
  } while (false)

// EID_ASSERT_RESULT(auto value, Call());
#define EID_ASSERT_RESULT(lhs, expression) \
  EID_ASSERT_RESULT_(EID_CONCAT_(eid_test_result_, __LINE__), lhs, expression)
#define EID_ASSERT_RESULT_(name, lhs, expression)                               \
  auto name = (expression);                                                     \
  ASSERT_TRUE(name.ok()) << ::eidetic::memory::testing::Explain(name.status()); \
  lhs = std::move(name).value()

// Small enough to be fast, with more than one of everything.
inline Layout SmallLayout() {
  Layout layout;
  layout.fingerprint = std::string(64, 'a');
  layout.layers = {3, 7};
  layout.kv_heads = 2;
  layout.head_dim = 8;
  return layout;
}

// As a hybrid of 135M parameters stores it: 10 layers, 3 kv heads of 64, int8.
inline Layout HybridLayout() {
  Layout layout;
  layout.fingerprint = std::string(64, 'b');
  layout.layers = {2, 5, 8, 11, 14, 17, 20, 23, 26, 29};
  layout.kv_heads = 3;
  layout.head_dim = 64;
  return layout;
}

// The block at `position`, whose numbers depend on the seed and the position alone.
inline Block RandomBlock(const Layout& layout, uint64_t position, int tokens, uint64_t seed,
                         uint64_t bytes_per_token = 1) {
  std::mt19937_64 random(seed * 1000003 + position);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  const size_t rows = static_cast<size_t>(tokens) * static_cast<size_t>(layout.RowWidth());
  std::vector<std::vector<float>> numbers(2 * layout.layers.size(), std::vector<float>(rows));
  for (auto& row : numbers) {
    for (float& number : row) number = normal(random);
  }
  std::vector<const float*> keys, values;
  for (size_t i = 0; i < layout.layers.size(); ++i) {
    keys.push_back(numbers[2 * i].data());
    values.push_back(numbers[2 * i + 1].data());
  }
  BlockHeader header;
  header.position = position;
  for (int i = 0; i < tokens; ++i) header.tokens.push_back(static_cast<int32_t>(random() % 49152));
  header.text_begin = position * bytes_per_token;
  header.text_end = (position + static_cast<uint64_t>(tokens)) * bytes_per_token;
  Result<Block> block = EncodeBlock(layout, std::move(header), keys.data(), values.data());
  EXPECT_TRUE(block.ok()) << Explain(block.status());
  return std::move(block).value();
}

// The blocks of a document of `tokens` tokens: full ones, and what is left.
inline int BlockTokens(const Layout& layout, uint64_t position, uint64_t tokens) {
  return static_cast<int>(
      std::min<uint64_t>(static_cast<uint64_t>(layout.block_tokens), tokens - position));
}

using tests::TemporaryFolder;

}  // namespace eidetic::memory::testing

#endif  // EIDETIC_TESTS_MEMORY_TEST_BLOCKS_H_
