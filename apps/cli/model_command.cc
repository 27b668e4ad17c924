// eidetic model info | merge (calibrate: calibrate_command.cc)
#include <CLI/CLI.hpp>
#include <iostream>

#include "apps/cli/calibrate_command.h"
#include "apps/cli/characters.h"
#include "apps/cli/command.h"
#include "apps/cli/exit_code.h"
#include "apps/cli/terminal.h"

namespace eidetic::cli {
namespace {

struct InfoFlags {
  std::string file;
  bool json = false;
};

struct MergeFlags {
  std::string base, patch, output;
  bool json = false;
};

int run_info(const InfoFlags& flags) {
  if (flags.file.empty()) {
    throw Error(EID_INVALID_ARGUMENT, "no model was named",
                "name a GGUF file or a folder with safetensors, or set EIDETIC_MODEL");
  }
  const nlohmann::json info = parse_json(model_info(flags.file));
  if (flags.json) {
    print_json(info);
    return kExitOk;
  }
  print_fields(info);
  return kExitOk;
}

int run_merge(const MergeFlags& flags) {
  {
    ProgressMeter meter("merge", "bytes");
    model_merge(flags.base, flags.patch, flags.output, progress_of(meter));
  }
  const nlohmann::json info = parse_json(model_info(flags.output));
  if (flags.json) {
    print_json({{"output", flags.output}, {"model", info}});
  } else {
    std::cout << "wrote " << printable(flags.output) << "\n";
  }
  return kExitOk;
}

}  // namespace

void add_model_commands(CLI::App& app, Action& action) {
  CLI::App* model = app.add_subcommand("model", "Look at model files and make them");
  model->require_subcommand(1);
  add_examples(*model,
               "  eidetic model info model.gguf\n"
               "  eidetic model merge BASE.gguf PATCH_DIR -o OUT.gguf");

  auto info = std::make_shared<InfoFlags>();
  CLI::App* c =
      model->add_subcommand("info", "What a model's file or folder holds; loads no weights");
  c->add_option("FILE", info->file, "A GGUF file, or a folder with safetensors")
      ->envname("EIDETIC_MODEL");
  add_json_flag(*c, info->json);
  add_examples(*c,
               "  eidetic model info smol-hybrid-135m.gguf\n"
               "  eidetic model info SmolLM2-135M-Instruct/\n"
               "  eidetic model info --json smol-hybrid-135m.gguf");
  c->callback([info, &action] { action = [info] { return run_info(*info); }; });

  auto merge = std::make_shared<MergeFlags>();
  c = model->add_subcommand("merge", "Make one GGUF of a base model and a patch folder");
  c->add_option("BASE", merge->base, "The base model: a GGUF file")->required();
  c->add_option("PATCH_DIR", merge->patch, "A folder with config.json and mixers.safetensors")
      ->required();
  c->add_option("-o,--output", merge->output, "The GGUF to write")->required()->type_name("FILE");
  add_json_flag(*c, merge->json);
  add_examples(
      *c,
      "  eidetic model merge SmolLM2-135M-Instruct.Q4_1.gguf model/zoo/smol-hybrid-135m \\\n"
      "      -o smol-hybrid-135m.gguf");
  c->callback([merge, &action] { action = [merge] { return run_merge(*merge); }; });
  add_calibrate_command(*model, action);
}

}  // namespace eidetic::cli
