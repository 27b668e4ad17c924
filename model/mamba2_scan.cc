#include "model/mamba2_scan.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <limits>
#include <vector>

namespace eidetic::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Chunks whose states are chained by one matrix of decays; of more, groups of so many.
constexpr int64_t kChained = 256, kChainGroup = 64;

// exp(s_i - s_j) for j <= i and 0 above the diagonal, of inclusive sums s [..., n]. There the
// difference is positive and exp may overflow: it is overwritten, not multiplied.
at::Tensor DecayMatrix(const at::Tensor& sums) {
  return sums.unsqueeze(-1).sub(sums.unsqueeze(-2)).exp_().tril_();
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
  at::Tensor decays;  // [B, n + 1, n + 1] that made them; undefined where there were several
};

// The states between n chunks, of which each multiplies by exp(sums) [B, n] and adds `added`
// [B, n, V]; `first` [B, 1, V] stands before them. In two or more levels where there are many
// chunks: nothing is done one after the other, and no matrix is n x n.
States ChainStates(const at::Tensor& sums, const at::Tensor& added, const at::Tensor& first) {
  const int64_t batch = added.size(0), n = added.size(1), values = added.size(2);
  if (n <= kChained) {
    const at::Tensor decays = DecayMatrix(at::constant_pad_nd(sums, {1, 0}).cumsum(-1));
    const at::Tensor states = at::bmm(decays, at::cat({first, added}, 1));
    return {states.narrow(1, 0, n), states.narrow(1, n, 1), decays};
  }
  const int64_t groups = (n + kChainGroup - 1) / kChainGroup, missing = groups * kChainGroup - n;
  const at::Tensor sum = at::constant_pad_nd(sums, {0, missing}).reshape({-1, kChainGroup});
  const at::Tensor add = (missing == 0 ? added : at::constant_pad_nd(added, {0, 0, 0, missing}))
                             .reshape({batch * groups, kChainGroup, values});
  const at::Tensor total = sum.sum(-1, /*keepdim=*/true);
  const at::Tensor to_end = total.sub(sum.cumsum(-1)).exp_().unsqueeze(1);  // [B groups, 1, g]
  const States outer = ChainStates(total.view({batch, groups}),
                                   at::bmm(to_end, add).view({batch, groups, values}), first);
  const States inner = ChainStates(sum, add, outer.before.reshape({batch * groups, 1, values}));
  return {inner.before.reshape({batch, groups * kChainGroup, values}).narrow(1, 0, n), outer.last,
          at::Tensor()};
}

// How a sequence is cut. With r = H / G heads in a group, tensors are laid out by group, chunk,
// token, head of the group: B and C are met as they are, without a copy for each head.
struct Chunks {
  int64_t tokens, heads, p, groups, n, r;
  int64_t chunks, q, length, batch;  // q tokens in a chunk; length: with padding; batch: G chunks

  Chunks(const at::Tensor& x, int64_t group_count, int64_t state, int64_t chunk)
      : tokens(x.size(0)),
        heads(x.size(1)),
        p(x.size(2)),
        groups(group_count),
        n(state),
        r(heads / groups),
        chunks((tokens + chunk - 1) / chunk),
        q(chunks == 1 ? tokens : chunk),
        length(chunks * q),
        batch(groups * chunks) {}

  // [L, G, N] -> [G chunks, Q, N]
  at::Tensor OfGroups(const at::Tensor& rows) const {
    return Padded(rows, length)
        .view({chunks, q, groups, n})
        .permute({2, 0, 1, 3})
        .reshape({batch, q, n});
  }
  at::Tensor ToGroups(const at::Tensor& parts) const {
    return parts.view({groups, chunks, q, n})
        .permute({1, 2, 0, 3})
        .reshape({length, groups, n})
        .narrow(0, 0, tokens);
  }

  // [length, H, P] -> [G chunks, Q, r, P]
  at::Tensor OfHeads(const at::Tensor& rows) const {
    return rows.view({chunks, q, groups, r, p}).permute({2, 0, 1, 3, 4}).reshape({batch, q, r, p});
  }
  at::Tensor ToHeads(const at::Tensor& parts) const {  // [length, H, P]
    return parts.view({groups, chunks, q, r, p})
        .permute({1, 2, 0, 3, 4})
        .reshape({length, heads, p});
  }

