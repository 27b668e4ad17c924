// eidetic model info | merge | hybridize (calibrate: calibrate_command.cc)
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <sstream>

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

struct HybridizeFlags {
  std::string base, layers, output;
  int taps = 4;
  uint64_t seed = 0;
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
  print_written_model(flags.output, flags.json);
  return kExitOk;
}

// "7,16,18-25" -> the numbers, ranges written out.
std::vector<int32_t> layers_of(const std::string& text) {
  std::vector<int32_t> layers;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    int first = 0, last = 0, end = 0;
    const bool one = std::sscanf(part.c_str(), "%6d%n", &first, &end) == 1 &&
                     end == static_cast<int>(part.size());
    const bool range = !one && std::sscanf(part.c_str(), "%6d-%6d%n", &first, &last, &end) == 2 &&
                       end == static_cast<int>(part.size()) && first <= last;
    if ((!one && !range) || first < 0) {
      throw Error(EID_INVALID_ARGUMENT,
                  "--attention: '" + part + "' is no layer or range of layers",
                  "name layers from 0, as in 7,16,18-25");
    }
    for (int layer = first; layer <= (one ? first : last); ++layer) layers.push_back(layer);
  }
  return layers;
}

int run_hybridize(const HybridizeFlags& flags) {
  const std::vector<int32_t> layers = layers_of(flags.layers);
  model_hybridize(flags.base, layers, flags.output, flags.taps, flags.seed);
  if (flags.json) {
    print_json({{"patch", flags.output}, {"base", flags.base}, {"attention_layers", layers}});
  } else {
    std::cout << "wrote " << printable(flags.output)
              << "; make the hybrid with: eidetic model merge " << printable(flags.base) << " "
              << printable(flags.output) << " -o HYBRID.gguf\n";
  }
  return kExitOk;
}

void add_hybridize_command(CLI::App& model, Action& action) {
  auto flags = std::make_shared<HybridizeFlags>();
  CLI::App* c = model.add_subcommand(
      "hybridize", "Make a patch that turns attention layers of a Llama-family model into mixers");
  c->add_option("BASE", flags->base, "The base model: a GGUF file")->required();
  c->add_option("--attention", flags->layers,
                "Layers that keep their attention, from 0; all others become Mamba-2 mixers")
      ->required()
      ->type_name("LAYERS");
  c->add_option("-o,--output", flags->output, "The patch folder to write")
      ->required()
      ->type_name("FOLDER");
  c->add_option("--taps", flags->taps, "Width of the mixers' convolutions")
      ->capture_default_str()
      ->check(CLI::Range(2, 16));
  c->add_option("--seed", flags->seed, "Of gates and time constants, which the base does not have")
      ->capture_default_str()
      ->type_name("N");
  add_json_flag(*c, flags->json);
  add_examples(
      *c,
      "  eidetic model hybridize SmolLM2-135M-Instruct.Q4_1.gguf --attention 7,16,18-25 \\\n"
      "      -o mixers\n"
      "  eidetic model merge SmolLM2-135M-Instruct.Q4_1.gguf mixers -o hybrid.gguf");
  c->callback([flags, &action] { action = [flags] { return run_hybridize(*flags); }; });
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
  add_hybridize_command(*model, action);
  add_calibrate_command(*model, action);
}

}  // namespace eidetic::cli
