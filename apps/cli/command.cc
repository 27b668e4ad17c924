#include "apps/cli/command.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "apps/cli/characters.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/name_check.h"
#include "apps/cli/terminal.h"

namespace eidetic::cli {

void ModelFlags::add(CLI::App& command) {
  command.add_option("-m,--model", model, "The model: a GGUF file, or a folder with safetensors")
      ->envname("EIDETIC_MODEL")
      ->type_name("FILE")
      ->group("Model");
  command
      .add_option("--adapter", adapter,
                  "An adapter that is applied to the weights: a folder as PEFT saves it")
      ->envname("EIDETIC_ADAPTER")
      ->type_name("DIR")
      ->group("Model");
  command
      .add_option("--rope-scaling", rope_scaling,
                  "Rotary positions that reach further: linear:4, ntk:4, yarn:4 or none; default: "
                  "what the model says. Another model to memory and profiles")
      ->type_name("KIND:FACTOR")
      ->group("Model");
  command.add_option("--device", device, "cpu, cuda or cuda:N")
      ->capture_default_str()
      ->type_name("NAME")
      ->group("Model");
  command
      .add_option("--profile", profile,
                  "Retrieval profile, or none; default: MODEL.profile.json (with an adapter "
                  "ADAPTER.profile.json) when it is there")
      ->type_name("FILE")
      ->group("Model");
  command
      .add_option("--threads", threads,
                  "Threads of the CPU; default: OMP_NUM_THREADS, or one per core")
      ->check(CLI::Range(0, 1024))
      ->type_name("N")
      ->group("Model");
}

EngineOptions ModelFlags::options() const {
  if (model.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "no model was named",
                "pass --model FILE.gguf, or a folder, or set EIDETIC_MODEL");
  }
  return {.model_path = model,
          .device = device,
          .threads = threads,
          .profile_path = profile,
          .adapter_path = adapter,
          .rope_scaling = rope_scaling};
}

Engine ModelFlags::load() const {
  return Engine(options());
}

void ArchiveFlag::add(CLI::App& command) {
  command.add_option("-a,--archive", path, "The archive: a directory of memory")
      ->envname("EIDETIC_ARCHIVE")
      ->type_name("DIR")
      ->group("Archive");
}

const std::string& ArchiveFlag::required() const {
  if (path.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "no archive was named",
                "pass --archive DIR or set EIDETIC_ARCHIVE");
  }
  return path;
}

Archive ArchiveFlag::open_to_read() const {
  Archive archive({.path = required(), .read_only = true});
  if (const std::string lost = log_damage(archive); !lost.empty()) {
    print_note("eidetic: " + lost + "; this reads what is left");
  }
  return archive;
}

Archive ArchiveFlag::open_to_write(bool create) const {
  return Archive({.path = required(), .create = create});
}

Archive ArchiveFlag::open_to_repair() const {
  return Archive({.path = required(), .repair = true});
}

std::string log_damage(const Archive& archive) {
  try {
    return parse_json(archive.list()).value("log_damage", "");
  } catch (const Error&) {
    return "";  // what keeps the list from being read is told by whoever reads it
  }
}

void SpanFlags::add(CLI::App& command) {
  const auto option = [&](const char* name, auto& value, const char* text, int least = 0) {
    command.add_option(name, value, text)
        ->check(CLI::Range(least, 1 << 24))
        ->type_name("N")
        ->group("Attention");
  };
  option("--window", window, "Tokens of the attention window; default: 1024");
  option("--sinks", sinks, "First tokens that are always attended to; default: 32; -1: none", -1);
  option("--segment", segment, "Most tokens in one forward pass; default: 512");
  option("--span-blocks", span_blocks,
         "Memory blocks recalled at a time; default: the profile's, else 16");
  option("--candidates", candidates,
         "Blocks rescored on their real keys; default: the profile's, else 128; -1: none", -1);
  option("--successors", successors,
         "Blocks of a choice that bring the block after them; default: the profile's, else a "
         "quarter of the span's; -1: none",
         -1);
  command
      .add_option("--linger", linger,
                  "Part of the last token's choice that still counts in an answer, to 1; 0, the "
                  "default: the profile's, else .5; -1: none")
      ->check(CLI::Range(-1.0, 1.0))
      ->type_name("X")
      ->group("Attention");
  option("--query-offset", query_offset,
         "Rotary distance of scoring queries; default: the profile's, else the window; -1: none",
         -1);
  command
      .add_option("--span-layers", span_layers,
                  "Model layers that recall, such as 7,16,18; default: the profile's, else all")
      ->delimiter(',')
      ->type_name("N,N,...")
      ->group("Attention");
  option("--layer-group", layer_group,
         "Layers in a row that share one choice of blocks, while no collection is attached; "
         "default: the profile's, else 1");
  command.add_option("--codec", codec, "How keys and values are stored: int8 (default) or fp16")
      ->check(CLI::IsMember({"int8", "fp16"}))
      ->type_name("NAME")
      ->group("Attention");
  add_policy_flag(command, policy,
                  "What is recalled: by attention, by words (the places that hold words of the "
                  "question) or by both; default: both in ask and chat, elsewhere the profile's, "
                  "else attention");
  option("--word-places", word_places,
         "Most places that words pin, of up to 5 blocks each; default: the profile's, else 3; "
         "-1: none",
         -1);
}