  // [length, H] -> [G chunks, r, Q]
  at::Tensor OfSteps(const at::Tensor& numbers) const {
    return numbers.view({chunks, q, groups, r})
        .permute({2, 0, 3, 1})
        .reshape({batch, r, q})
        .contiguous();
  }
  at::Tensor ToSteps(const at::Tensor& parts) const {
    return parts.view({groups, chunks, r, q}).permute({1, 3, 0, 2}).reshape({length, heads});
  }

  // [batch, r V] -> [H, chunks, V]: each head's chunks in their order.
  at::Tensor OfStates(const at::Tensor& rows) const {
    return rows.view({groups, chunks, r, -1}).transpose(1, 2).reshape({heads, chunks, -1});
  }
  at::Tensor ToStates(const at::Tensor& states) const {  // [batch, r P, N]
    return states.reshape({groups, r, chunks, p * n}).transpose(1, 2).reshape({batch, r * p, n});
  }

  at::Tensor Heads(const at::Tensor& rows) const {  // [batch, Q, r P] -> [batch, Q, r, P]
    return rows.view({batch, q, r, p});
  }
  // [batch, Q, r, P] -> [batch r, Q, P], for products of each head's own.
  at::Tensor EachHead(const at::Tensor& parts) const {
    return parts.transpose(1, 2).reshape({batch * r, q, p});
  }
};

at::Tensor ByToken(const at::Tensor& numbers) {  // [batch, r, Q] -> [batch, Q, r, 1]
  return numbers.transpose(1, 2).unsqueeze(-1);
}

// What the gradient reads again, laid out by chunks.
struct Parts {
  at::Tensor step;            // dt, padded: [length, H]
  at::Tensor b, c;            // [batch, Q, N]
  at::Tensor xdt;             // dt x: [batch, Q, r, P]
  at::Tensor totals;          // of dt A over each chunk: [H, chunks]
  at::Tensor since, left;     // decay since the chunk began, and until it ends: [batch, Q, r, 1]
  at::Tensor decays, scores;  // between its tokens, and times C B^T: [batch, r, Q, Q]
  at::Tensor before;          // states before each chunk: [H, chunks, P N]
  at::Tensor last;            // after the last: [H, 1, P N]
  at::Tensor chain;           // as States::decays
};

// All chunks at once. `kept`, where it is given, gets what the gradient needs.
at::Tensor Scan(const Chunks& cut, const at::Tensor& x, const at::Tensor& dt,
                const at::Tensor& decay, const at::Tensor& b, const at::Tensor& c,
                const at::Tensor& state, Parts* kept) {
  // dt = 0 neither decays the state nor adds to it.
  const at::Tensor step = Padded(dt, cut.length);
  const at::Tensor bg = cut.OfGroups(b), cg = cut.OfGroups(c);
  const at::Tensor xdt = cut.OfHeads(Padded(x, cut.length).mul(step.unsqueeze(-1)));
  const at::Tensor sums = cut.OfSteps(step.mul(decay)).cumsum(-1);

  // Within chunks.
  at::Tensor decays = DecayMatrix(sums);
  at::Tensor scores = at::bmm(cg, bg.transpose(1, 2)).unsqueeze(1).mul(decays);
  const at::Tensor inner =
      at::bmm(scores.reshape({cut.batch * cut.r, cut.q, cut.q}), cut.EachHead(xdt));
  if (kept != nullptr) {
    kept->decays = decays;
    kept->scores = scores;
  }
  decays.reset();  // the largest of all
  scores.reset();

  // What chunks add to the state, and the states between them.
  const at::Tensor total = sums.narrow(2, cut.q - 1, 1);  // [batch, r, 1]
  const at::Tensor left = ByToken(total.sub(sums).exp_());
  const at::Tensor added =
      at::bmm(xdt.mul(left).flatten(2).transpose(1, 2), bg);  // [batch, r P, N]
  const at::Tensor totals = cut.OfStates(total.flatten(1)).squeeze(2);
  const States states = ChainStates(totals, cut.OfStates(added.flatten(1)),
                                    state.reshape({cut.heads, 1, cut.p * cut.n}));
  const at::Tensor outer = cut.Heads(at::bmm(cg, cut.ToStates(states.before).transpose(1, 2)));
  const at::Tensor since = ByToken(sums.exp());
  const at::Tensor y = at::addcmul(inner.view({cut.batch, cut.r, cut.q, cut.p}).transpose(1, 2),
                                   outer, since);  // [batch, Q, r, P]
  state.copy_(states.last.view({cut.heads, cut.p, cut.n}));
  if (kept != nullptr) {
    kept->step = step;
    kept->b = bg;
    kept->c = cg;
    kept->xdt = xdt;
    kept->totals = totals;
    kept->since = since;
    kept->left = left;
    kept->before = states.before;
    kept->last = states.last;
    kept->chain = states.decays;
  }
  return cut.ToHeads(y).narrow(0, 0, cut.tokens);
}

