// Where tests find models, and files of their own.
#ifndef EIDETIC_TESTS_MODEL_MODEL_FILES_H_
#define EIDETIC_TESTS_MODEL_MODEL_FILES_H_

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "tests/temporary_folder.h"

namespace eidetic::model {

// The path in environment variable `variable`, or `name` in the folder that EIDETIC_MODELS names. A
// test that needs a model and does not find it fails.
inline std::string ModelPath(const char* variable, const char* name) {
  std::string path;
  if (const char* value = std::getenv(variable)) {
    path = value;
  } else if (const char* folder = std::getenv("EIDETIC_MODELS")) {
    path = std::string(folder) + "/" + name;
  } else {
    throw std::runtime_error(std::string("neither ") + variable +
                             " nor EIDETIC_MODELS is set: run scripts/test");
  }
  if (!std::filesystem::exists(path)) {
    throw std::runtime_error("this test needs " + path + ", which is not there: run scripts/test");
  }
  return path;
}

inline std::string BaseModelPath() {
  return ModelPath("EIDETIC_TEST_BASE_MODEL", "SmolLM2-135M-Instruct.Q4_1.gguf");
}

inline std::string HybridModelPath() {
  return ModelPath("EIDETIC_TEST_HYBRID_MODEL", "smol-hybrid-135m.gguf");
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  std::stringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

inline void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

using tests::TemporaryFolder;

}  // namespace eidetic::model

#endif  // EIDETIC_TESTS_MODEL_MODEL_FILES_H_
