// The real hybrid model, loaded once per test program, and texts to read with it.
#ifndef EIDETIC_TESTS_SDK_SDK_FIXTURE_H_
#define EIDETIC_TESTS_SDK_SDK_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "memory/archive.h"
#include "sdk/engine.h"
#include "sdk/session.h"
#include "tests/temporary_folder.h"

namespace eidetic::sdk {

// A value, or a failed test with the status's message.
template <typename T>
T Must(memory::Result<T> result) {
  if (!result.ok()) {
    ADD_FAILURE() << result.status().message();
    throw std::runtime_error(result.status().message());
  }
  return std::move(result).value();
}

inline void MustOk(const memory::Status& status) {
  ASSERT_TRUE(status.ok()) << status.message() << " (" << status.remedy() << ")";
}

inline std::vector<int32_t> Tokens(const Engine& engine, const std::string& text) {
  return engine.tokenizer().Encode(text, /*special=*/false);
}

// Small, so that a few turns overflow the window and recall what left it.
inline SessionOptions SmallWindow(const std::string& name) {
  SessionOptions options;
  options.window = 64;
  options.sinks = 32;
  options.query_offset = 64;
  options.segment = 48;
  options.span_blocks = 4;
  options.successor_blocks = 1;
  options.linger = 0.5;
  options.name = name;
  return options;
}

// Of a seed, so that an answer is the same again.
inline GenerateOptions Sampled(int tokens) {
  GenerateOptions options;
  options.max_tokens = tokens;
  options.sampling.temperature = 0.9f;
  options.sampling.top_k = 40;
  options.seed = 7;
  return options;
}

class SdkTest : public ::testing::Test {
 protected:
  static std::shared_ptr<const Engine> HybridEngine() {
    static std::shared_ptr<const Engine> engine = [] {
      const char* path = std::getenv("EIDETIC_TEST_HYBRID_MODEL");
      if (path == nullptr) {
        throw std::runtime_error("EIDETIC_TEST_HYBRID_MODEL is not set: run scripts/test");
      }
      EngineOptions options;
      options.model_path = path;
      return Must(Engine::Create(options));
    }();
    return engine;
  }

  std::string ArchivePath() const { return folder_ / "archive"; }
  std::shared_ptr<memory::Archive> OpenArchive(bool read_only = false) const {
    memory::ArchiveOptions options;
    options.path = ArchivePath();
    options.create = true;
    options.read_only = read_only;
    return Must(memory::Archive::Open(options));
  }

  // The first `bytes` of the text that ships for the demo: running prose.
  static std::string Prose(size_t bytes) {
    std::ifstream in(EIDETIC_TEST_TEXT, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    if (text.str().size() < bytes) throw std::runtime_error("the test's text is too short");
    return text.str().substr(0, bytes);
  }

  tests::TemporaryFolder folder_;
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_TESTS_SDK_SDK_FIXTURE_H_