SessionOptions SpanFlags::session_options(eid_attention_mode mode) const {
  SessionOptions options;
  options.mode = mode;
  options.window = window;
  options.sinks = sinks;
  options.segment = segment;
  options.span_blocks = span_blocks;
  options.candidate_blocks = candidates;
  options.successor_blocks = successors;
  options.linger = linger;
  options.query_offset = query_offset;
  options.codec = codec;
  options.span_layers = span_layers;
  options.policy = policy_of(policy);
  options.word_places = word_places;
  options.layer_group = layer_group;
  return options;
}

void SamplingFlags::add(CLI::App& command) {
  const auto option = [&](const char* name, auto& value, const char* text, const char* type = "X") {
    return command.add_option(name, value, text)->type_name(type)->group("Sampling");
  };
  option("-n,--max-tokens", max_tokens, "Most tokens to generate", "N")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  option("-t,--temperature", temperature, "How freely tokens are drawn; default: 0, greedy")
      ->check(CLI::Range(0.0, 100.0));
  option("--top-k", top_k, "Only the N likeliest tokens; default: all", "N")
      ->check(CLI::NonNegativeNumber);
  option("--top-p", top_p, "Only the likeliest tokens that sum to X; default: all")
      ->check(CLI::Range(0.0, 1.0));
  option("--min-p", min_p, "Only tokens at least X times as likely as the likeliest; default: all")
      ->check(CLI::Range(0.0, 1.0));
  option("--repetition-penalty", repetition_penalty, "Above 1 discourages repetition; default: off")
      ->check(CLI::Range(0.0, 100.0));
  option("--seed", seed, "Seed of the sampler", "N");
  option("--stop", stop, "Text that ends the answer", "TEXT");
}

GenerateOptions SamplingFlags::options() const {
  GenerateOptions options;
  options.max_tokens = max_tokens;
  options.temperature = temperature;
  options.top_k = top_k;
  options.top_p = top_p;
  options.min_p = min_p;
  options.repetition_penalty = repetition_penalty;
  options.seed = seed;
  options.stop = stop;
  return options;
}

void AnswerFlags::add(CLI::App& command) {
  archive.add(command);
  model.add(command);
  span.add(command);
  sampling.add(command);
}

void add_collections_flag(CLI::App& command, std::vector<std::string>& collections,
                          const std::string& text) {
  command.add_option("--from,--collection", collections, text)
      ->type_name("NAME")
      ->check(name_check("a collection's name"))
      ->take_all()
      ->allow_extra_args(false);
}

void add_json_flag(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "Print JSON on standard output");
}

void add_examples(CLI::App& command, const std::string& examples) {
  command.footer("\nExamples:\n" + examples);
}

const char* stop_reason_name(eid_stop_reason reason) {
  switch (reason) {
    case EID_STOP_END:
      return "end";
    case EID_STOP_LIMIT:
      return "limit";
    case EID_STOP_TEXT:
      return "stop text";
    case EID_STOP_CALLER:
      return "interrupted";
  }
  return "unknown";
}

namespace {

// Documents that are being read, or whose reading was interrupted, are not searched.
void tell_of_unfinished(const nlohmann::json& collection) {
  std::size_t count = 0;
  for (const auto& document : collection.value("documents", nlohmann::json::array())) {
    count += !document.value("complete", true);
  }
  if (count == 0) return;
  print_note("eidetic: " + std::to_string(count) + (count == 1 ? " document" : " documents") +
             " of '" + collection.value("name", "") +
             "' not read to the end and not searched; ingest again to go on");
}

}  // namespace

std::vector<std::string> collections_to_ask(const Archive& archive,
                                            const std::vector<std::string>& names) {
  const nlohmann::json list = parse_json(archive.list());
  std::string known;
  std::vector<std::string> all;
  for (const auto& collection : list.value("collections", nlohmann::json::array())) {
    const std::string name = collection.value("name", "");
    known += (all.empty() ? "" : ", ") + name;
    all.push_back(name);
    if (names.empty() || std::find(names.begin(), names.end(), name) != names.end()) {
      tell_of_unfinished(collection);
    }
  }
  if (!names.empty()) return names;
  if (all.size() == 1) return all;
  throw Error(all.empty() ? EID_NOT_FOUND : EID_INVALID_ARGUMENT,
              all.empty() ? "the archive holds no collection" : "no collection was named",
              all.empty() ? "run: eidetic ingest FILE --into COLLECTION"
                          : "pass --from with one or more of: " + known);
}

