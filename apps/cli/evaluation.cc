#include "apps/cli/evaluation.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <set>

#include "apps/cli/results_file.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"
#include "apps/eval/reading_mode.h"

namespace eidetic::cli {

using nlohmann::json;

void SequenceFlags::add(CLI::App& command) {
  const auto option = [&](const char* name, int& value, const char* text) {
    command.add_option(name, value, text)
        ->check(CLI::Range(1, 1 << 24))
        ->type_name("N")
        ->group("Sequences");
  };
  option(
      "--chunk", chunk,
      "Tokens of a chunk in mode paper and its controls; default: 4096; of a segment in se-stream; "
      "default: 512");
  option("--chunk-blocks", chunk_blocks,
         "Blocks of 32 tokens that a chunk recalls; default: 8; se-stream: 16");
  option("--groups", groups, "Groups in mode s2; default: 4");
}

SequenceOptions SequenceFlags::options() const {
  SequenceOptions options;
  options.chunk = chunk;
  options.span_blocks = chunk_blocks;
  options.groups = groups;
  return options;
}

void ReportFlags::add(CLI::App& command) {
  json_given =
      command
          .add_option("--json", json_file, "Write JSON to FILE, or to standard output without one")
          ->expected(0, 1)
          ->type_name("[FILE]");
  command.add_option("--markdown", markdown_file, "Write the tables as Markdown")
      ->type_name("FILE");
  CLI::Option* file =
      command
          .add_option(
              "--results", results,
              "Keep every result in this file; a run that was stopped goes on after its last")
          ->type_name("FILE");
  command.add_flag("--report-only", only, "Report what --results holds, and measure nothing")
      ->needs(file);
}

bool ReportFlags::write(const json& report, const std::string& markdown) const {
  if (!markdown_file.empty()) write_file(markdown_file, markdown);
  if (json_given->count() == 0) return false;
  if (json_file.empty()) {
    print_json(report);
    return true;
  }
  write_file(json_file, compact(report) + "\n");
  return false;
}

void WorkArchiveFlags::add(CLI::App& command) {
  command.add_option("--keep-archive", keep, "Use this archive and keep it for the next run")
      ->type_name("DIR");
  command.add_option("--work-dir", work_dir, "Where the temporary archive is made")
      ->type_name("DIR");
}

WorkArchive::WorkArchive(const WorkArchiveFlags& flags) {
  std::string path = flags.keep;
  if (path.empty()) path = directory_.emplace(flags.work_dir) / "archive";
  archive_.emplace(ArchiveOptions{.path = path, .create = true});
}

void add_modes_flag(CLI::App& command, std::vector<std::string>& modes,
                    const std::vector<std::string>& allowed, const std::string& text) {
  command.add_option("--modes", modes, text)
      ->delimiter(',')
      ->check(CLI::IsMember(allowed))
      ->type_name("NAME,...");
}

void check_each_once(const std::vector<std::string>& names, const std::string& option) {
  std::set<std::string> seen;
  for (const std::string& name : names) {
    if (seen.insert(name).second) continue;
    throw Error(EID_INVALID_ARGUMENT, "'" + name + "' is named twice in " + option,
                "name each once");
  }
}

void add_prompt_flags(CLI::App& command, eval::PromptOptions& options,
                      std::vector<std::string>& limits, const std::string& lengths_text,
                      const std::string& samples_text) {
  command.add_option("--lengths", options.lengths, lengths_text)
      ->delimiter(',')
      ->check(CLI::Range(256, 1 << 24))
      ->capture_default_str()
      ->type_name("N,N,...");
  command.add_option("--limit", limits, "Lengths above TOKENS are not measured in that mode")
      ->delimiter(',')
      ->type_name("MODE=TOKENS,...");
  command.add_option("--samples", options.samples, samples_text)
      ->check(CLI::Range(1, 100000))
      ->capture_default_str()
      ->type_name("N");
  command
      .add_option("--first-sample", options.first_sample,
                  "Number of the first prompt, so that several processes may share the work")
      ->check(CLI::Range(0, 1 << 30))
      ->capture_default_str()
      ->type_name("N");
  command.add_option("--seed", options.seed, "The same seed gives the same prompts")
      ->capture_default_str()
      ->type_name("N");
}

std::map<std::string, std::uint64_t> parse_limits(const std::vector<std::string>& limits) {
  std::map<std::string, std::uint64_t> lengths;
  for (const std::string& limit : limits) {
    const std::size_t equals = limit.find('=');
    std::uint64_t length = 0;
    const std::string number = equals == std::string::npos ? "" : limit.substr(equals + 1);
    if (!CLI::detail::lexical_cast(number, length) || number[0] == '-') {
      throw Error(EID_INVALID_ARGUMENT, "the limit '" + limit + "' is not MODE=TOKENS",
                  "write it like full=32768");
    }
    eval::reads_a_sequence(limit.substr(0, equals));  // refuses what is no mode
    lengths.emplace(limit.substr(0, equals), length);
  }
  return lengths;
}

json settings_of(const SessionOptions& o) {
  json settings = {
      o.window,       o.sinks,       o.segment,     o.span_blocks, o.candidate_blocks,
      o.query_offset, o.word_places, o.span_layers, o.codec,       static_cast<int>(o.policy)};
  // So that runs of before layers shared a choice go on.
  if (o.layer_group != 0) settings.push_back(o.layer_group);
  if (o.successor_blocks != 0) {
    settings.push_back("successors " + std::to_string(o.successor_blocks));
  }
  if (o.linger != 0) settings.push_back("linger " + std::to_string(o.linger));
  return settings;
}

json settings_of(const SequenceOptions& o) {
  return {o.chunk, o.block_tokens, o.span_blocks, o.groups};
}

json settings_of(const Engine& engine) {
  const json model = parse_json(engine.info());
  return {{"fingerprint", model.value("fingerprint", "")},
          {"profile", model.value("retrieval_profile", json::object()).value("hash", "")}};
}

std::vector<eval::NamedText> read_named_texts(const std::vector<std::string>& paths) {
  std::vector<eval::NamedText> texts;
  std::vector<std::string> names;
  for (const std::string& path : paths) {
    texts.push_back({std::filesystem::path(path).stem().string(), read_text_file(path)});
    names.push_back(texts.back().name);
  }
  check_each_once(names, "--text");
  return texts;
}

std::vector<std::string> content_of(const std::vector<eval::NamedText>& texts) {
  std::vector<std::string> content;
  for (const eval::NamedText& text : texts) content.push_back(content_hash(text.text));
  return content;
}

std::vector<std::string> content_of(const std::vector<std::string>& texts) {
  std::vector<std::string> content;
  for (const std::string& text : texts) content.push_back(content_hash(text));
  return content;
}

std::string markdown_table(const std::vector<std::vector<std::string>>& rows) {
  std::string text;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (const std::string& cell : rows[r]) text += "| " + cell + " ";
    text += "|\n";
    if (r > 0) continue;
    for (std::size_t i = 0; i < rows[r].size(); ++i) text += "|---";
    text += "|\n";
  }
  return text;
}

std::string text_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<bool> numbers(rows[0].size(), true);
  numbers[0] = false;
  Table table(rows[0], numbers);
  for (std::size_t r = 1; r < rows.size(); ++r) table.add(rows[r]);
  return table.text();
}

}  // namespace eidetic::cli