struct Gradients {
  at::Tensor x, dt, decay, b, c;
};

// By what each chunk adds to the state [H, chunks, P N], of the gradients by the states before
// each chunk. No chunk reads the state behind the last.
at::Tensor GradientsOfAdded(const Parts& parts, const at::Tensor& of_before) {
  const int64_t n = of_before.size(1);
  if (parts.chain.defined()) {  // states before i hold chain[i, j + 1] of what j adds
    const at::Tensor chain = parts.chain.narrow(1, 0, n).narrow(2, 1, n);
    return at::bmm(chain.transpose(1, 2), of_before);
  }
  // The same chain as forward, from the last chunk to the first.
  const at::Tensor none = at::zeros_like(of_before.narrow(1, 0, 1));
  return ChainStates(parts.totals.flip(1), of_before.flip(1), none).before.flip(1);
}

Gradients GradientsOf(const Chunks& cut, const Parts& parts, const at::Tensor& x,
                      const at::Tensor& decay, const at::Tensor& of_y, bool by_decay) {
  const at::Tensor of_parts = cut.OfHeads(Padded(of_y, cut.length));  // [batch, Q, r, P]

  // y = inner + outer since, outer = C before^T.
  const at::Tensor before = cut.ToStates(parts.before);  // [batch, r P, N]
  const at::Tensor of_outer = of_parts.mul(parts.since);
  const at::Tensor outer = cut.Heads(at::bmm(parts.c, before.transpose(1, 2)));
  const at::Tensor of_before = at::bmm(of_outer.flatten(2).transpose(1, 2), parts.c);
  at::Tensor of_c = at::bmm(of_outer.flatten(2), before);
  at::Tensor of_exponents = of_outer.mul(outer);  // times p: by the sums, token by token

  // inner = scores xdt, scores = C B^T decays.
  const at::Tensor of_inner = cut.EachHead(of_parts);
  const at::Tensor scores = parts.scores.view({cut.batch * cut.r, cut.q, cut.q});
  at::Tensor of_xdt = at::bmm(scores.transpose(1, 2), of_inner)
                          .view({cut.batch, cut.r, cut.q, cut.p})
                          .transpose(1, 2);  // [batch, Q, r, P]
  at::Tensor of_scores =
      at::bmm(of_inner, cut.EachHead(parts.xdt).transpose(1, 2)).view(parts.scores.sizes());
  const at::Tensor of_pairs =
      of_scores.mul(parts.scores);  // a decay grows with s_i, falls with s_j
  at::Tensor of_sums = of_pairs.sub(of_pairs.transpose(2, 3)).sum(-1);  // [batch, r, Q]
  of_scores.mul_(parts.decays);
  const at::Tensor of_products = cut.r == 1 ? of_scores.squeeze(1) : of_scores.sum(1);
  of_c.baddbmm_(of_products, parts.b);

  // The states: before of the next chunk = exp(total) before + added, added = (xdt left)^T B.
  const at::Tensor of_state = GradientsOfAdded(parts, cut.OfStates(of_before.flatten(1)));
  const at::Tensor of_added = cut.ToStates(of_state);
  at::Tensor of_b = at::bmm(parts.xdt.mul(parts.left).flatten(2), of_added);
  of_b.baddbmm_(of_products.transpose(1, 2), parts.c);
  const at::Tensor of_left = cut.Heads(at::bmm(parts.b, of_added.transpose(1, 2))).mul_(parts.left);
  of_exponents.addcmul_(of_left, parts.xdt, -1);
  of_sums.add_(of_exponents.sum(-1).transpose(1, 2));
  // A chunk's total is an exponent of all that is in the next chunk's state.
  const at::Tensor behind = at::cat({parts.before.narrow(1, 1, cut.chunks - 1), parts.last}, 1);
  const at::Tensor of_total = of_state.mul(behind).sum(-1);  // [H, chunks]
  of_sums.select(2, cut.q - 1)
      .add_(of_total.view({cut.groups, cut.r, cut.chunks})
                .transpose(1, 2)
                .reshape({cut.batch, cut.r}));

  // xdt = dt x; sums are sums of dt A up to a token.
  const at::Tensor of_x = cut.ToHeads(of_xdt.add(of_left)).narrow(0, 0, cut.tokens);
  const at::Tensor of_steps =
      cut.ToSteps(of_sums.flip(2).cumsum(2).flip(2)).narrow(0, 0, cut.tokens);  // [L, H]
  const at::Tensor step = parts.step.narrow(0, 0, cut.tokens);
  return {.x = of_x.mul(step.unsqueeze(-1)),
          .dt = at::addcmul(of_x.mul(x).sum(-1), of_steps, decay),
          .decay = by_decay ? of_steps.mul(step).sum(0) : at::Tensor(),
          .b = cut.ToGroups(of_b),
          .c = cut.ToGroups(of_c)};
}

