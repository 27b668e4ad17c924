// Results of a long evaluation, kept one by one, so that a run that was stopped goes on.
#ifndef EIDETIC_APPS_CLI_RESULTS_FILE_H_
#define EIDETIC_APPS_CLI_RESULTS_FILE_H_

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace eidetic::cli {

// Of a text that results are of: 16 hexadecimal digits, FNV-1a in 64 bits.
std::string content_hash(std::string_view text);

// One JSON object a line; the first, {"settings": ...}, says what results depend on: settings, and
// as "content" the hashes of the texts. A last line that a kill cut short is left out. Files of
// equal settings may be put behind each other.
class ResultsFile {
 public:
  // Reads what is there and opens the file to go on; `path` empty: nothing is kept. A file of an
  // earlier version, which did not write down `content`, is taken to be of these texts, says so
  // from then on, and a note tells it. Throws EID_INVALID_ARGUMENT when it was written under other
  // settings, which are named, is of other texts or holds something else; EID_IO_ERROR.
  ResultsFile(std::string path, const nlohmann::json& settings,
              const std::vector<std::string>& content);

  // What was there at the beginning.
  const std::vector<nlohmann::json>& earlier() const { return earlier_; }
  // On disk when it returns. Throws EID_IO_ERROR.
  void add(const nlohmann::json& result);

 private:
  // A heading that is there, against the one that would be written. True when it says as much.
  bool says_all(const nlohmann::json& was, const nlohmann::json& is) const;
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
