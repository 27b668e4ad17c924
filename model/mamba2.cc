#include "model/mamba2.h"

#include <ATen/ops/addcmul.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/tril.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "model/feed_forward.h"

namespace eidetic::model {
namespace {

constexpr int64_t kChunk = 64;
// Tokens scanned at once: bounds the matrices between chunks.
constexpr int64_t kScanPiece = 2048;

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

// [L, groups, N] cut into chunks -> [chunks * groups, Q, N]; heads of a group share it.
at::Tensor Chunked(const at::Tensor& rows, int64_t chunks) {
  const int64_t q = rows.size(0) / chunks;
  return rows.view({chunks, q, rows.size(1), rows.size(2)})
      .transpose(1, 2)
      .reshape({chunks * rows.size(1), q, rows.size(2)});
}

at::Tensor PerHead(const at::Tensor& groups, int64_t heads) {
  const int64_t repeat = heads / groups.size(1);
  return repeat == 1 ? groups : groups.repeat_interleave(repeat, 1);
}

// The state before each chunk and after the last: [H, chunks + 1, P * N]. `sums` [chunks, H]: the
// log decay of each chunk as a whole; `added` [chunks, H, P, N]: what each chunk adds.
at::Tensor ChainStates(const at::Tensor& sums, const at::Tensor& added, const at::Tensor& state) {
  const int64_t chunks = added.size(0), heads = added.size(1);
  const at::Tensor all = at::cat({state.unsqueeze(0), added}, 0);  // [chunks + 1, H, P, N]
  const at::Tensor before = at::constant_pad_nd(sums.t(), {1, 0}).cumsum(-1);  // [H, chunks + 1]
  return at::bmm(DecayMatrix(before), all.view({chunks + 1, heads, -1}).transpose(0, 1));
}

// At most kScanPiece tokens; L is 1 chunk or a multiple of the chunk.
at::Tensor ScanPiece(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& decay,
                     const at::Tensor& b, const at::Tensor& c, const at::Tensor& state,
                     int64_t chunks) {
  const int64_t length = x.size(0), heads = x.size(1), p = x.size(2), n = b.size(2);
  const int64_t q = length / chunks;
  const at::Tensor sums =
      dt.mul(decay).view({chunks, q, heads}).transpose(1, 2).contiguous().cumsum(-1);  // [chunks,
                                                                                       // H, Q]
  const at::Tensor xdt = Chunked(x.mul(dt.unsqueeze(-1)), chunks);  // [chunks H, Q, P]
  const at::Tensor bh = Chunked(PerHead(b, heads), chunks);         // [chunks H, Q, N]
  const at::Tensor ch = Chunked(PerHead(c, heads), chunks);

  at::Tensor scores = at::bmm(ch, bh.transpose(1, 2));  // [chunks H, Q, Q]
  scores.mul_(DecayMatrix(sums).view(scores.sizes()));
  at::Tensor y = at::bmm(scores, xdt);  // [chunks H, Q, P]

  const at::Tensor last = sums.narrow(2, q - 1, 1);                       // [chunks, H, 1]
  const at::Tensor to_end = last.sub(sums).exp_().view({-1, q, 1});       // exp(s_last - s_j)
  const at::Tensor added = at::bmm(xdt.mul(to_end).transpose(1, 2), bh);  // [chunks H, P, N]
  const at::Tensor states = ChainStates(last.squeeze(2), added.view({chunks, heads, p, n}),
                                        state);               // [H, chunks + 1, PN]
  const at::Tensor from_start = sums.exp().view({-1, q, 1});  // exp(s_i)
  const at::Tensor before =
      states.narrow(1, 0, chunks).transpose(0, 1).reshape({chunks * heads, p, n});
  y.baddbmm_(ch.mul(from_start), before.transpose(1, 2));
  state.copy_(states.select(1, chunks).view({heads, p, n}));
  return y.view({chunks, heads, q, p}).transpose(1, 2).contiguous().view({length, heads, p});
}

}  // namespace

at::Tensor Mamba2Scan(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& decay,
                      const at::Tensor& b, const at::Tensor& c, const at::Tensor& state,
                      int64_t chunk) {
  const int64_t length = x.size(0);
  const int64_t piece = std::max(kScanPiece / chunk, int64_t{1}) * chunk;
  std::vector<at::Tensor> parts;
  for (int64_t first = 0; first < length; first += piece) {
    const int64_t tokens = std::min(piece, length - first);
    at::Tensor xp = x.narrow(0, first, tokens), dtp = dt.narrow(0, first, tokens);
    at::Tensor bp = b.narrow(0, first, tokens), cp = c.narrow(0, first, tokens);
    int64_t chunks = 1;
    if (tokens > chunk) {
      chunks = (tokens + chunk - 1) / chunk;
      const int64_t missing = chunks * chunk - tokens;
      if (missing > 0) {
        // dt = 0 neither decays the state nor adds to it.
        xp = at::constant_pad_nd(xp, {0, 0, 0, 0, 0, missing});
        dtp = at::constant_pad_nd(dtp, {0, 0, 0, missing});
        bp = at::constant_pad_nd(bp, {0, 0, 0, 0, 0, missing});
        cp = at::constant_pad_nd(cp, {0, 0, 0, 0, 0, missing});
      }
    }
    parts.push_back(ScanPiece(xp, dtp, decay, bp, cp, state, chunks).narrow(0, 0, tokens));
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 0);
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
  const int64_t length = projected.size(0);
  const int64_t inner = config.Inner(), channels = config.ConvChannels();
  const int64_t heads = config.heads, p = config.head_dim, groups = config.groups, n = config.state,
                width = config.conv_width;

  const at::Tensor inputs =
      at::cat({state.conv, projected.narrow(1, inner, channels)}, 0);  // [W - 1 + L, C]
  state.conv.copy_(inputs.narrow(0, length, width - 1));
  at::Tensor xbc = at::addcmul(weights.conv_bias, inputs.narrow(0, 0, length), weights.conv[0]);
  for (int64_t tap = 1; tap < width; ++tap) {
    xbc.addcmul_(inputs.narrow(0, tap, length), weights.conv[tap]);
  }
  at::silu_(xbc);  // [L, C]

  const at::Tensor x = xbc.narrow(1, 0, inner).unflatten(1, {heads, p});
  const at::Tensor b = xbc.narrow(1, inner, groups * n).unflatten(1, {groups, n});
  const at::Tensor c = xbc.narrow(1, inner + groups * n, groups * n).unflatten(1, {groups, n});
  const at::Tensor dt =
      at::softplus(projected.narrow(1, inner + channels, heads).add(weights.dt_bias));  // [L, H]
  at::Tensor y = length == 1 ? Mamba2Step(x, dt, weights.decay, b, c, state.ssm)
                             : Mamba2Scan(x, dt, weights.decay, b, c, state.ssm, kChunk);
  y.addcmul_(x, weights.skip);
  y = y.view({length, inner}).mul_(at::silu(projected.narrow(1, 0, inner)));
  const at::Tensor normed =
      RmsNorm(y.view({length, groups, inner / groups}), at::Tensor(), epsilon);
  return normed.mul(weights.gated_norm).view({length, inner});
}

}  // namespace eidetic::model
