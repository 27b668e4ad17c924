// The folder of a run of training while a process trains into it.
//
// No Torch in here.
#ifndef EIDETIC_MODEL_TRAIN_RUN_FOLDER_H_
#define EIDETIC_MODEL_TRAIN_RUN_FOLDER_H_

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/train/metrics_file.h"

namespace eidetic::model {

// Left as it was found where nothing comes of the run: see ~RunFolder. Not thread-safe.
class RunFolder {
 public:
  // Makes the folder, and those that it is to stand in, where they are not there. Throws Error:
  // kIo, and as MetricsFile does.
  explicit RunFolder(const std::string& path);
  // Unless Keep was called: takes away what was made here, metrics without a line, `best` since
  // BeginAnew and the folders where they are empty. Texts as tokens stay for the next start.
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  MetricsFile& metrics() { return *metrics_; }
  std::string operator/(const char* name) const { return path_ + "/" + name; }

  // For a run without a checkpoint: metrics without lines, and a `best` that is there goes to
  // `best.before`. A run that was killed before its first checkpoint left it, or `last` was removed
  // by hand: then it may be all there is. Throws as MetricsFile::CutBack does, kIo.
  void BeginAnew();
  // Something was made that a later call goes on from or that people will want to see.
  void Keep() { is_kept_ = true; }

 private:
  const std::string path_;
  std::vector<std::filesystem::path> made_;  // the innermost first
  std::optional<MetricsFile> metrics_;
  bool is_new_ = false;  // BeginAnew was called
  bool has_put_aside_ = false;
  bool is_kept_ = false;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_TRAIN_RUN_FOLDER_H_
