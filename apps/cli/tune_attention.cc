#include "apps/cli/tune_attention.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string_view>
#include <vector>

#include "apps/cli/terminal.h"

namespace eidetic::cli {
namespace {

using Names = std::vector<std::string_view>;

struct AttentionOption {
  const char* name;
  Names readers;  // names of --attention
  void (*leave_out)(TuneOptions&);
};

const Names& all_attentions() {
  static const Names names = {"se",        "se-no-memory", "se-random", "se-landmark",
                              "se-stream", "window",       "s2",        "full"};
  return names;
}

const std::vector<AttentionOption>& attention_options() {
  static const Names of_chunks = {"se", "se-no-memory", "se-random", "se-landmark"},
                     of_spans = {"se", "se-random", "se-landmark", "se-stream"},
                     of_streams = {"se-stream"};
  static const std::vector<AttentionOption> options = {
      {"--chunk", of_chunks, [](TuneOptions& o) { o.chunks.clear(); }},
      {"--block", of_spans, [](TuneOptions& o) { o.block_tokens = 0; }},
      {"--span-blocks", of_spans, [](TuneOptions& o) { o.span_blocks = 0; }},
      {"--groups", {"s2"}, [](TuneOptions& o) { o.groups = 0; }},
      {"--window", {"window", "se-stream"}, [](TuneOptions& o) { o.window = 0; }},
      {"--segment", of_streams, [](TuneOptions& o) { o.segment = 0; }},
      {"--sinks", of_streams, [](TuneOptions& o) { o.sinks = 0; }},
      {"--candidates", of_streams, [](TuneOptions& o) { o.candidates = 0; }},
      {"--query-offset", of_streams, [](TuneOptions& o) { o.query_offset = 0; }},
      {"--span-layers", of_streams, [](TuneOptions& o) { o.span_layers.clear(); }}};
  return options;
}

bool is_among(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// "se, se-random or se-landmark"
std::string one_of(const Names& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) text += i + 1 < names.size() ? ", " : " or ";
    text += names[i];
  }
  return text;
}

}  // namespace

std::string attention_of(const TuneOptions& options) {
  if (options.attention.empty()) return options.teacher_path.empty() ? "se" : "full";
  constexpr std::string_view kPaper = "paper";  // another name of `se` and its variants
  if (options.attention.rfind(kPaper, 0) != 0) return options.attention;
  return "se" + options.attention.substr(kPaper.size());
}

void leave_out_unread(const CLI::App& command, const OptionsOfFile& of_file, TuneOptions& options) {
  const std::string attention = attention_of(options);
  if (!is_among(all_attentions(), attention)) return;
  const std::string of_default = !options.attention.empty()     ? ""
                                 : options.teacher_path.empty() ? ", the default,"
                                                                : ", the default with a teacher,";
  std::string unread;
  for (const AttentionOption& one : attention_options()) {
    const CLI::Option* option = command.get_option(one.name);
    if (option->count() == 0 || is_among(one.readers, attention)) continue;
    if (!of_file.contains(option)) {
      throw Error(EID_INVALID_ARGUMENT,
                  "the attention " + attention + of_default + " does not read " + one.name,
                  "leave " + std::string(one.name) + " out, or choose --attention " +
                      one_of(one.readers) + ", which reads it");
    }
    one.leave_out(options);
    unread += (unread.empty() ? "" : ", ") + std::string(one.name).substr(2);
  }
  if (unread.empty()) return;
  print_note("eidetic: of the configuration file the attention " + attention +
             " does not read: " + unread);
}

}  // namespace eidetic::cli