struct DifferentiableScan : torch::autograd::Function<DifferentiableScan> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& dt,
                            const at::Tensor& decay, const at::Tensor& b, const at::Tensor& c,
                            const at::Tensor& state, int64_t chunk) {
    Parts parts;
    const Chunks cut(x, b.size(1), b.size(2), chunk);
    const at::Tensor y = Scan(cut, x, dt, decay, b, c, state, &parts);
    context->save_for_backward({x, decay, parts.step, parts.b, parts.c, parts.xdt, parts.totals,
                                parts.since, parts.left, parts.decays, parts.scores, parts.before,
                                parts.last, parts.chain});
    context->saved_data["chunk"] = chunk;
    context->saved_data["groups"] = b.size(1);
    return y;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &decay = saved[1];
    const Parts parts = {.step = saved[2],
                         .b = saved[3],
                         .c = saved[4],
                         .xdt = saved[5],
                         .totals = saved[6],
                         .since = saved[7],
                         .left = saved[8],
                         .decays = saved[9],
                         .scores = saved[10],
                         .before = saved[11],
                         .last = saved[12],
                         .chain = saved[13]};
    const Chunks cut(x, context->saved_data["groups"].toInt(), parts.b.size(2),
                     context->saved_data["chunk"].toInt());
    const Gradients of = GradientsOf(cut, parts, x, decay, gradients[0],
                                     /*by_decay=*/context->needs_input_grad(2));
    return {of.x, of.dt, of.decay, of.b, of.c, at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor Mamba2Scan(const at::Tensor& x, const at::Tensor& dt, const at::Tensor& decay,
                      const at::Tensor& b, const at::Tensor& c, const at::Tensor& state,
                      int64_t chunk) {
  TORCH_CHECK(!state.requires_grad(), "no gradient passes through the state of a scan");
  const bool differentiated = at::GradMode::is_enabled() &&
                              (x.requires_grad() || dt.requires_grad() || decay.requires_grad() ||
                               b.requires_grad() || c.requires_grad());
  if (differentiated) return DifferentiableScan::apply(x, dt, decay, b, c, state, chunk);
  return Scan(Chunks(x, b.size(1), b.size(2), chunk), x, dt, decay, b, c, state, nullptr);
}

}  // namespace eidetic::model
