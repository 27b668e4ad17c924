#include "model/mamba2.h"

#include <ATen/ops/addcmul.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/tril.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "model/causal_convolution.h"
#include "model/feed_forward.h"

namespace eidetic::model {
namespace {

constexpr int64_t kChunk = 64;
// States that are chained by one matrix of decays; of more chunks, groups of so many.
constexpr int64_t kChained = 64, kChainGroup = 32;

// exp(s_i - s_j) for j <= i and 0 above the diagonal, of inclusive sums s [..., n]. The mask comes
// before exp: above the diagonal the difference is positive and may overflow.
at::Tensor DecayMatrix(const at::Tensor& sums) {
  const int64_t n = sums.size(-1);
  const at::Tensor above = at::ones({n, n}, sums.options().dtype(at::kBool)).tril_().logical_not_();
  return sums.unsqueeze(-1)
      .sub(sums.unsqueeze(-2))
      .masked_fill_(above, -std::numeric_limits<double>::infinity())
      .exp_();
}

at::Tensor PerHead(const at::Tensor& groups, int64_t heads) {
  const int64_t repeat = heads / groups.size(1);
  return repeat == 1 ? groups : groups.repeat_interleave(repeat, 1);
}

// [L, ..] with zeros behind it up to `length` rows.
at::Tensor Padded(const at::Tensor& rows, int64_t length) {
  const int64_t missing = length - rows.size(0);
  if (missing == 0) return rows;
  std::vector<int64_t> pad(static_cast<size_t>(2 * rows.dim()));
  pad.back() = missing;
  return at::constant_pad_nd(rows, pad);
}

struct States {
  at::Tensor before;  // each chunk: [B, n, V]
  at::Tensor last;    // after the last chunk: [B, 1, V]
};

// The states between n chunks, of which each multiplies by exp(sums) [B, n] and adds `added`
// [B, n, V]; `first` [B, 1, V] stands before them. In two or more levels where there are many
// chunks: nothing is done one after the other, and no matrix is n x n.
States ChainStates(const at::Tensor& sums, const at::Tensor& added, const at::Tensor& first) {
  const int64_t batch = added.size(0), n = added.size(1), values = added.size(2);
  if (n <= kChained) {
    const at::Tensor before = at::constant_pad_nd(sums, {1, 0}).cumsum(-1);  // [B, n + 1]
    const at::Tensor states = at::bmm(DecayMatrix(before), at::cat({first, added}, 1));
    return {states.narrow(1, 0, n), states.narrow(1, n, 1)};
  }
  const int64_t groups = (n + kChainGroup - 1) / kChainGroup, missing = groups * kChainGroup - n;
  const at::Tensor sum = at::constant_pad_nd(sums, {0, missing}).view({-1, kChainGroup});
  const at::Tensor add = (missing == 0 ? added : at::constant_pad_nd(added, {0, 0, 0, missing}))
                             .reshape({batch * groups, kChainGroup, values});
  const at::Tensor total = sum.sum(-1, /*keepdim=*/true);
  const at::Tensor to_end = total.sub(sum.cumsum(-1)).exp_().unsqueeze(1);  // [B groups, 1, g]
  const States outer = ChainStates(total.view({batch, groups}),
                                   at::bmm(to_end, add).view({batch, groups, values}), first);
  const States inner = ChainStates(sum, add, outer.before.reshape({batch * groups, 1, values}));
  return {inner.before.reshape({batch, groups * kChainGroup, values}).narrow(1, 0, n), outer.last};
}

}  // namespace

// All chunks at once. With r = H / G heads in a group, tensors are laid out by group, chunk, token,
// head of the group: B and C are met as they are, without a copy for each head.
at::Tensor Mamba2Scan(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& decay,
                      const at::Tensor& b, const at::Tensor& c, const at::Tensor& state,
                      int64_t chunk) {
  const int64_t tokens = x.size(0), heads = x.size(1), p = x.size(2);
  const int64_t groups = b.size(1), n = b.size(2), r = heads / groups;
  const int64_t chunks = (tokens + chunk - 1) / chunk, q = chunks == 1 ? tokens : chunk;
  const int64_t length = chunks * q, batch = groups * chunks;
  // dt = 0 neither decays the state nor adds to it.
  const at::Tensor step = Padded(dt, length);
  const auto chunked = [&](const at::Tensor& rows) {  // [L, G, N] -> [G chunks, Q, N]
    return Padded(rows, length)
        .view({chunks, q, groups, n})
        .permute({2, 0, 1, 3})
        .reshape({batch, q, n});
  };
  const at::Tensor bg = chunked(b), cg = chunked(c);
  const at::Tensor xdt = Padded(x, length)
                             .mul(step.unsqueeze(-1))
                             .view({chunks, q, groups, r, p})
                             .permute({2, 0, 1, 3, 4})
                             .reshape({batch, q, r, p});
  const at::Tensor sums = step.mul(decay)
                              .view({chunks, q, groups, r})
                              .permute({2, 0, 3, 1})
                              .reshape({batch, r, q})
                              .contiguous()
                              .cumsum(-1);
  const auto by_token = [](const at::Tensor& numbers) {  // [batch, r, Q] -> [batch, Q, r, 1]
    return numbers.transpose(1, 2).unsqueeze(-1);
  };

  // Within chunks.
  const at::Tensor scores = at::bmm(cg, bg.transpose(1, 2)).unsqueeze(1).mul(DecayMatrix(sums));
  const at::Tensor inner =
      at::bmm(scores.reshape({batch * r, q, q}), xdt.transpose(1, 2).reshape({batch * r, q, p}));

  // What chunks add to the state, and the states between them.
  const at::Tensor total = sums.narrow(2, q - 1, 1);  // [batch, r, 1]
  const at::Tensor left = xdt.mul(by_token(total.sub(sums).exp_())).flatten(2);
  const auto by_head = [&](const at::Tensor& rows) {  // [batch, r V] -> [H, chunks, V]
    return rows.view({groups, chunks, r, -1}).transpose(1, 2).reshape({heads, chunks, -1});
  };
  const at::Tensor added = at::bmm(left.transpose(1, 2), bg);  // [batch, r P, N]
  const States states = ChainStates(by_head(total.flatten(1)).squeeze(2), by_head(added.flatten(1)),
                                    state.reshape({heads, 1, p * n}));
  const at::Tensor before =
      states.before.reshape({groups, r, chunks, p * n}).transpose(1, 2).reshape({batch, r * p, n});
  const at::Tensor outer = at::bmm(cg, before.transpose(1, 2)).view({batch, q, r, p});
  const at::Tensor y = at::addcmul(inner.view({batch, r, q, p}).transpose(1, 2), outer,
                                   by_token(sums.exp()));  // [batch, Q, r, P]
  state.copy_(states.last.view({heads, p, n}));
  return y.view({groups, chunks, q, r, p})
      .permute({1, 2, 0, 3, 4})
      .reshape({length, heads, p})
      .narrow(0, 0, tokens);
}

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
