#include "apps/cli/results_file.h"

#include <filesystem>
#include <utility>

#include "apps/cli/command.h"

namespace eidetic::cli {

using nlohmann::json;

ResultsFile::ResultsFile(std::string path, const json& settings) : path_(std::move(path)) {
  if (path_.empty()) return;
  const json heading = {{"settings", settings}};
  std::ifstream in(path_, std::ios::binary);
  std::string line, kept;
  while (std::getline(in, line)) {
    const json one = json::parse(line, nullptr, /*allow_exceptions=*/false);
    // Only the last line may have been cut short.
    if (in.eof() || (one.is_discarded() && in.peek() == std::ifstream::traits_type::eof())) break;
    const bool is_heading = one.is_object() && one.contains("settings");
    if (one.is_discarded() || (kept.empty() && !is_heading)) throw_no_result(path_, line);
    if (is_heading && one != heading) {
      throw Error(EID_INVALID_ARGUMENT,
                  "the results in '" + path_ + "' were found under other settings",
                  "name another file with --results, or remove that one");
    }
    if (!is_heading) earlier_.push_back(one);
    kept += line + "\n";
  }
  in.close();
  if (kept.empty()) kept = compact(heading) + "\n";
  // Beside it first: a kill here must not cost what is there.
  const std::string partial = path_ + ".partial";
  write_file(partial, kept);
  std::error_code failed;
  std::filesystem::rename(partial, path_, failed);
  out_.open(path_, std::ios::binary | std::ios::app);
  if (failed) out_.setstate(std::ios::failbit);
  check_written();
}

void ResultsFile::add(const json& result) {
  if (path_.empty()) return;
  out_ << compact(result) << "\n";
  check_written();
}

void ResultsFile::check_written() {
  if (out_.flush()) return;
  throw Error(EID_IO_ERROR, "'" + path_ + "' could not be written", "check the path and the disk");
}

void throw_no_result(const std::string& path, const json& line) {
  throw Error(EID_INVALID_ARGUMENT,
              "'" + path + "' holds no result of this evaluation: " + compact(line).substr(0, 80),
              "name another file with --results");
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text << std::flush;
  if (!file) {
    throw Error(EID_IO_ERROR, "'" + path + "' could not be written", "check the path and the disk");
  }
}

}  // namespace eidetic::cli
