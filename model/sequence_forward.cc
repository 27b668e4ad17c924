#include "model/sequence_forward.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "model/feed_forward.h"
#include "model/mamba2.h"
#include "model/rotary.h"
#include "model/sequence_attention.h"
#include "model/stream_attention.h"

namespace eidetic::model {
namespace {

// Tokens whose rows are computed at once, wherever a row needs no other row.
constexpr int64_t kForwardPiece = 2048;

// Calls work(first, count) for the pieces of `tokens` rows, in order.
template <typename Work>
void InPieces(int64_t tokens, Work work) {
  for (int64_t first = 0; first < tokens; first += kForwardPiece) {
    work(first, std::min(kForwardPiece, tokens - first));
  }
}

void Attend(const AttentionWeights& weights, const ModelConfig& config, const at::Tensor& angles,
            const SequenceAttentionOptions& options, const at::Tensor& hidden) {
  const int64_t tokens = hidden.size(0);
  const int64_t heads = config.heads, kv_heads = config.kv_heads, d = config.head_dim;
  const at::Tensor query = at::empty({heads, tokens, d}, hidden.options());
  const at::Tensor key = at::empty({kv_heads, tokens, d}, hidden.options());
  const at::Tensor value = at::empty({kv_heads, tokens, d}, hidden.options());
  InPieces(tokens, [&](int64_t first, int64_t count) {
    const at::Tensor normed =
        RmsNorm(hidden.narrow(0, first, count), weights.norm, config.norm_epsilon);
    const at::Tensor rows = Linear(normed, weights.qkv)
                                .view({count, heads + 2 * kv_heads, d})
                                .transpose(0, 1);  // [H + 2 K, n, d]
    if (options.mode == SequenceMode::kStream) {
      query.narrow(1, first, count).copy_(rows.narrow(0, 0, heads));
      key.narrow(1, first, count).copy_(rows.narrow(0, heads, kv_heads));
    } else {
      const at::Tensor turns = angles.narrow(0, first, count);
      Rotate(rows.narrow(0, 0, heads), turns, query.narrow(1, first, count));
      Rotate(rows.narrow(0, heads, kv_heads), turns, key.narrow(1, first, count));
    }
    value.narrow(1, first, count).copy_(rows.narrow(0, heads + kv_heads, kv_heads));
  });
  const at::Tensor q = query.transpose(0, 1), k = key.transpose(0, 1), v = value.transpose(0, 1);
  const at::Tensor attended = options.mode == SequenceMode::kStream
                                  ? StreamAttention(q, k, v, angles, options)
                                  : SequenceAttention(q, k, v, options);  // [L, H, d]
  InPieces(tokens, [&](int64_t first, int64_t count) {
    AddLinear(attended.narrow(0, first, count).view({count, heads * d}), weights.output,
              config.residual_scale, hidden.narrow(0, first, count));
  });
}

void Mix(const Mamba2Weights& weights, const ModelConfig& config, const at::Tensor& hidden) {
  const MambaConfig& mamba = config.mamba;
  const Mamba2State state = {
      at::zeros({mamba.heads, mamba.head_dim, mamba.state}, hidden.options()),
      at::zeros({mamba.conv_width - 1, mamba.ConvChannels()}, hidden.options())};
  InPieces(hidden.size(0), [&](int64_t first, int64_t count) {
    const at::Tensor residual = hidden.narrow(0, first, count);
    const at::Tensor normed = RmsNorm(residual, weights.norm, config.norm_epsilon);
    AddLinear(Mamba2Mix(weights, mamba, config.norm_epsilon, normed, state), weights.output,
              config.residual_scale, residual);
  });
}

}  // namespace

void RunSequenceLayers(const ModelWeights& weights, const ModelConfig& config,
                       const SequenceAttentionOptions& options, at::Tensor& hidden) {
  const int64_t tokens = hidden.size(0);
  const int64_t positions =
      options.mode == SequenceMode::kStream ? StreamPositions(options) : tokens;
  const at::Tensor angles = RotaryTable(config, hidden.device()).Compute(0, positions);
  for (size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    if (layer.kind == LayerKind::kAttention) {
      Attend(layer.attention, config, angles,
             OptionsOfLayer(options, config.attention_scale, static_cast<int>(i)), hidden);
    } else {
      Mix(layer.mamba, config, hidden);
    }
    InPieces(tokens, [&](int64_t first, int64_t count) {
      FeedForward(layer.feed_forward, config.norm_epsilon, config.residual_scale,
                  hidden.narrow(0, first, count));
    });
  }
}

}  // namespace eidetic::model
