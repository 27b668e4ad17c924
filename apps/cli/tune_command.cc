// eidetic tune FILE|DIRECTORY...
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <utility>

#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/ingest_inputs.h"
#include "apps/cli/terminal.h"
#include "apps/cli/tune_attention.h"
#include "apps/cli/tune_processes.h"
#include "apps/cli/tune_report.h"

namespace eidetic::cli {
namespace {

struct TuneFlags {
  TuneOptions options;
  std::vector<std::string> rank_for, alpha_for, dropout_for;  // PATTERN=NUMBER
  int process = -1;  // of several GPUs; -1: the one that begins them
  bool json = false;
  const CLI::App* command = nullptr;
  std::shared_ptr<const OptionsOfFile> of_file;
};

// Files as they are named; of directories those that hold text.
std::vector<std::string> files_of(const std::vector<std::string>& paths) {
  ingest::WalkOptions walk;
  walk.include = {"*.txt", "*.text", "*.md", "*.markdown", "*.jsonl"};
  std::vector<std::string> files;
  for (const IngestInput& input : list_inputs(paths, "", walk).inputs) files.push_back(input.path);
  if (files.empty() && !paths.empty()) {
    throw Error(EID_NOT_FOUND, "'" + paths.front() + "' holds no text",
                "name files, or directories with .txt, .md or .jsonl files");
  }
  return files;
}

// The library's 0 is the default, and its -1 none; people who write 0 mean none.
CLI::Validator none_of_zero() {
  return CLI::Validator(
      [](std::string& text) {
        char* end = nullptr;
        const bool is_zero = std::strtod(text.c_str(), &end) == 0 && end != text.c_str();
        if (is_zero && *end == '\0') text = "-1";
        return std::string();
      },
      "");
}

using ModuleNumbers = std::vector<std::pair<std::string, double>>;

// "q_proj=32": the number stands behind the last =, as a pattern may have some. Empty when it is
// none, or nothing is before it.
ModuleNumbers module_number_of(const std::string& text) {
  const std::size_t at = text.rfind('=');
  if (at == std::string::npos || at == 0 || at + 1 == text.size()) return {};
  char* end = nullptr;
  const double number = std::strtod(text.c_str() + at + 1, &end);
  if (*end != '\0' || !std::isfinite(number)) return {};
  return {{text.substr(0, at), number}};
}

ModuleNumbers module_numbers_of(const std::vector<std::string>& texts) {
  ModuleNumbers numbers;
  for (const std::string& text : texts) numbers.push_back(module_number_of(text).at(0));
  return numbers;
}

// A number for a pattern. `wanted`: what `is_good` lets through.
CLI::Validator module_number(bool (*is_good)(double), const char* wanted) {
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        const ModuleNumbers number = module_number_of(text);
        if (number.empty()) return "'" + text + "' is no PATTERN=NUMBER, such as q_proj=8";
        if (is_good(number[0].second)) return "";
        return "'" + text + "': the number must be " + wanted;
      },
      "");
}

// A picture that cannot be written, on a disk that is full, is no reason to end a run.
bool drew_curves(const TuneOptions& options) {
  try {
    write_curves(options.folder, curves_subtitle(options));
    return true;
  } catch (const Error&) {
    return false;
  }
}

int run_tune(const TuneFlags& flags) {
  TuneOptions options = flags.options;
  options.rank_for = module_numbers_of(flags.rank_for);
  options.alpha_for = module_numbers_of(flags.alpha_for);
  options.dropout_for = module_numbers_of(flags.dropout_for);
  if (options.model_path.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "no model was named",
                "pass --model FILE.gguf, or a folder, or set EIDETIC_MODEL");
  }
  const bool on_several = options.processes > 1 && !options.dry_run;
  if (on_several && flags.process < 0) return run_tune_processes(options.processes);
  if (flags.process >= 0) end_with_who_began_it(options.meeting);
  options.process = std::max(flags.process, 0);
  leave_out_unread(*flags.command, *flags.of_file, options);
  options.inputs = files_of(options.inputs);
  options.held_out = files_of(options.held_out);
  TuneMeter meter(options.folder, /*quiet=*/options.process > 0);
  if (options.dry_run) {
    const nlohmann::json estimate = parse_json(tune(options, std::ref(meter)));
    meter.clear();
    flags.json ? print_json(estimate) : print_tune_estimate(estimate);
    return kExitOk;
  }
  std::string stage;
  nlohmann::json report;
  try {
    report = parse_json(tune(options, [&](const eid_tune_progress& progress) {
      // What was saved can be looked at while it goes on. Before the first step there are no
      // curves, and nothing is to be left of a run that has none.
      const bool was_saved = stage == "saving" && stage != progress.stage && progress.step > 0;
      if (options.process == 0 && was_saved) drew_curves(options);
      stage = progress.stage;
      return meter(progress);
    }));
  } catch (const Error&) {
    meter.clear();
    if (options.process == 0) drew_curves(options);
    throw;
  }
  meter.clear();
  if (options.process > 0) return kExitOk;  // the first one tells
  if (!drew_curves(options)) print_note("eidetic: curves.svg could not be written");
  flags.json ? print_json(report) : print_tuned(report);
  return kExitOk;
}

