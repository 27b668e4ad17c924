// Feeds the reader of model folders with damaged ones: only model::Error may come out. An input is
// a list of changes to a small sound model, since bytes at random would rarely get past the first
// brace. Built with clang by `cmake -S tests/fuzz -B build/fuzz`; started as
// `build/fuzz/model_folder_fuzz CORPUS_FOLDER`.
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "model/checkpoint.h"
#include "model/error.h"

namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 4> kFiles = {"config.json", "generation_config.json",
                                               "tokenizer.json", "model.safetensors"};

std::string BytesOf(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The sound files, and a folder of this process for changed ones.
struct Work {
  std::array<std::string, kFiles.size()> sound;
  fs::path folder = fs::temp_directory_path() / ("model-folder-fuzz-" + std::to_string(getpid()));

  Work() {
    for (size_t i = 0; i < kFiles.size(); ++i) {
      sound[i] = BytesOf(fs::path(EIDETIC_SOUND_FOLDER) / kFiles[i]);
      if (sound[i].empty()) std::abort();
    }
    fs::create_directories(folder);
  }
  ~Work() {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }
};

// Takes numbers from the front of an input; zeros at its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  bool empty() const { return size_ == 0; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  uint32_t Number() {
    const uint32_t low = Byte();
    return low | static_cast<uint32_t>(Byte()) << 8;
  }
  std::string Text(size_t length) {
    std::string text;
    while (text.size() < length && size_ > 0) text += static_cast<char>(Byte());
    return text;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

// One change: of which file, what, where.
void Change(Input* input, std::array<std::string, kFiles.size()>* files) {
  const uint8_t kind = input->Byte();
  std::string& file = (*files)[kind % kFiles.size()];
  const size_t at = file.empty() ? 0 : input->Number() % file.size();
  switch (kind / kFiles.size() % 4) {
    case 0: {
      const std::string text = input->Text(input->Byte() % 32);
      file.replace(at, std::min(text.size(), file.size() - at), text);
      break;
    }
    case 1:
      file.insert(at, input->Text(input->Byte() % 64));
      break;
    case 2:
      file.erase(at, input->Byte());
      break;
    default:
      file.resize(at);
  }
}

void Read(const std::string& folder) {
  using namespace eidetic::model;
  const auto checkpoint = Checkpoint::Open(folder);
  const ModelConfig config = checkpoint->Config();
  checkpoint->Summary();
  const auto tokenizer = checkpoint->ReadTokenizer();
  tokenizer->Decode(tokenizer->Encode("ab 12 \xff <s>", true));
  std::vector<float> values(static_cast<size_t>(config.vocabulary) * config.hidden);
  checkpoint->Read("token_embd.weight",
                   {static_cast<uint64_t>(config.vocabulary), static_cast<uint64_t>(config.hidden)},
                   values.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Work work;
  auto files = work.sound;
  for (Input input(data, size); !input.empty();) Change(&input, &files);
  for (size_t i = 0; i < kFiles.size(); ++i) {
    std::ofstream file(work.folder / kFiles[i], std::ios::binary | std::ios::trunc);
    file << files[i];
  }
  try {
    Read(work.folder.string());
  } catch (const eidetic::model::Error&) {
  }
  return 0;
}
