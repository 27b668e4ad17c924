// Feeds the GGUF reader, and what is built on a file, with damaged files: only model::Error may
// come out. Built with clang by `cmake -S tests/fuzz -B build/fuzz`; started as
// `build/fuzz/gguf_fuzz CORPUS_FOLDER tests/golden`.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/error.h"
#include "model/gguf.h"
#include "model/tokenizer.h"

namespace {

void Read(const std::string& path) {
  using namespace eidetic::model;
  const auto file = GgufFile::Open(path);
  for (const GgufTensor& tensor : file->tensors()) {
    std::vector<float> values(tensor.Values());
    file->ReadTensor(tensor, values.data());
  }
  for (const bool build_tokenizer : {false, true}) {
    try {
      if (build_tokenizer) {
        const auto tokenizer = Tokenizer::FromGguf(*file);
        tokenizer->Decode(tokenizer->Encode("ab 12 \xff <s>", true));
      } else {
        ReadModelConfig(*file);
      }
    } catch (const Error&) {
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int descriptor = ::memfd_create("gguf", MFD_CLOEXEC);
  if (descriptor < 0 || ::write(descriptor, data, size) != static_cast<ssize_t>(size)) std::abort();
  try {
    Read("/proc/self/fd/" + std::to_string(descriptor));
  } catch (const eidetic::model::Error&) {
  }
  ::close(descriptor);
  return 0;
}
