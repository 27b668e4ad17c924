#include "apps/cli/tune_processes.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/text_file.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::cli {
namespace {

using namespace std::chrono_literals;

// After one has failed the others have as long to fail too, and to write what they can.
constexpr auto kGrace = 5s;
constexpr int kKilled = -1;  // in place of an exit code
// In the environment of the processes that are begun, which must begin no others: the descriptor of
// a pipe that ends with the process that began them.
constexpr char kOneOfSeveral[] = "EIDETIC_TUNE_ONE_OF_SEVERAL";
constexpr char kFolderName[] = "eidetic-gpus-";

// Those that share a run out, and the folder in which they meet.
class TuneProcesses {
 public:
  explicit TuneProcesses(int count) {
    if (::pipe2(life_, O_CLOEXEC) != 0) {
      throw Error(EID_IO_ERROR, "no pipe can be made", "close other programs");
    }
    folder_ = (std::filesystem::temp_directory_path() / kFolderName).string() + "XXXXXX";
    if (::mkdtemp(folder_.data()) == nullptr) {
      throw Error(EID_IO_ERROR, "no folder can be made at " + folder_,
                  "set TMPDIR to a folder that can be written");
    }
    for (int i = 0; i < count; ++i) begin(i);
  }
  ~TuneProcesses() {
    for (const pid_t id : running_) {
      if (id > 0) ::kill(id, SIGKILL);
    }
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
    for (const int end : life_) ::close(end);
  }
  TuneProcesses(const TuneProcesses&) = delete;
  TuneProcesses& operator=(const TuneProcesses&) = delete;

  int wait();

 private:
  void begin(int number);
  void ended(std::size_t number, int code);
  int finish() const;
  std::string errors_of(std::size_t number) const {
    return folder_ + "/errors-" + std::to_string(number);
  }

  int life_[2] = {-1,
                  -1};  // nobody writes; the second end is open as long as this process is there
  std::string folder_;
  std::vector<pid_t> running_;  // by number; 0: has ended
  int code_ = kExitOk;
  std::size_t failed_first_ = 0;
  bool failed_ = false, first_told_ = false;  // the first one said itself why it failed
};

// The command line of this process.
std::vector<std::string> own_arguments() {
  const std::string bytes = read_file("/proc/self/cmdline");
  std::vector<std::string> arguments;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t end = std::min(bytes.find('\0', at), bytes.size());
    arguments.push_back(bytes.substr(at, end - at));
    at = end + 1;
  }
  return arguments;
}

void TuneProcesses::begin(int number) {
  std::vector<std::string> arguments = own_arguments();
  // Behind a bare "--" they would be names of files.
  arguments.insert(std::find(arguments.begin(), arguments.end(), "--"),
                   {"--process", std::to_string(number), "--meeting", folder_ + "/meeting"});
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  const std::string errors = errors_of(static_cast<std::size_t>(number));
  ::setenv(kOneOfSeveral, std::to_string(life_[0]).c_str(), 1);
  const pid_t id = ::fork();
  if (id < 0) {
    throw Error(EID_IO_ERROR, "no process can be begun", "close other programs");
  }
  if (id > 0) {
    running_.push_back(id);
    return;
  }
  // Only calls that are safe between fork and exec from here on. A group of its own: Ctrl-C in a
  // terminal is for the process that begins them, which hands it on once.
  ::setpgid(0, 0);
  ::fcntl(life_[0], F_SETFD, 0);
  if (number != 0) {
    const int nothing = ::open("/dev/null", O_WRONLY);
    const int file = ::open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ::dup2(nothing, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
  }
  ::execv("/proc/self/exe", pointers.data());
  ::_exit(kExitRuntime);
}

void TuneProcesses::ended(std::size_t number, int code) {
  running_[number] = 0;
  if (code == kExitOk) return;
  if (number == 0 && code != kKilled) {
    first_told_ = true;
    // Others that lost it may have ended before it did; what it says is why.
    if (failed_ && code != kExitRuntime) code_ = code;
  }
  if (failed_) return;
  failed_ = true;
  code_ = code == kKilled ? kExitRuntime : code;
  failed_first_ = number;
}

// Whoever still runs waits in vain for the one that failed; it is killed.
int TuneProcesses::finish() const {
  if (failed_ && failed_first_ != 0 && !first_told_) {
    std::cerr << read_file(errors_of(failed_first_));
  }
  return code_;
}

int TuneProcesses::wait() {
  bool told = false;
  auto deadline = std::chrono::steady_clock::time_point::max();
  for (;;) {
    std::size_t left = 0;
    for (std::size_t i = 0; i < running_.size(); ++i) {
      if (running_[i] == 0) continue;
      int status = 0;
      if (::waitpid(running_[i], &status, WNOHANG) == running_[i]) {
        ended(i, WIFEXITED(status) ? WEXITSTATUS(status) : kKilled);
      } else {
        ++left;
      }
    }
    if (left == 0) return finish();
    const auto now = std::chrono::steady_clock::now();
    if (failed_ && deadline == std::chrono::steady_clock::time_point::max())
      deadline = now + kGrace;
    if (now > deadline) return finish();
    if (interrupted() && !told && running_[0] > 0) {
      told = true;
      ::kill(running_[0], SIGINT);
    }
    std::this_thread::sleep_for(20ms);
  }
}

}  // namespace

void end_with_who_began_it(const std::string& meeting) {
  const char* const text = ::getenv(kOneOfSeveral);
  const std::filesystem::path folder = std::filesystem::path(meeting).parent_path();
  int life = -1;
  if (text == nullptr || !folder.filename().string().starts_with(kFolderName)) return;
  if (std::from_chars(text, text + std::strlen(text), life).ec != std::errc()) return;
  ::fcntl(life, F_SETFD, FD_CLOEXEC);
  std::thread([life, folder] {
    char byte = 0;
    ssize_t count = 0;
    do {
      count = ::read(life, &byte, 1);
    } while (count < 0 && errno == EINTR);
    if (count != 0) return;
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
    ::_exit(kExitRuntime);
  }).detach();
}

int run_tune_processes(int count) {
  if (::getenv(kOneOfSeveral) != nullptr) {
    throw Error(EID_INVALID_ARGUMENT, "one of several processes of a run would begin others",
                "write the files behind the options, without a word that stands between them");
  }
  return TuneProcesses(count).wait();
}

}  // namespace eidetic::cli
