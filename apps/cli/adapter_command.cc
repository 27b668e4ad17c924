// eidetic adapter info | merge
#include <CLI/CLI.hpp>

#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/terminal.h"

namespace eidetic::cli {
namespace {

struct AdapterInfoFlags {
  std::string folder;
  bool json = false;
};

struct AdapterMergeFlags {
  std::string base, adapter, output, type = "f32";
  bool json = false;
};

int run_adapter_info(const AdapterInfoFlags& flags) {
  const nlohmann::json info = parse_json(adapter_info(flags.folder));
  if (flags.json) {
    print_json(info);
  } else {
    print_fields(info);
  }
  return kExitOk;
}

int run_adapter_merge(const AdapterMergeFlags& flags) {
  {
    ProgressMeter meter("merge", "bytes");
    adapter_merge(flags.base, flags.adapter, flags.output, flags.type, progress_of(meter));
  }
  print_written_model(flags.output, flags.json);
  return kExitOk;
}

}  // namespace

void add_adapter_commands(CLI::App& app, Action& action) {
  CLI::App* adapter = app.add_subcommand("adapter", "Look at adapters and merge them into models");
  adapter->require_subcommand(1);
  add_examples(*adapter,
               "  eidetic adapter info my-adapter/\n"
               "  eidetic adapter merge BASE.gguf my-adapter/ -o OUT.gguf\n"
               "  eidetic ask \"Who?\" --from books --model BASE.gguf --adapter my-adapter/");

  auto info = std::make_shared<AdapterInfoFlags>();
  CLI::App* c = adapter->add_subcommand("info", "What an adapter's folder holds; needs no model");
  c->add_option("DIR", info->folder,
                "A folder with adapter_config.json and adapter_model.safetensors")
      ->required();
  add_json_flag(*c, info->json);
  add_examples(*c,
               "  eidetic adapter info my-adapter/\n"
               "  eidetic adapter info --json my-adapter/");
  c->callback([info, &action] { action = [info] { return run_adapter_info(*info); }; });

  auto merge = std::make_shared<AdapterMergeFlags>();
  c = adapter->add_subcommand("merge", "Make one GGUF of a base model and an adapter");
  c->add_option("BASE", merge->base, "The base model: a GGUF file")->required();
  c->add_option("ADAPTER_DIR", merge->adapter, "A folder as PEFT saves adapters")->required();
  c->add_option("-o,--output", merge->output, "The GGUF to write")->required()->type_name("FILE");
  c->add_option("--type", merge->type,
                "How matrices that change are stored: f32, exact, or f16, half as large")
      ->check(CLI::IsMember({"f32", "f16"}))
      ->capture_default_str()
      ->type_name("NAME");
  add_json_flag(*c, merge->json);
  add_examples(*c,
               "  eidetic adapter merge smol-hybrid-135m.gguf my-adapter/ -o mine.gguf\n"
               "  eidetic adapter merge smol-hybrid-135m.gguf my-adapter/ --type f16 -o mine.gguf");
  c->callback([merge, &action] { action = [merge] { return run_adapter_merge(*merge); }; });
}

}  // namespace eidetic::cli