void add_model_options(CLI::App& c, TuneOptions& o) {
  c.add_option("-m,--model", o.model_path, "The model: a GGUF file, or a folder with safetensors")
      ->envname("EIDETIC_MODEL")
      ->type_name("FILE")
      ->group("Model");
  c.add_option("--device", o.device, "cpu, cuda or cuda:N; default: cpu")
      ->type_name("NAME")
      ->group("Model");
  c.add_option("--threads", o.threads,
               "Threads of the CPU; default: OMP_NUM_THREADS, or one per core")
      ->check(CLI::Range(0, 1024))
      ->type_name("N")
      ->group("Model");
}

void add_adapter_options(CLI::App& c, TuneFlags& flags) {
  TuneOptions& o = flags.options;
  CLI::Option* adapter =
      c.add_option("--adapter", o.adapter_path,
                   "An adapter to go on from, of whatever run or of PEFT; it brings its own kind, "
                   "ranks, alphas, dropout and targets");
  adapter->type_name("DIR")->group("Adapter");
  const auto add = [&](const char* name, auto& value, const char* text) {
    return c.add_option(name, value, text)->excludes(adapter)->group("Adapter");
  };
  add("--kind", o.kind,
      "lora (low-rank matrices), lora+ (embeddings and norms too), hylora (the convolutions of "
      "mixers as well) or mixers (these as a whole, no matrices); default: hylora, with a teacher "
      "mixers")
      ->check(CLI::IsMember({"lora", "lora+", "hylora", "mixers"}))
      ->type_name("NAME");
  add("--rank", o.rank, "Rank of the matrices; default: 32")
      ->check(CLI::Range(1, 1 << 16))
      ->type_name("N");
  add("--alpha", o.alpha, "Their products count alpha / rank; default: twice --rank")
      ->check(CLI::PositiveNumber)
      ->type_name("X");
  add("--dropout", o.dropout, "Share of what they do not see in training; default: 0")
      ->check(CLI::Range(0.0, 0.99))
      ->type_name("SHARE");
  CLI::Option* targets = add("--targets", o.targets,
                             "Linear maps by the ends of their paths, or all-linear; default: "
                             "q_proj,k_proj,v_proj,o_proj");
  targets->delimiter(',')->type_name("NAME,NAME,...");
  add("--target-pattern", o.target_pattern,
      "In place of --targets: a regular expression that fits whole paths, such as "
      "'.*\\.(q|v)_proj'")
      ->excludes(targets)
      ->type_name("PATTERN");
  const auto add_for = [&](const char* name, std::vector<std::string>& values, const char* text,
                           bool (*is_good)(double), const char* wanted, const char* type) {
    add(name, values, text)
        ->check(module_number(is_good, wanted))
        ->allow_extra_args(false)
        ->type_name(type);
  };
  add_for(
      "--rank-for", flags.rank_for,
      "Another rank of targets whose path, or an end of it, a regular expression fits, such as "
      "q_proj=64 or 'layers\\.[0-5]\\..*=8'; alpha stays; may be repeated",
      [](double x) { return x >= 1 && x <= 1 << 16 && x == std::floor(x); },
      "a whole number from 1 to 65536", "PATTERN=N");
  add_for(
      "--alpha-for", flags.alpha_for, "Another alpha, by the same; may be repeated",
      [](double x) { return x > 0; }, "above 0", "PATTERN=X");
  add_for(
      "--dropout-for", flags.dropout_for,
      "Another dropout, by the same; of this run alone, adapters have one; may be repeated",
      [](double x) { return x >= 0 && x < 1; }, "0 or more, and below 1", "PATTERN=SHARE");
}

