#include "memory/writer_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>

namespace eidetic::memory {
namespace {

std::string ProgramName() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "unknown program" : program.filename().string();
}

std::string ThisProcess() {
  char host[256] = "unknown host";
  if (gethostname(host, sizeof host - 1) != 0) std::strcpy(host, "unknown host");
  return "pid " + std::to_string(getpid()) + " on host " + host + " ";
}

std::string DescribeThisProcess() {
  std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char since[32];
  std::strftime(since, sizeof since, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return ThisProcess() + "(" + ProgramName() + ") since " + since;
}

std::string ReadHolder(int descriptor) {
  char text[512];
  const ssize_t length = pread(descriptor, text, sizeof text, 0);
  std::string holder(text, length > 0 ? static_cast<size_t>(length) : 0);
  while (!holder.empty() && holder.back() == '\n') holder.pop_back();
  return holder.empty() ? "another process" : holder;
}

Status SystemError(const std::string& doing, const std::string& file, int error) {
  return Status(error == ENOSPC ? Code::kNoSpace : Code::kIoError,
                doing + " " + file + ": " + std::strerror(error));
}

}  // namespace

Result<std::unique_ptr<WriterLock>> WriterLock::Acquire(const std::string& file) {
  const int descriptor = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return SystemError("cannot open the lock file", file, errno);
  auto lock = std::unique_ptr<WriterLock>(new WriterLock(file, descriptor));
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return SystemError("cannot lock", file, errno);
    const std::string holder = ReadHolder(descriptor);
    const bool own = holder.starts_with(ThisProcess());
    return Status(
        Code::kLocked,
        "the archive at " + std::filesystem::path(file).parent_path().string() +
            " is being written by " + holder + (own ? ", which is this very process" : ""),
        own ? "use the archive that is open, or free it and its sessions first; to read, open it "
              "read-only"
            : "wait until that process has finished, stop it, or open the archive read-only");
  }
  // For the message of others only: the lock itself is the kernel's, so a full disk is no obstacle.
  const std::string holder = DescribeThisProcess() + "\n";
  if (ftruncate(descriptor, 0) == 0) {
    const ssize_t written = pwrite(descriptor, holder.data(), holder.size(), 0);
    static_cast<void>(written);
  }
  return lock;
}

bool WriterLock::IsInPlace() const {
  struct stat held {
  }, there{};
  return fstat(descriptor_, &held) == 0 && stat(file_.c_str(), &there) == 0 &&
         held.st_dev == there.st_dev && held.st_ino == there.st_ino;
}

WriterLock::~WriterLock() {
  // Closing lets go of the lock. The file stays: removing it would let two processes hold locks on
  // two files of the same name.
  close(descriptor_);
}

}  // namespace eidetic::memory
