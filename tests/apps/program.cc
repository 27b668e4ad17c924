#include "tests/apps/program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/model/model_files.h"

extern char** environ;

namespace eidetic::apps {
namespace {

std::string ReadWhole(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

std::filesystem::path TemporaryFile(const std::string& bytes) {
  std::string pattern = (std::filesystem::temp_directory_path() / "eidetic-io-XXXXXX").string();
  const int descriptor = ::mkstemp(pattern.data());
  if (descriptor < 0) throw std::runtime_error("no temporary file can be made");
  if (::write(descriptor, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
    throw std::runtime_error("cannot write " + pattern);
  }
  ::close(descriptor);
  return pattern;
}

}  // namespace

std::vector<std::string> ChildEnvironment(const Environment& additions) {
  const auto is_added = [&](const std::string& name) {
    return std::any_of(additions.begin(), additions.end(),
                       [&](const auto& addition) { return addition.first == name; });
  };
  std::vector<std::string> result;
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry, name = text.substr(0, text.find('='));
    const bool is_left_out = name == "EIDETIC_MODEL" || name == "EIDETIC_ARCHIVE" ||
                             name == "EIDETIC_CONFIG" || is_added(name);
    if (!is_left_out) result.push_back(text);
  }
  // What the user of this machine has configured is not for tests.
  if (!is_added("EIDETIC_CONFIG")) result.push_back("EIDETIC_CONFIG=/dev/null");
  for (const auto& [name, value] : additions) result.push_back(name + "=" + value);
  return result;
}

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& text : strings) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

Program::Program(const std::vector<std::string>& arguments, const Environment& environment,
                 const std::string& input) {
  err_path_ = TemporaryFile("");
  const std::filesystem::path in_path = TemporaryFile(input);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe can be made");
  std::vector<std::string> argument_strings = {EIDETIC_CLI_PATH};
  argument_strings.insert(argument_strings.end(), arguments.begin(), arguments.end());
  std::vector<std::string> environment_strings = ChildEnvironment(environment);
  const std::vector<char*> argv = Pointers(argument_strings);
  const std::vector<char*> envp = Pointers(environment_strings);
  id_ = ::fork();
  if (id_ == 0) {
    const int in = ::open(in_path.c_str(), O_RDONLY);
    const int err = ::open(err_path_.c_str(), O_WRONLY | O_TRUNC);
    ::dup2(in, STDIN_FILENO);
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(err, STDERR_FILENO);
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  ::close(ends[1]);
  out_ = ends[0];
  if (id_ < 0) throw std::runtime_error("no process can be made");
  // The child may open its input later than this: the file stays until Wait.
  in_path_ = in_path;
}

Program::~Program() {
  if (id_ > 0) {
    Signal(SIGKILL);
    ::waitpid(id_, nullptr, 0);
  }
  if (out_ >= 0) ::close(out_);
  std::filesystem::remove(err_path_);
  std::filesystem::remove(in_path_);
}

void Program::CloseOutput() {
  ::close(out_);
  out_ = -1;
  ended_ = true;
}

void Program::Signal(int number) const {
  ::kill(id_, number);
}

// More of standard output; false when there is no more, or none in time.
bool Program::Fill(Clock::time_point deadline) {
  while (!ended_) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    pollfd waiting{out_, POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(left)) <= 0) continue;
    char bytes[1 << 14];
    const ssize_t got = ::read(out_, bytes, sizeof bytes);
    if (got > 0) {
      buffer_.append(bytes, static_cast<std::size_t>(got));
      return true;
    }
    if (got == 0) ended_ = true;
  }
  return false;
}

bool Program::ReadLine(std::string* line, std::chrono::seconds limit) {
  const auto deadline = Clock::now() + limit;
  for (;;) {
    const std::size_t end = buffer_.find('\n');
    if (end != std::string::npos) {
      *line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return true;
    }
    if (!Fill(deadline)) return false;
  }
}

Outcome Program::Wait(std::chrono::seconds limit) {
  const auto deadline = Clock::now() + limit;
  while (Fill(deadline)) {
  }
  if (!ended_) {
    ADD_FAILURE() << "eidetic still ran after " << limit.count() << " s";
    Signal(SIGKILL);
  }
  int status = 0;
  ::waitpid(id_, &status, 0);
  id_ = -1;
  Outcome outcome;
  if (WIFEXITED(status)) outcome.code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  outcome.out = std::move(buffer_);
  outcome.err = ReadWhole(err_path_);
  return outcome;
}

Outcome RunProgram(const std::vector<std::string>& arguments, const Environment& environment,
                   const std::string& input) {
  return Program(arguments, environment, input).Wait();
}

nlohmann::json RunJson(const std::vector<std::string>& arguments) {
  const Outcome outcome = RunProgram(arguments);
  EXPECT_EQ(outcome.code, 0) << arguments[0] << ": " << outcome.err;
  return nlohmann::json::parse(outcome.out);
}

std::string ProgramTest::Write(const std::string& name, const std::string& bytes) const {
  model::WriteFile(Path(name), bytes);
  return Path(name);
}

std::string ProgramTest::Prose(std::size_t bytes) {
  const std::string text = model::ReadFile(EIDETIC_TEST_TEXT);
  if (text.size() < bytes) throw std::runtime_error("the story is shorter than the test needs");
  return text.substr(0, text.rfind(". ", bytes - 1) + 1);
}

std::string ProgramTest::HybridModel() {
  return model::HybridModelPath();
}
std::string ProgramTest::BaseModel() {
  return model::BaseModelPath();
}

std::vector<nlohmann::json> JsonLines(const std::string& text) {
  std::vector<nlohmann::json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

}  // namespace eidetic::apps
