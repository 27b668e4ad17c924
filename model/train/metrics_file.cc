#include "model/train/metrics_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "model/error.h"
#include "model/resource_errors.h"

namespace eidetic::model {
namespace {

using nlohmann::json;

// Whether the line is of what had happened after `step` steps and the evaluation of `evaluated`.
// Whether a run wrote it.
bool IsLine(const std::string& text) {
  const json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
  return line.is_object() && line.contains("event") && line.contains("step");
}

bool IsKept(const std::string& text, int64_t step, int64_t evaluated) {
  const json line = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!line.is_object()) return false;
  const auto number = line.find("step"), event = line.find("event");
  if (number == line.end() || !number->is_number_integer() || event == line.end()) return false;
  return number->get<int64_t>() <= (*event == "evaluation" ? evaluated : step);
}

}  // namespace

MetricsFile::MetricsFile(const std::string& path) : path_(path) {
  while (!OpenAndLock()) {
  }
}

// False where another process took the file away before it was locked here.
bool MetricsFile::OpenAndLock() {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (descriptor_ < 0) Fail("cannot be opened", errno);
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) {
    struct stat opened = {}, there = {};
    if (::fstat(descriptor_, &opened) == 0 && ::stat(path_.c_str(), &there) == 0 &&
        opened.st_ino == there.st_ino && opened.st_dev == there.st_dev) {
      return true;
    }
    ::close(descriptor_);
    return false;
  }
  const int error = errno;
  ::close(descriptor_);
  if (error != EWOULDBLOCK) Fail("cannot be locked", error);
  throw LockedError(path_ + " is written by another process: a run is under way",
                    "wait until it ends, or name another folder");
}

bool MetricsFile::IsEmpty() const noexcept {
  struct stat status = {};
  return ::fstat(descriptor_, &status) == 0 && status.st_size == 0;
}

void MetricsFile::Remove() noexcept {
  ::unlink(path_.c_str());
}

MetricsFile::~MetricsFile() {
  ::close(descriptor_);
}

void MetricsFile::Fail(const char* action, int error) const {
  const std::string message = path_ + " " + action + ": " + std::strerror(error);
  if (error == ENOSPC || error == EDQUOT) {
    throw Error(ErrorCode::kNoSpace, message,
                "free some space and run the same command again: it goes on from its last "
                "checkpoint");
  }
  const bool missing = error == ENOENT || error == ENOTDIR;
  throw Error(missing ? ErrorCode::kNotFound : ErrorCode::kIo, message,
              "choose a folder that can be written");
}

void MetricsFile::CutBack(int64_t step, int64_t evaluated) {
  std::string text, block(size_t{1} << 16, '\0');
  for (off_t at = 0;;) {
    const ssize_t count = ::pread(descriptor_, block.data(), block.size(), at);
    if (count < 0) Fail("cannot be read", errno);
    if (count == 0) break;
    text.append(block, 0, static_cast<size_t>(count));
    at += count;
  }
  const size_t first = text.find('\n');
  if (first != std::string::npos && !IsLine(text.substr(0, first))) {
    throw Error(ErrorCode::kInvalidArgument, path_ + " is there, and holds no metrics of a run",
                "name another folder for the run, or move the file away");
  }
  size_t kept = 0;
  for (size_t end; (end = text.find('\n', kept)) != std::string::npos; kept = end + 1) {
    if (!IsKept(text.substr(kept, end - kept), step, evaluated)) break;
  }
  if (::ftruncate(descriptor_, static_cast<off_t>(kept)) != 0) Fail("cannot be cut", errno);
}

void MetricsFile::Add(const StepMetrics& metrics) {
  AddLine(json{{"event", "step"},
               {"step", metrics.step},
               {"objective", metrics.objective},
               {"loss", metrics.loss},
               {"rate", metrics.rate},
               {"gradient_norm", metrics.gradient_norm},
               {"tokens", metrics.tokens},
               {"tokens_per_second", metrics.tokens_per_second},
               {"seconds", metrics.seconds},
               {"peak_memory_bytes", metrics.peak_memory_bytes}}
              .dump());
}

void MetricsFile::Add(const EvaluationMetrics& metrics) {
  json line = {{"event", "evaluation"},    {"step", metrics.step},       {"loss", metrics.loss},
               {"tokens", metrics.tokens}, {"seconds", metrics.seconds}, {"best", metrics.best}};
  if (metrics.teacher_loss) line["teacher_loss"] = *metrics.teacher_loss;
  AddLine(line.dump());
}

void MetricsFile::AddLine(const std::string& line) {
  const std::string bytes = line + "\n";
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t written = ::write(descriptor_, bytes.data() + done, bytes.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) Fail("cannot be written", errno);
    done += static_cast<size_t>(written);
  }
}

void MetricsFile::Flush() {
  if (::fsync(descriptor_) != 0) Fail("cannot be flushed to disk", errno);
}

}  // namespace eidetic::model
