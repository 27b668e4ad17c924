#include "model/mamba2.h"

#include <ATen/ops/addcmul.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>

#include <vector>

#include "model/causal_convolution.h"
#include "model/feed_forward.h"
#include "model/mamba2_scan.h"

namespace eidetic::model {
namespace {

constexpr int64_t kChunk = 64;

at::Tensor PerHead(const at::Tensor& groups, int64_t heads) {
  const int64_t repeat = heads / groups.size(1);
  return repeat == 1 ? groups : groups.repeat_interleave(repeat, 1);
}

}  // namespace

at::Tensor Mamba2Step(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& decay,
                      const at::Tensor& b, const at::Tensor& c, const at::Tensor& state) {
  const int64_t heads = x.size(1);
  const at::Tensor bh = PerHead(b, heads)[0].unsqueeze(1);           // [H, 1, N]
  const at::Tensor ch = PerHead(c, heads)[0].unsqueeze(2);           // [H, N, 1]
  const at::Tensor xdt = x[0].mul(dt[0].unsqueeze(1)).unsqueeze(2);  // [H, P, 1]
  at::Tensor s = state;
  s.mul_(dt[0].mul(decay).exp_().view({heads, 1, 1})).addcmul_(xdt, bh);
  return at::bmm(s, ch).view({1, heads, -1});
}

at::Tensor Mamba2Mix(const Mamba2Weights& weights, const MambaConfig& config, double epsilon,
                     const at::Tensor& u, const Mamba2State& state) {
  return Mamba2MixProjected(weights, config, epsilon, Linear(u, weights.in_proj), state);
}

at::Tensor Mamba2MixProjected(const Mamba2Weights& weights, const MambaConfig& config,
                              double epsilon, const at::Tensor& projected,
                              const Mamba2State& state) {
  const int64_t sequences = state.conv.dim() == 3 ? state.conv.size(0) : 1;
  const int64_t rows = projected.size(0), length = rows / sequences;
  const int64_t inner = config.Inner(), channels = config.ConvChannels();
  const int64_t heads = config.heads, p = config.head_dim, groups = config.groups, n = config.state,
                width = config.conv_width;

  const at::Tensor before = state.conv.view({sequences, width - 1, channels});
  // Parts of one tensor come from one split: its gradient is put together once.
  const std::vector<at::Tensor> parts = projected.split_with_sizes(
      {inner, channels, heads, projected.size(1) - inner - channels - heads}, 1);
  const at::Tensor inputs =  // [S, W - 1 + L, C]
      at::cat({before, parts[1].unflatten(0, {sequences, length})}, 1);
  before.copy_(inputs.narrow(1, length, width - 1));
  const std::vector<at::Tensor> xbc =  // [S, L, ...] each
      SiluOfCausalConvolution(inputs, weights.conv, weights.conv_bias)
          .split_with_sizes({inner, groups * n, groups * n}, 2);

  // To the scan, sequences are more heads of the same tokens.
  const auto by_token = [&](const at::Tensor& part) {  // [S, L, A, B] -> [L, S A, B]
    return sequences == 1 ? part[0] : part.transpose(0, 1).flatten(1, 2);
  };
  const at::Tensor x = xbc[0].unflatten(2, {heads, p});
  const at::Tensor b = by_token(xbc[1].unflatten(2, {groups, n}));
  const at::Tensor c = by_token(xbc[2].unflatten(2, {groups, n}));
  const at::Tensor raw_dt = parts[2].add(weights.dt_bias);
  const at::Tensor dt =  // [L, S H]
      by_token(at::softplus(raw_dt).view({sequences, length, heads, 1})).squeeze(2);
  const at::Tensor decay = sequences == 1 ? weights.decay : weights.decay.repeat({sequences});
  at::Tensor y = length == 1 ? Mamba2Step(by_token(x), dt, decay, b, c, state.ssm)
                             : Mamba2Scan(by_token(x), dt, decay, b, c, state.ssm, kChunk);
  y = y.view({length, sequences, heads, p}).transpose(0, 1);
  y = at::addcmul(y, x, weights.skip);
  y = y.reshape({rows, inner}).mul(at::silu(parts[0]));
  const at::Tensor normed =
      RmsNorm(y.reshape({rows, groups, inner / groups}), at::Tensor(), epsilon);
  return normed.mul(weights.gated_norm).view({rows, inner});
}

}  // namespace eidetic::model
