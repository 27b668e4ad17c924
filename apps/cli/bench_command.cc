// eidetic bench
#include <CLI/CLI.hpp>
#include <iostream>

#include "apps/bench/bench.h"
#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/interrupt.h"
#include "apps/cli/terminal.h"
#include "apps/cli/text_file.h"

namespace eidetic::cli {
namespace {

using nlohmann::json;

struct BenchFlags {
  bench::BenchOptions options;
  std::vector<std::string> texts;
  bool json = false;
  ModelFlags model;
  SpanFlags span;
};

std::string number(const json& value, int digits) {
  return value.is_number() ? fixed(value.get<double>(), digits) : "-";
}

std::string rate(const json& spread) {
  return number(spread.at("median"), 1) + " tokens/s";
}

void print_report(const json& report) {
  Table table({"measured", "value", "against", "ratio"}, {false, true, false, true});
  const json& ingest = report.at("ingest");
  table.add(
      {"ingest of " + with_commas(ingest.at("tokens").get<std::uint64_t>()) + " tokens",
       rate(ingest.at("ingest_tokens_per_second")),
       "the same forward passes without memory, " + rate(ingest.at("plain_tokens_per_second")),
       number(ingest.at("ratio"), 3)});
  const json& decode = report.at("decode");
  const auto archive = [&](const char* size) {
    return "decode, archive of " +
           with_commas(decode.at(std::string(size) + "_archive_tokens").get<std::uint64_t>());
  };
  const std::string none = "without memory, " + rate(decode.at("none_tokens_per_second"));
  table.add({archive("small"), rate(decode.at("small_tokens_per_second")), none,
             number(decode.at("small_to_none"), 3)});
  table.add({archive("large"), rate(decode.at("large_tokens_per_second")), none,
             number(decode.at("large_to_none"), 3)});
  table.add({"", "", "the small archive", number(decode.at("large_to_small"), 3)});
  const json& open = report.at("open");
  table.add({"open the large archive", number(open.at("open_seconds").at("median"), 3) + " s"});
  table.add({"attach its collection", number(open.at("attach_seconds").at("median"), 3) + " s"});
  const json& memory = report.at("memory");
  if (memory.at("measured").get<bool>()) {
    table.add({"anonymous memory, most during ingest",
               human_bytes(memory.at("peak_bytes").get<std::uint64_t>()),
               "weights, " + human_bytes(memory.at("weight_bytes").get<std::uint64_t>()),
               "+" + number(memory.at("peak_over_weights").get<double>() / 1e6, 0) + " MB"});
    const json& growth = memory.at("growth_after_settled");
    if (growth.is_number()) {
      table.add(
          {"its growth after the first 100 KB", number(growth.get<double>() / 1e6, 1) + " MB"});
    }
  }
  const json& disk = report.at("disk");
  table.add({"on disk", number(disk.at("bytes_per_token"), 0) + " bytes/token"});
  std::cout << table.text();
}

int run_bench_command(BenchFlags& flags) {
  if (flags.texts.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "no text was named to read",
                "pass --text FILE..., for example the books in bench/data/books.tar.xz");
  }
  for (const std::string& path : flags.texts) {
    flags.options.text += (flags.options.text.empty() ? "" : "\n\n") + read_text_file(path);
  }
  flags.options.session = flags.span.session_options(EID_ATTENTION_STREAM);
  const Engine engine = flags.model.load();
  std::unique_ptr<ProgressMeter> meter;
  std::string stage;
  json report = bench::run_bench(
      engine, flags.options, [&](const std::string& now, const eid_progress& progress) {
        if (now != stage) {
          stage = now;
          meter = std::make_unique<ProgressMeter>(
              stage, std::string(progress.stage) == "decoding" ? "rounds" : "tokens");
        }
        meter->update(progress);
        return !interrupted();
      });
  meter.reset();
  report["model"] = parse_json(engine.info());
  if (flags.json) {
    print_json(report);
  } else {
    print_report(report);
  }
  return kExitOk;
}

}  // namespace

void add_bench_command(CLI::App& app, Action& action) {
  auto flags = std::make_shared<BenchFlags>();
  CLI::App* c = app.add_subcommand("bench", "What memory costs, as ratios within one run");
  auto& o = flags->options;
  c->add_option("--text", flags->texts, "Running text to read")->type_name("FILE...");
  const auto option = [&](const char* name, auto& value, const char* text, int least) {
    c->add_option(name, value, text)
        ->check(CLI::Range(least, 1 << 30))
        ->capture_default_str()
        ->type_name("N");
  };
  option("--ingest-tokens", o.ingest_tokens, "Tokens of the ingest ratio", 64);
  option("--small-tokens", o.small_archive, "Tokens in the small archive", 64);
  option("--tokens", o.large_archive, "Tokens in the large archive", 64);
  option("--repeats", o.repeats, "Repeats of the ingest ratio", 1);
  option("--decode-rounds", o.decode_rounds, "Rounds of decoding, taking turns", 1);
  option("--decode-tokens", o.decode_tokens, "Tokens in a round", 1);
  option("--prompt-tokens", o.prompt_tokens, "Tokens read before decoding", 1);
  c->add_option("--work-dir", o.work_dir, "Keep the archives here for the next run")
      ->type_name("DIR");
  add_json_flag(*c, flags->json);
  flags->model.add(*c);
  flags->span.add(*c);
  add_examples(*c,
               "  eidetic bench --text books/*.txt\n"
               "  eidetic bench --text books/*.txt --tokens 20000 --small-tokens 2000 --json\n"
               "  eidetic bench --text books/*.txt --work-dir bench-archives --device cuda");
  c->callback([flags, &action] { action = [flags] { return run_bench_command(*flags); }; });
}

}  // namespace eidetic::cli