void print_passage(std::size_t number, const Passage& passage, const std::string& name,
                   const std::string& figures) {
  constexpr std::size_t kExcerpt = 300, kIndent = 4;
  std::cout << "[" << number << "] " << styled(printable(name), Style::kBold) << " bytes "
            << passage.byte_begin << "-" << passage.byte_end << ", " << figures << "\n"
            << styled(wrapped(one_line(passage.text, kExcerpt), kIndent, output_columns()),
                      Style::kDim);
}

void add_policy_flag(CLI::App& command, std::string& policy, const std::string& text) {
  command.add_option("--policy", policy, text)
      ->check(CLI::IsMember({"attention", "words", "both"}))
      ->type_name("NAME")
      ->group("Attention");
}

eid_recall_policy policy_of(const std::string& name) {
  if (name == "attention") return EID_RECALL_ATTENTION;
  if (name == "words") return EID_RECALL_WORDS;
  return name == "both" ? EID_RECALL_BOTH : EID_RECALL_DEFAULT;
}

const char* reason_of(const Passage& passage) {
  const bool by_words = (passage.reasons & EID_BY_WORDS) != 0;
  if ((passage.reasons & EID_BY_ATTENTION) == 0) return by_words ? "words" : "none";
  return by_words ? "both" : "attention";
}

std::uint64_t turn_of_token(const nlohmann::json& session, std::uint64_t token) {
  for (const nlohmann::json& turn : session.value("turn_list", nlohmann::json::array())) {
    if (token < turn.value("token_end", std::uint64_t{0})) {
      return turn.value("turn", std::uint64_t{0});
    }
  }
  return 0;
}

nlohmann::json to_json(const Passage& passage) {
  nlohmann::json layers = nlohmann::json::array();
  for (const eid_layer_share& share : passage.layers) {
    layers.push_back(
        {{"layer", share.layer}, {"attention", share.attention}, {"presence", share.presence}});
  }
  return {{"collection", passage.collection},
          {"source", passage.source},
          {"document", passage.document},
          {"byte_begin", passage.byte_begin},
          {"byte_end", passage.byte_end},
          {"text_begin", passage.text_begin},
          {"text_end", passage.text_end},
          {"token_begin", passage.token_begin},
          {"token_end", passage.token_end},
          {"blocks", passage.blocks},
          {"attention", passage.attention},
          {"focus", passage.focus},
          {"focus_layer", passage.focus_layer},
          {"presence", passage.presence},
          {"score", passage.score},
          {"layers", std::move(layers)},
          {"why", reason_of(passage)},
          {"word_score", passage.word_score},
          {"text", passage.text}};
}

std::string compact(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void print_json(const nlohmann::json& json) {
  std::cout << compact(json) << std::endl;
}

namespace {

std::string plain(const std::string& key, const nlohmann::json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_number_unsigned()) return compact(value);
  const auto number = value.get<std::uint64_t>();
  return key.ends_with("_bytes") ? human_bytes(number) : with_commas(number);
}

void add_fields(Table& table, const nlohmann::json& object, const std::string& prefix) {
  for (const auto& [key, value] : object.items()) {
    if (value.is_object()) {
      add_fields(table, value, prefix + key + ".");
    } else {
      table.add({prefix + key, plain(key, value)});
    }
  }
}

}  // namespace

void print_fields(const nlohmann::json& object) {
  Table table({"field", "value"});
  add_fields(table, object, "");
  std::cout << table.text();
}

nlohmann::json parse_json(const std::string& text) {
  nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    throw Error(EID_INTERNAL, "the library's report is no JSON: " + one_line(text, 120),
                "please report this");
  }
  return json;
}

void print_written_model(const std::string& path, bool json) {
  const nlohmann::json info = parse_json(model_info(path));
  if (json) {
    print_json({{"output", path}, {"model", info}});
  } else {
    std::cout << "wrote " << printable(path) << "\n";
  }
}

nlohmann::json error_json(const Error& error) {
  return {{"event", "error"},
          {"status", eid_status_name(error.status())},
          {"message", error.what()},
          {"remedy", error.remedy()},
          {"exit_code", exit_code(error.status())}};
}

Progress progress_of(ProgressMeter& meter) {
  return [&meter](const eid_progress& progress) {
    meter.update(progress);
    return !interrupted();
  };
}

void stop_if_interrupted() {
  if (interrupted()) throw Error(EID_CANCELLED, "stopped by Ctrl-C");
}

}  // namespace eidetic::cli
