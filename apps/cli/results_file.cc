#include "apps/cli/results_file.h"

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "apps/cli/command.h"
#include "apps/cli/terminal.h"

namespace eidetic::cli {

using nlohmann::json;

namespace {

constexpr const char* kContent = "content";

// What people call it.
std::string name_of(const std::string& setting) {
  for (const char* text : {"corpus", "texts", "books", "text_tokens"}) {
    if (setting == text) return "the size of the texts";
  }
  return setting;
}

// "seed was 1, is 2; session"; of lists the name alone.
std::string differences_of(const json& was, const json& is) {
  json both = was;
  both.update(is);
  std::string text;
  for (const auto& [setting, value] : both.items()) {
    const json before = was.value(setting, json()), now = is.value(setting, json());
    if (before == now) continue;
    text += (text.empty() ? "" : "; ") + name_of(setting);
    const auto shown = [](const json& one) -> std::string {
      return one.is_null() ? "not given" : compact(one);
    };
    if (!before.is_structured() && !now.is_structured()) {
      text += " was " + shown(before) + ", is " + shown(now);
    }
  }
  return text;
}

}  // namespace

std::string content_hash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : text) {
    hash ^= static_cast<unsigned char>(byte);
    hash *= 0x100000001b3;
  }
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016" PRIx64, hash);
  return digits;
}

bool ResultsFile::says_all(const json& was, const json& is) const {
  if (was == is) return true;
  json wanted = is;
  if (!was.contains(kContent)) wanted.erase(kContent);
  if (was == wanted) return false;
  const bool of_others = was.contains(kContent) && was[kContent] != is.value(kContent, json());
  if (of_others) {
    throw Error(EID_INVALID_ARGUMENT, "the results in '" + path_ + "' are of other texts",
                "give the texts that they are of, in the same order, or name another file with "
                "--results");
  }
  throw Error(EID_INVALID_ARGUMENT,
              "the results in '" + path_ +
                  "' were found under other settings: " + differences_of(was, wanted),
              "name another file with --results, or remove that one");
}

ResultsFile::ResultsFile(std::string path, const json& settings,
                         const std::vector<std::string>& content)
    : path_(std::move(path)) {
  if (path_.empty()) return;
  json heading = {{"settings", settings}};
  heading["settings"][kContent] = content;
  bool is_older = false;
  std::ifstream in(path_, std::ios::binary);
  std::string line, kept;
  while (std::getline(in, line)) {
    const json one = json::parse(line, nullptr, /*allow_exceptions=*/false);
    // Only the last line may have been cut short.
    if (in.eof() || (one.is_discarded() && in.peek() == std::ifstream::traits_type::eof())) break;
    const bool is_heading =
        one.is_object() && one.contains("settings") && one["settings"].is_object();
    if (one.is_discarded() || (kept.empty() && !is_heading)) throw_no_result(path_, line);
    if (!is_heading) {
      earlier_.push_back(one);
    } else if (!says_all(one["settings"], heading["settings"])) {
      is_older = true;
      line = compact(heading);
    }
    kept += line + "\n";
  }
  in.close();
  if (is_older) {
    print_note("eidetic: '" + path_ +
               "' is of an earlier version and does not say which texts its results are of: they "
               "are taken to be of those that are given now");
  }
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
