#include "model/train/run_folder.h"

#include <algorithm>
#include <system_error>

#include "model/error.h"

namespace eidetic::model {
namespace {

namespace fs = std::filesystem;

// Gives those that were made, the innermost first.
std::vector<fs::path> MakeFolders(const std::string& path) {
  std::vector<fs::path> missing;
  std::error_code failed;
  for (fs::path at = fs::absolute(path).lexically_normal(); !fs::exists(at, failed);
       at = at.parent_path()) {
    if (at.has_filename()) missing.push_back(at);
    if (at == at.parent_path()) break;
  }
  fs::create_directories(path, failed);
  if (failed) {
    throw Error(ErrorCode::kIo, path + " cannot be made: " + failed.message(),
                "choose a folder that can be written");
  }
  return missing;
}

void RemoveEmpty(const std::vector<fs::path>& folders) {
  std::error_code ignored;
  for (const fs::path& folder : folders) fs::remove(folder, ignored);
}

}  // namespace

RunFolder::RunFolder(const std::string& path) : path_(path), made_(MakeFolders(path)) {
  try {
    metrics_.emplace(path + "/metrics.jsonl");
  } catch (...) {
    RemoveEmpty(made_);
    throw;
  }
}

RunFolder::~RunFolder() {
  if (is_kept_) return;
  std::error_code ignored;
  if (is_new_) {
    fs::remove_all(*this / "best", ignored);
    if (has_put_aside_) fs::rename(*this / "best.before", *this / "best", ignored);
  }
  if (is_new_ || metrics_->IsEmpty()) metrics_->Remove();
  metrics_.reset();
  RemoveEmpty(made_);
}

void RunFolder::BeginAnew() {
  metrics_->CutBack(0, -1);
  if (fs::exists(*this / "best")) {
    fs::remove_all(*this / "best.before");
    fs::rename(*this / "best", *this / "best.before");
    has_put_aside_ = true;
  }
  is_new_ = true;
}

}  // namespace eidetic::model
