// What the evaluations have in common: how they read, and where their results go.
#ifndef EIDETIC_APPS_CLI_EVALUATION_H_
#define EIDETIC_APPS_CLI_EVALUATION_H_

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "apps/cli/command.h"
#include "apps/common/temporary_directory.h"
#include "apps/eval/perplexity.h"
#include "apps/eval/prompt_options.h"

namespace CLI {
class Option;
}

namespace eidetic::cli {

// --chunk, --chunk-blocks, --groups: of the modes that read a sequence.
struct SequenceFlags {
  int chunk = 0, chunk_blocks = 0, groups = 0;

  void add(CLI::App& command);
  SequenceOptions options() const;
};

// --json [FILE], --markdown FILE, --results FILE, --report-only
struct ReportFlags {
  std::string json_file, markdown_file, results;
  bool only = false;
  CLI::Option* json_given = nullptr;

  void add(CLI::App& command);
  // Writes the files; true when nothing else is to be printed.
  bool write(const nlohmann::json& report, const std::string& markdown) const;
};

// --keep-archive, --work-dir
struct WorkArchiveFlags {
  std::string keep, work_dir;

  void add(CLI::App& command);
};

// The archive that an evaluation reads its texts into: the one to keep, or one that goes with it.
class WorkArchive {
 public:
  explicit WorkArchive(const WorkArchiveFlags& flags);

  Archive& archive() { return *archive_; }

 private:
  std::optional<apps::TemporaryDirectory> directory_;
  std::optional<Archive> archive_;  // closed before the directory goes
};

// --modes NAME,... out of `allowed`
void add_modes_flag(CLI::App& command, std::vector<std::string>& modes,
                    const std::vector<std::string>& allowed, const std::string& text);
// Throws when a name stands twice.
void check_each_once(const std::vector<std::string>& names, const std::string& option);

// --lengths, --limit, --samples, --first-sample, --seed, with what the first and third of them say.
// What --limit is given goes to `limits`, for parse_limits.
void add_prompt_flags(CLI::App& command, eval::PromptOptions& options,
                      std::vector<std::string>& limits, const std::string& lengths_text,
                      const std::string& samples_text);

// --limit MODE=TOKENS,...: the greatest length by mode. Throws when one is neither.
std::map<std::string, std::uint64_t> parse_limits(const std::vector<std::string>& limits);

// What a session's result depends on, as a list: part of a results file's settings.
nlohmann::json settings_of(const SessionOptions& options);
nlohmann::json settings_of(const SequenceOptions& options);
// Fingerprint and hash of the profile.
nlohmann::json settings_of(const Engine& engine);

// The files, by their names without folder and ending; refuses two of one name.
std::vector<eval::NamedText> read_named_texts(const std::vector<std::string>& paths);

// Their hashes, as a results file has them.
std::vector<std::string> content_of(const std::vector<eval::NamedText>& texts);
std::vector<std::string> content_of(const std::vector<std::string>& texts);

// Tables: headings, then rows, as Markdown, and for a terminal with figures aligned to the right.
std::string markdown_table(const std::vector<std::vector<std::string>>& rows);
std::string text_table(const std::vector<std::vector<std::string>>& rows);

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_EVALUATION_H_
