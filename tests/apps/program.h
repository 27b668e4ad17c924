// Runs the real `eidetic` as a child process.
#ifndef EIDETIC_TESTS_APPS_PROGRAM_H_
#define EIDETIC_TESTS_APPS_PROGRAM_H_

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/temporary_folder.h"

namespace eidetic::apps {

struct Outcome {
  int code = -1;   // exit code; -1: ended by a signal
  int signal = 0;  // the signal that ended it
  std::string out, err;
};

using Environment = std::vector<std::pair<std::string, std::string>>;

// What a child sees of the environment, as Program says, and the form in which exec takes it.
std::vector<std::string> ChildEnvironment(const Environment& additions);
std::vector<char*> Pointers(std::vector<std::string>& strings);

// One running `eidetic`. Standard error goes to a file, so that it can never block the child.
class Program {
 public:
  // The child sees the parent's environment without EIDETIC_MODEL, EIDETIC_ARCHIVE and
  // EIDETIC_CONFIG (an empty file), with `environment` in its place or added, and reads `input`.
  explicit Program(const std::vector<std::string>& arguments, const Environment& environment = {},
                   const std::string& input = "");
  ~Program();  // kills it when it still runs
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // The next line of standard output, without its end. False at its end or after `limit`.
  bool ReadLine(std::string* line, std::chrono::seconds limit = std::chrono::seconds(240));
  // Closes this end of its standard output: it writes into a pipe that nobody reads.
  void CloseOutput();
  void Signal(int number) const;
  pid_t id() const { return id_; }
  // Reads the rest of the output and waits for the end. `out` holds everything but the lines that
  // ReadLine took.
  Outcome Wait(std::chrono::seconds limit = std::chrono::seconds(280));

 private:
  using Clock = std::chrono::steady_clock;
  bool Fill(Clock::time_point deadline);

  pid_t id_ = -1;
  int out_ = -1;
  bool ended_ = false;  // of standard output
  std::string buffer_;
  std::filesystem::path err_path_, in_path_;
};

Outcome RunProgram(const std::vector<std::string>& arguments, const Environment& environment = {},
                   const std::string& input = "");

// Runs a command that must succeed and print JSON.
nlohmann::json RunJson(const std::vector<std::string>& arguments);

// An empty folder per test, gone after it; texts to read; the models.
class ProgramTest : public ::testing::Test {
 protected:
  std::string Path(const std::string& name) const { return folder_ / name; }
  std::string Write(const std::string& name, const std::string& bytes) const;

  // The first `bytes` of the story that ships for the demo, to the end of a sentence or before it.
  static std::string Prose(std::size_t bytes);
  static std::string HybridModel();
  static std::string BaseModel();

 private:
  tests::TemporaryFolder folder_;
};

inline bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// Lines of JSON, as `ingest --json` prints.
std::vector<nlohmann::json> JsonLines(const std::string& text);

}  // namespace eidetic::apps

#endif  // EIDETIC_TESTS_APPS_PROGRAM_H_