void add_attention_options(CLI::App& c, TuneOptions& o) {
  c.add_option(
       "--attention", o.attention,
       "How attention layers read in training: se (the published method), se-no-memory, "
       "se-random, se-landmark, se-stream (as sessions do), window, s2 or full; default: se, with "
       "a teacher full")
      ->type_name("NAME")
      ->group("Attention");
  c.add_option("--chunk", o.chunks,
               "se: tokens of a chunk, one of these drawn at each layer's call; default: 2048,4096")
      ->check(CLI::Range(1, 1 << 24))
      ->delimiter(',')
      ->type_name("N,N,...")
      ->group("Attention");
  const auto add = [&](const char* name, int& value, const char* text, int least = 1) {
    return c.add_option(name, value, text)
        ->check(CLI::Range(least, 1 << 24))
        ->type_name("N")
        ->group("Attention");
  };
  add("--block", o.block_tokens, "se, se-stream: tokens of a block of memory; default: 32");
  add("--span-blocks", o.span_blocks,
      "Most blocks that a chunk or segment sees besides; default: se: 8, se-stream: 16");
  add("--groups", o.groups, "s2: groups that a sequence is cut into; default: 4");
  add("--window", o.window, "Tokens; default: window: 4096, se-stream: 1024");
  add("--segment", o.segment, "se-stream: tokens that choose a span together; default: 512");
  add("--sinks", o.sinks, "se-stream: first tokens always attended to; default: 32; 0: none", -1)
      ->transform(none_of_zero());
  add("--candidates", o.candidates, "se-stream: blocks rescored on their real keys; default: 128");
  add("--query-offset", o.query_offset,
      "se-stream: rotary distance of scoring queries; default: the window; 0: none", -1)
      ->transform(none_of_zero());
  c.add_option("--span-layers", o.span_layers,
               "se-stream: model layers that recall, such as 7,16,18; default: all")
      ->delimiter(',')
      ->type_name("N,N,...")
      ->group("Attention");
  c.add_option("--rope-scaling", o.rope_scaling,
               "Rotary positions that reach further: linear:4, ntk:4, yarn:4 or none; default: "
               "what the model says")
      ->type_name("KIND:FACTOR")
      ->group("Attention");
}

void add_teacher_options(CLI::App& c, TuneOptions& o) {
  CLI::Option* teacher =
      c.add_option("--distill-from", o.teacher_path,
                   "A model that this one was made of by `model hybridize`, to learn from instead "
                   "of from the text alone");
  teacher->type_name("TEACHER")->group("Teacher");
  const auto add = [&](const char* name, auto& value, const char* text) {
    return c.add_option(name, value, text)->needs(teacher)->group("Teacher");
  };
  add("--mixer-steps", o.mixer_steps,
      "The first steps: each mixer learns alone to do what the teacher's attention does; then all "
      "together learn to say what the teacher says; default: an eighth of the steps; 0: none")
      ->transform(none_of_zero())
      ->check(CLI::Range(std::int64_t{-1}, std::int64_t{1} << 40))
      ->type_name("N");
  add("--mixer-rate", o.mixer_rate,
      "Rate of learning in these; warm-up and schedule are of each stage; default: 0.003")
      ->check(CLI::PositiveNumber)
      ->type_name("X");
  add("--text-share", o.text_share,
      "How much of the loss after them is the text's own, for what the teacher cannot do; default: "
      "0")
      ->check(CLI::Range(0.0, 1.0))
      ->type_name("SHARE");
}

