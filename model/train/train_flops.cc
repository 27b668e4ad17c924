#include "model/train/train_flops.h"

#include <algorithm>
#include <string>

#include "model/train/distill.h"

namespace eidetic::model {
namespace {

// Causal, in pieces of `size` tokens.
double PairsOfPieces(int64_t tokens, int64_t size) {
  const int64_t whole = tokens / size, rest = tokens % size;
  const auto triangle = [](int64_t n) { return static_cast<double>(n) * (n + 1) / 2; };
  return static_cast<double>(whole) * triangle(size) + triangle(rest);
}

double PairsOfWindow(int64_t tokens, int64_t window) {
  const int64_t first = std::min(tokens, window);
  return static_cast<double>(first) * (first + 1) / 2 +
         static_cast<double>(tokens - first) * static_cast<double>(window);
}

// Of tokens behind the first chunk, that see a span besides.
double PairsOfSpans(const SequenceAttentionOptions& options, int64_t tokens, int64_t chunk) {
  double pairs = 0;
  for (int64_t begin = chunk; begin < tokens; begin += chunk) {
    const int64_t span = int64_t{options.span_blocks} * options.block_tokens;
    pairs += static_cast<double>(std::min(chunk, tokens - begin)) *
             static_cast<double>(std::min(span, begin));
  }
  return pairs;
}

// Segments behind what a stream keeps: sinks, span and window. Choosing the span is not counted.
double PairsOfStream(const SequenceAttentionOptions& options, int64_t tokens) {
  const StreamReading& stream = options.stream;
  const int64_t kept =
      stream.sinks + int64_t{stream.span_blocks} * options.block_tokens + stream.window;
  double pairs = PairsOfPieces(tokens, stream.segment);
  for (int64_t begin = stream.segment; begin < tokens; begin += stream.segment) {
    pairs += static_cast<double>(std::min<int64_t>(stream.segment, tokens - begin)) *
             static_cast<double>(std::min(kept, begin));
  }
  return pairs;
}

double ScanFlops(const MambaConfig& mamba, int64_t tokens) {
  // A token's update of the state and its read-out: 3 and 2 a number of the state.
  return 5.0 * mamba.Inner() * mamba.state * static_cast<double>(tokens);
}

}  // namespace

double AttentionPairs(const SequenceAttentionOptions& options, int64_t tokens) {
  switch (options.mode) {
    case SequenceMode::kFull:
      return PairsOfWindow(tokens, tokens);
    case SequenceMode::kWindow:
      return PairsOfWindow(tokens, options.window);
    case SequenceMode::kShiftedSparse:
      return PairsOfPieces(tokens, (tokens + options.groups - 1) / options.groups);
    case SequenceMode::kStream:
      return PairsOfStream(options, tokens);
    default:
      break;
  }
  double pairs = 0;
  for (const int chunk : options.chunk_sizes) {
    pairs += PairsOfPieces(tokens, chunk);
    if (options.mode != SequenceMode::kPaperNoMemory) pairs += PairsOfSpans(options, tokens, chunk);
  }
  return pairs / static_cast<double>(options.chunk_sizes.size());
}

namespace {

// Of a product with `weight`, a token.
double ProductFlops(const at::Tensor& weight, bool backward, bool to_input) {
  double a_weight = 2;
  if (backward && to_input) a_weight += 2;
  if (backward && weight.requires_grad()) a_weight += 2;
  return a_weight * static_cast<double>(weight.numel());
}

// Of a linear map and what is added to it, a token. `to_input`: whether a gradient goes on there.
double MapFlops(const DifferentiableModel& model, const std::string& module, bool backward,
                bool to_input) {
  double flops = ProductFlops(model.parameters().at(module + ".weight"), backward, to_input);
  const auto found = model.low_ranks().find(module);
  if (found == model.low_ranks().end()) return flops;
  flops += ProductFlops(found->second.a, backward, to_input);
  return flops + ProductFlops(found->second.b, backward, /*to_input=*/true);
}

// All layers; not the head.
double LayerFlops(const DifferentiableModel& model, const SequenceAttentionOptions& attention,
                  int64_t tokens, bool backward) {
  const ModelConfig& config = model.config();
  double products = 0, mixing = 0;
  for (const std::string& module : model.LinearModules()) {
    products += MapFlops(model, module, backward, /*to_input=*/true);
  }
  for (const LayerKind kind : config.layers) {
    // 2 for the score and 2 for the value, a number of the head.
    mixing += kind == LayerKind::kAttention
                  ? 4.0 * config.heads * config.head_dim * AttentionPairs(attention, tokens)
                  : ScanFlops(config.mamba, tokens);
  }
  return products * static_cast<double>(tokens) + (backward ? 3 : 1) * mixing;
}

double Flops(const DifferentiableModel& model, const SequenceAttentionOptions& attention,
             int64_t tokens, bool backward) {
  const at::Tensor& head = model.parameters().at(
      model.config().tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
  return ProductFlops(head, backward, /*to_input=*/true) * static_cast<double>(tokens) +
         LayerFlops(model, attention, tokens, backward);
}

}  // namespace

double TrainFlops(const DifferentiableModel& model, const SequenceAttentionOptions& attention,
                  int64_t tokens) {
  return Flops(model, attention, tokens, /*backward=*/true);
}

double ForwardFlops(const DifferentiableModel& model, const SequenceAttentionOptions& attention,
                    int64_t tokens) {
  return Flops(model, attention, tokens, /*backward=*/false);
}

double MixerFlops(const DifferentiableModel& teacher, const DifferentiableModel& student,
                  int64_t tokens) {
  SequenceAttentionOptions full;
  full.mode = SequenceMode::kFull;
  double flops = LayerFlops(teacher, full, tokens, /*backward=*/false);
  for (const size_t layer : LearningLayers(teacher, student)) {
    const std::string path = "model.layers." + std::to_string(layer) + ".";
    const bool norm_learns =
        student.parameters().at(path + "input_layernorm.weight").requires_grad();
    const double products = MapFlops(student, path + "mamba.in_proj", true, norm_learns) +
                            MapFlops(student, path + "mamba.out_proj", true, /*to_input=*/true);
    flops += products * static_cast<double>(tokens) + 3 * ScanFlops(student.config().mamba, tokens);
  }
  return flops;
}

}  // namespace eidetic::model
