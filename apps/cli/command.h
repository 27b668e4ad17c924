// What the commands share: how they are registered, and the options that several of them have.
#ifndef EIDETIC_APPS_CLI_COMMAND_H_
#define EIDETIC_APPS_CLI_COMMAND_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/cli/configuration.h"
#include "eidetic/eidetic.hpp"

namespace CLI {
class App;
}

namespace eidetic::cli {

// What the chosen command does; returns the exit code. Set while the command line is parsed, run
// after it, so that help and usage errors never touch a model or an archive.
using Action = std::function<int()>;

void add_model_commands(CLI::App& app, Action& action);
void add_adapter_commands(CLI::App& app, Action& action);
// `of_file`: as add_configuration has it.
void add_tune_command(CLI::App& app, Action& action, std::shared_ptr<const OptionsOfFile> of_file);
void add_ingest_command(CLI::App& app, Action& action);
void add_ask_command(CLI::App& app, Action& action);
void add_generate_command(CLI::App& app, Action& action);
void add_chat_command(CLI::App& app, Action& action);
void add_sessions_commands(CLI::App& app, Action& action);
void add_archive_commands(CLI::App& app, Action& action);
void add_memory_commands(CLI::App& app, Action& action);
// `memory forget`, below `memory`.
void add_forget_command(CLI::App& memory, Action& action);
void add_eval_commands(CLI::App& app, Action& action);
void add_bench_command(CLI::App& app, Action& action);

// --model, --adapter, --rope-scaling, --device, --profile, --threads
struct ModelFlags {
  std::string model, adapter, device = "cpu", profile, rope_scaling;
  int threads = 0;

  void add(CLI::App& command);
  EngineOptions options() const;
  Engine load() const;
};

// --archive
struct ArchiveFlag {
  std::string path;

  void add(CLI::App& command);
  // Tells on standard error when the archive's log is damaged.
  Archive open_to_read() const;
  Archive open_to_write(bool create) const;
  Archive open_to_repair() const;

 private:
  const std::string& required() const;
};

// What an archive that was opened to read lost with its log; empty when nothing.
std::string log_damage(const Archive& archive);

// --window, --sinks, --segment, --span-blocks, --candidates, --successors, --linger,
// --query-offset, --span-layers, --layer-group, --codec, --policy, --word-places
struct SpanFlags {
  int window = 0, sinks = 0, segment = 0, span_blocks = 0, candidates = 0, successors = 0,
      query_offset = 0;
  std::vector<std::int32_t> span_layers;
  std::string codec, policy;
  int word_places = 0, layer_group = 0;
  double linger = 0;

  void add(CLI::App& command);
  SessionOptions session_options(eid_attention_mode mode) const;
};

// --max-tokens, --temperature, --top-k, --top-p, --min-p, --repetition-penalty, --seed, --stop
struct SamplingFlags {
  int max_tokens = 256;
  float temperature = 0, top_p = 0, min_p = 0, repetition_penalty = 0;
  int top_k = 0;
  std::uint64_t seed = 0;
  std::string stop;

  void add(CLI::App& command);
  GenerateOptions options() const;
};

// What `ask` and `generate` have in common.
struct AnswerFlags {
  ModelFlags model;
  ArchiveFlag archive;
  SpanFlags span;
  SamplingFlags sampling;

  void add(CLI::App& command);
};

// --from, which may be repeated
void add_collections_flag(CLI::App& command, std::vector<std::string>& collections,
                          const std::string& text);
void add_json_flag(CLI::App& command, bool& json);
// The examples under --help, one command a line.
void add_examples(CLI::App& command, const std::string& examples);

const char* stop_reason_name(eid_stop_reason reason);

// The collections to ask: `names`, or the archive's only one when none is named. Tells on standard
// error when documents in them are not complete.
std::vector<std::string> collections_to_ask(const Archive& archive,
                                            const std::vector<std::string>& names);

// --policy attention|words|both
void add_policy_flag(CLI::App& command, std::string& policy, const std::string& text);
// EID_RECALL_DEFAULT for an empty name.
eid_recall_policy policy_of(const std::string& name);
// "words", "attention" or "both": why a passage was in the span.
const char* reason_of(const Passage& passage);

// "[1] name bytes 10-20, figures" and, under it, how the passage begins.
void print_passage(std::size_t number, const Passage& passage, const std::string& name,
                   const std::string& figures);
nlohmann::json to_json(const Passage& passage);
// The turn that holds a token of a session, as Archive::sessions tells of it; 0: it is in none.
std::uint64_t turn_of_token(const nlohmann::json& session, std::uint64_t token);
// One line, whatever bytes the strings hold.
std::string compact(const nlohmann::json& json);
void print_json(const nlohmann::json& json);
// A table of fields; objects in objects get a row for each of theirs.
void print_fields(const nlohmann::json& object);
nlohmann::json parse_json(const std::string& text);
// What is said of a model file that was written: its path, or as JSON what it is too.
void print_written_model(const std::string& path, bool json);
// What a command prints with --json when it fails: event, status, message, remedy, exit_code.
nlohmann::json error_json(const Error& error);

// Progress callback that drives a meter and stops when the user pressed Ctrl-C.
class ProgressMeter;
Progress progress_of(ProgressMeter& meter);

// Throws EID_CANCELLED when the user has asked to stop.
void stop_if_interrupted();

}  // namespace eidetic::cli

#endif  // EIDETIC_APPS_CLI_COMMAND_H_