void add_training_options(CLI::App& c, TuneOptions& o) {
  const auto count = [&](const char* name, std::int64_t& value, const char* text,
                         std::int64_t least) {
    return c.add_option(name, value, text)
        ->check(CLI::Range(least, std::int64_t{1} << 40))
        ->type_name("N")
        ->group("Training");
  };
  const auto amount = [&](const char* name, double& value, const char* text, double least) {
    return c.add_option(name, value, text)
        ->check(CLI::Range(least, 1e9))
        ->type_name("X")
        ->group("Training");
  };
  count("--length", o.length, "Tokens of a sequence; default: 8192", 2);
  count("--batch", o.batch, "Sequences whose gradients make a step; default: 1", 1);
  count("--micro-batch", o.micro_batch,
        "Most of them that go through the model at once: faster on a GPU, for as much more memory; "
        "default: 1",
        1);
  count("--steps", o.steps, "Steps; default: as many as one pass over the files takes", 1);
  c.add_option("--rate", o.rate, "Rate of learning; default: 0.0002")
      ->check(CLI::PositiveNumber)
      ->type_name("X")
      ->group("Training");
  count("--warm-up", o.warm_up,
        "Steps over which the rate grows, in each stage; default: a tenth of its steps, at most "
        "20; 0: none",
        -1)
      ->transform(none_of_zero());
  c.add_option("--schedule", o.schedule,
               "constant, or cosine, which falls to 0 by the end of each stage; default: constant")
      ->check(CLI::IsMember({"constant", "cosine"}))
      ->type_name("NAME")
      ->group("Training");
  amount("--weight-decay", o.weight_decay,
         "Share of the weights that a step of rate 1 takes away; default: 0", 0);
  amount("--clip", o.clip, "The gradient's largest norm; default: 1; 0: it is not clipped", -1)
      ->transform(none_of_zero());
  c.add_option("--seed", o.seed, "The same seed, the same losses on a CPU; default: 0")
      ->type_name("N")
      ->group("Training");
  c.add_option(
       "--dtype", o.dtype,
       "fp32, or bf16 for linear maps and attention, what is trained in fp32; default: fp32")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->type_name("NAME")
      ->group("Training");
  c.add_flag("--recompute", o.recompute,
             "Compute layers again in the backward pass: less memory, a third more time")
      ->group("Training");
  count("--eval-every", o.evaluate_every, "Steps between evaluations; default: 50", 1);
  count("--eval-sequences", o.held_out_sequences,
        "Sequences that an evaluation reads, spread over what was held out; default: 16; -1: all",
        -1);
  count("--checkpoint-every", o.checkpoint_every, "Steps between checkpoints; default: 50", 1);
}

}  // namespace

void add_tune_command(CLI::App& app, Action& action, std::shared_ptr<const OptionsOfFile> of_file) {
  auto flags = std::make_shared<TuneFlags>();
  TuneOptions& o = flags->options;
  CLI::App* c = app.add_subcommand("tune", "Train an adapter of a model on files of text");
  flags->command = c;
  flags->of_file = std::move(of_file);
  c->add_option("FILE", o.inputs,
                "Text or Markdown in UTF-8, JSONL with texts or conversations; a directory: such "
                "files in it")
      ->required();
  c->add_option("-o,--out", o.folder,
                "The run's folder, which is made; a run that is there goes on")
      ->required()
      ->type_name("DIR");
  c->add_option("--held-out", o.held_out, "Files whose loss is measured during training")
      ->type_name("FILE...");
  c->add_flag("--skip-bad", o.skip_bad, "Leave out lines of JSONL that cannot be used; count them");
  c->add_flag("--dry-run", o.dry_run,
              "Estimate memory and time on short steps; train nothing, leave --out alone");
  add_json_flag(*c, flags->json);
  add_model_options(*c, o);
  c->add_option("--gpus", o.processes,
                "Train on so many GPUs, a process each, that share each batch out; with --device "
                "cpu as many processes")
      ->check(CLI::Range(1, 1024))
      ->type_name("N")
      ->group("Model");
  // For the processes that --gpus begins: not for people.
  c->add_option("--process", flags->process)->type_name("N")->group("");
  c->add_option("--meeting", o.meeting)->type_name("FILE")->group("");
  add_adapter_options(*c, *flags);
  add_attention_options(*c, o);
  add_teacher_options(*c, o);
  add_training_options(*c, o);
  add_examples(
      *c,
      "  eidetic tune books/ -o run --model smol-hybrid-135m.gguf --device cuda\n"
      "  eidetic tune books/*.txt --held-out other.txt -o run --length 16384 --recompute\n"
      "  eidetic tune chats.jsonl -o run --kind lora --rank 8 --attention full --length 2048\n"
      "  eidetic tune books/ -o run --targets all-linear --rank 16 --rank-for q_proj=64\n"
      "  eidetic tune books/ -o run --dry-run   # what it would take\n"
      "  eidetic tune books/ -o run --model hybrid.gguf --distill-from llama.gguf --rate 0.0008\n"
      "  eidetic ask \"Who?\" --from books --adapter run/best\n"
      "\nThe same command again goes on where the run was stopped, however that happened.");
  c->callback([flags, &action] { action = [flags] { return run_tune(*flags); }; });
}

}  // namespace eidetic::cli
