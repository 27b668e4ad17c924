#include "apps/cli/input_history.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "apps/cli/characters.h"

namespace eidetic::cli {
namespace {

constexpr int kOwnerOnly = 0600;

void write_lines(const std::string& path, int flags, const std::string& bytes) {
  const int descriptor = ::open(path.c_str(), flags | O_WRONLY | O_CREAT | O_CLOEXEC, kOwnerOnly);
  if (descriptor < 0) return;
  // One write: lines of several programs do not mix.
  [[maybe_unused]] const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
  ::close(descriptor);
}

}  // namespace

std::string state_file(const std::string& name) {
  const char* state = std::getenv("XDG_STATE_HOME");
  if (state && *state == '/') return std::string(state) + "/eidetic/" + name;
  const char* home = std::getenv("HOME");
  if (!home || !*home) return "";
  return std::string(home) + "/.local/state/eidetic/" + name;
}

InputHistory::InputHistory(std::string path) : path_(std::move(path)) {
  if (path_.empty()) return;
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), ignored);
  std::ifstream in(path_, std::ios::binary);
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && first_invalid_utf8(line) == std::string::npos) lines_.push_back(line);
  }
  if (lines_.size() <= kMostLines) return;
  const bool long_since = lines_.size() > 2 * kMostLines;
  lines_.erase(lines_.begin(), lines_.end() - static_cast<std::ptrdiff_t>(kMostLines));
  if (long_since) shorten();
}

// Takes the place of the file in one step.
void InputHistory::shorten() const {
  std::string bytes;
  for (const std::string& line : lines_) bytes += line + "\n";
  const std::string next = path_ + "." + std::to_string(::getpid());
  write_lines(next, O_TRUNC, bytes);
  std::error_code failed;
  std::filesystem::rename(next, path_, failed);
  if (failed) std::filesystem::remove(next, failed);
}

bool InputHistory::add(const std::string& line) {
  if (line.find_first_not_of(" \t") == std::string::npos) return false;
  if (!lines_.empty() && lines_.back() == line) return false;
  lines_.push_back(line);
  if (lines_.size() > kMostLines) lines_.erase(lines_.begin());
  if (!path_.empty()) write_lines(path_, O_APPEND, line + "\n");
  return true;
}

}  // namespace eidetic::cli
