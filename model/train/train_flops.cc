#include "model/train/train_flops.h"

#include <algorithm>

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

// `passes`: over attention and scan, in terms of the forward one. The last two: operations of a
// weight and token.
double Flops(const DifferentiableModel& model, const SequenceAttentionOptions& attention,
             int64_t tokens, double passes, double per_frozen, double per_trained) {
  const ModelConfig& config = model.config();
  const auto count = static_cast<double>(tokens);
  const auto product = [&](const at::Tensor& weight) {
    return (weight.requires_grad() ? per_trained : per_frozen) *
           static_cast<double>(weight.numel()) * count;
  };
  double flops = product(model.parameters().at(config.tied_embeddings ? "model.embed_tokens.weight"
                                                                      : "lm_head.weight"));
  for (const std::string& module : model.LinearModules()) {
    flops += product(model.parameters().at(module + ".weight"));
  }
  for (const auto& [module, low_rank] : model.low_ranks()) {
    flops += product(low_rank.a) + product(low_rank.b);
  }
  for (const LayerKind kind : config.layers) {
    // 2 for the score and 2 for the value, a number of the head.
    flops += passes * (kind == LayerKind::kAttention ? 4.0 * config.heads * config.head_dim *
                                                           AttentionPairs(attention, tokens)
                                                     : ScanFlops(config.mamba, tokens));
  }
  return flops;
}

}  // namespace

double TrainFlops(const DifferentiableModel& model, const SequenceAttentionOptions& attention,
                  int64_t tokens) {
  return Flops(model, attention, tokens, 3, 4, 6);
}

double ForwardFlops(const DifferentiableModel& model, const SequenceAttentionOptions& attention,
                    int64_t tokens) {
  return Flops(model, attention, tokens, 1, 2, 2);
}

}  // namespace eidetic::model
