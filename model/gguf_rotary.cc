#include "model/gguf_rotary.h"

#include <cmath>
#include <string>

namespace eidetic::model {

void AddRotary(const ModelConfig& config, GgufWriter* writer) {
  const RotaryScaling& scaling = config.rotary_scaling;
  const auto key = [&](const char* name) { return config.architecture + ".rope." + name; };
  const auto real = [&](const char* name, double value) {
    writer->AddFloat32(key(name), static_cast<float>(value));
  };
  const bool is_ntk = scaling.kind == RotaryScalingKind::kNtk;
  real("freq_base", is_ntk ? NtkBase(config.rotary_dims, config.rotary_base, scaling.factor)
                           : config.rotary_base);
  if (is_ntk || scaling.kind == RotaryScalingKind::kNone) return;
  const bool is_yarn = scaling.kind == RotaryScalingKind::kYarn;
  writer->AddString(key("scaling.type"), is_yarn ? "yarn" : "linear");
  real("scaling.factor", scaling.factor);
  if (!is_yarn) return;
  writer->AddUint32(key("scaling.original_context_length"),
                    static_cast<uint32_t>(std::lround(scaling.original_context)));
  const RotaryScaling usual{scaling.kind, scaling.factor};
  if (scaling.beta_fast != usual.beta_fast) real("scaling.yarn_beta_fast", scaling.beta_fast);
  if (scaling.beta_slow != usual.beta_slow) real("scaling.yarn_beta_slow", scaling.beta_slow);
  if (scaling.attention_factor != 0) {  // it is told as a share of the usual one
    real("scaling.attn_factor", scaling.attention_factor / RotaryLength(usual));
  }
}

bool IsRotaryKey(std::string_view key, std::string_view architecture) {
  if (!key.starts_with(architecture)) return false;
  key.remove_prefix(architecture.size());
  // Of Granite it says whether positions are rotary at all.
  if (key == ".rope.scaling.finetuned") return false;
  return key == ".rope.freq_base" || key == ".rope.scale_linear" ||
         key.starts_with(".rope.scaling.");
}

}  // namespace eidetic::model
