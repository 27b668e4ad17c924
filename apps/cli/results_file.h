// Results of a long evaluation, kept one by one, so that a run that was stopped goes on.
#ifndef EIDETIC_APPS_CLI_RESULTS_FILE_H_
#define EIDETIC_APPS_CLI_RESULTS_FILE_H_

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace eidetic::cli {

// One JSON object a line; the first, {"settings": ...}, says what results depend on. A last line
// that a kill cut short is left out. Files of equal settings may be put behind each other.
class ResultsFile {
 public:
  // Reads what is there and opens the file to go on; `path` empty: nothing is kept. Throws
  // EID_INVALID_ARGUMENT when it was written under other settings or holds something else,
  // EID_IO_ERROR.
  ResultsFile(std::string path, const nlohmann::json& settings);

  // What was there at the beginning.
  const std::vector<nlohmann::json>& earlier() const { return earlier_; }
  // On disk when it returns. Throws EID_IO_ERROR.
  void add(const nlohmann::json& result);

 private:
  void check_written();

  std::string path_;
  std::ofstream out_;
  std::vector<nlohmann::json> earlier_;
};

// Calls `read` on every earlier result. What it throws as json::exception becomes an Error that
// names the file.
template <typename Read>
void for_each_result(const ResultsFile& file, const std::string& path, Read read);

[[noreturn]] void throw_no_result(const std::string& path, const nlohmann::json& line);

template <typename Read>
void for_each_result(const ResultsFile& file, const std::string& path, Read read) {
  for (const nlohmann::json& line : file.earlier()) {
    try {
      read(line);
    } catch (const nlohmann::json::exception&) {
      throw_no_result(path, line);
    }
  }
}

// Throws EID_IO_ERROR.
void write_file(const std::string& path, const std::string& text);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_RESULTS_FILE_H_
