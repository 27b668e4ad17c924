#include "model/sequence_attention.h"

#include <ATen/core/List.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "model/error.h"
#include "model/flash_attention.h"
#include "model/sequence_spans.h"

namespace eidetic::model {
namespace {

// Queries of a window that attend at once: it bounds temporary memory and changes rounding only.
constexpr int64_t kWindowQueries = 512;

std::string ShapeOf(const at::Tensor& tensor) {
  std::string text = "[";
  for (int64_t i = 0; i < tensor.dim(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(tensor.size(i));
  }
  return text + "]";
}

// AttendCausally where there is a kernel for it as it is, of the last `window` keys (0: of all).
at::Tensor Flash(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                 double scale, int64_t window) {
  const auto by_token = [](const at::Tensor& rows) { return rows.transpose(0, 1).unsqueeze(0); };
  const at::Tensor asking = query.permute({2, 0, 1, 3}).flatten(1, 2).unsqueeze(0);  // [1, n, H, d]
  return FlashAttention(asking, by_token(key), by_token(value), scale, window)
      .view({query.size(2), query.size(0), query.size(1), query.size(3)});
}

// Queries by key head [K, G, n, d] over keys and values [K, P + n, d]: all of the first P, and of
// the others those up to the query's own place. -> [n, K, G, d], a view.
//
// Fused kernels know causal attention of a square only. P queries of zeros before the real ones
// make one; their rows see little and are dropped, so no mask is ever built.
at::Tensor AttendCausally(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          double scale) {
  const int64_t tokens = query.size(2), columns = key.size(1);
  if (HasFlashAttention(query)) return Flash(query, key, value, scale, /*window=*/0);
  const at::Tensor square =
      columns == tokens ? query : at::constant_pad_nd(query, {0, 0, columns - tokens, 0});
  const auto shared = [&](const at::Tensor& rows) {  // the heads of a group read one key head
    return rows.unsqueeze(1).expand({rows.size(0), query.size(1), columns, rows.size(2)});
  };
  const at::Tensor attended = at::scaled_dot_product_attention(square, shared(key), shared(value),
                                                               {}, 0.0, /*is_causal=*/true, scale);
  return attended.narrow(2, columns - tokens, tokens).permute({2, 0, 1, 3});
}

// One call's tensors by head.
class Sequence {
 public:
  Sequence(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
           const SequenceAttentionOptions& options)
      : options_(options),
        tokens_(query.size(0)),
        kv_heads_(key.size(1)),
        group_(query.size(1) / key.size(1)),
        width_(query.size(2)),
        scale_(options.scale > 0 ? options.scale : 1 / std::sqrt(static_cast<double>(width_))),
        query_(query.view({tokens_, kv_heads_, group_, width_}).permute({1, 2, 0, 3})),
        key_(key.transpose(0, 1)),
        value_(value.transpose(0, 1)) {}

  at::Tensor AttendFully() const { return AttendCausally(query_, key_, value_, scale_); }
  at::Tensor AttendToWindow() const;
  at::Tensor AttendToGroups() const;
  at::Tensor AttendToChunks() const;
  Spans ChooseSpans(int64_t chunk) const {
    return ChooseSpansOfChunks(query_, key_, value_, options_, scale_, chunk);
  }

 private:
  at::Tensor GatherSpans(const at::Tensor& pairs, const at::Tensor& blocks) const;
  void AttendInRuns(int64_t first_head, int64_t last_head, int64_t first_run, int64_t run,
                    std::vector<at::Tensor>* output) const;

  const SequenceAttentionOptions& options_;
  int64_t tokens_, kv_heads_, group_, width_;
  double scale_;
  at::Tensor query_;        // [K, G, L, d]
  at::Tensor key_, value_;  // [K, L, d]
};

// The first W tokens see everything before them. Behind them, queries a .. a + n - 1 share the keys
// from a - W on, of which query a + r sees W, under a mask that is the same for every such piece.
at::Tensor Sequence::AttendToWindow() const {
  const int64_t window = options_.window;
  if (tokens_ <= window) return AttendFully();
  if (HasFlashAttention(query_)) return Flash(query_, key_, value_, scale_, window);
  std::vector<at::Tensor> output = {AttendCausally(
      query_.narrow(2, 0, window), key_.narrow(1, 0, window), value_.narrow(1, 0, window), scale_)};
  at::Tensor mask;  // [n, W + n]: 0 or -inf
  for (int64_t first = window; first < tokens_; first += kWindowQueries) {
    const int64_t queries = std::min(kWindowQueries, tokens_ - first);
    const int64_t columns = window + queries;
    if (!mask.defined() || mask.size(0) != queries) {
      const at::Tensor seen =
          at::ones({queries, columns}, query_.options().dtype(at::kBool)).triu_(1).tril_(window);
      mask = at::zeros({queries, columns}, query_.options())
                 .masked_fill_(seen.logical_not_(), -std::numeric_limits<double>::infinity());
    }
    const auto shared = [&](const at::Tensor& rows) {
      return rows.narrow(1, first - window, columns)
          .unsqueeze(1)
          .expand({kv_heads_, group_, columns, width_});
    };
    output.push_back(at::scaled_dot_product_attention(query_.narrow(2, first, queries),
                                                      shared(key_), shared(value_), mask, 0.0,
                                                      /*is_causal=*/false, scale_)
                         .permute({2, 0, 1, 3}));
  }
  return at::cat(output, 0);
}

at::Tensor Sequence::AttendToGroups() const {
  const int64_t heads = kv_heads_ * group_, half = heads / 2;
  const int64_t run = (tokens_ + options_.groups - 1) / options_.groups;
  const int64_t shift = run / 2;
  std::vector<at::Tensor> output;
  AttendInRuns(0, half, run, run, &output);
  AttendInRuns(half, heads, shift > 0 ? shift : run, run, &output);
  return at::cat(output, 1);  // [L, H, d]
}

// Query heads first_head .. last_head - 1, each token within its run of tokens: one of `first_run`,
// then runs of `run`. Appends [L, n, d]; several times, as the heads may end inside a group.
void Sequence::AttendInRuns(int64_t first_head, int64_t last_head, int64_t first_run, int64_t run,
                            std::vector<at::Tensor>* output) const {
  std::vector<int64_t> runs;
  for (int64_t first = 0; first < tokens_; first += runs.back()) {
    runs.push_back(std::min(first == 0 ? first_run : run, tokens_ - first));
  }
  int64_t taken = 0;
  for (int64_t head = first_head; head < last_head; head += taken) {
    const int64_t within = head % group_, rest = last_head - head;
    const bool whole = within == 0 && rest >= group_;
    const int64_t kv_heads = whole ? rest / group_ : 1;
    const int64_t shared_by = whole ? group_ : std::min(rest, group_ - within);
    const auto query = query_.narrow(0, head / group_, kv_heads)
                           .narrow(1, within, shared_by)
                           .split_with_sizes(runs, 2);
    const auto key = key_.narrow(0, head / group_, kv_heads).split_with_sizes(runs, 1);
    const auto value = value_.narrow(0, head / group_, kv_heads).split_with_sizes(runs, 1);
    std::vector<at::Tensor> parts;
    for (size_t i = 0; i < runs.size(); ++i) {
      parts.push_back(AttendCausally(query[i], key[i], value[i], scale_));
    }
    output->push_back(at::cat(parts, 0).flatten(1, 2));
    taken = kv_heads * shared_by;
  }
}

// What a chunk sees, its span and then itself, lies in one tensor of keys beside values: it is put
// together, and taken apart in backward, by a handful of operations however many chunks there are.
at::Tensor Sequence::AttendToChunks() const {
  const int64_t chunk = ChunkOfCall(options_);
  if (tokens_ <= chunk) return AttendFully();
  const Spans spans = ChooseSpans(chunk);
  const at::Tensor pairs = at::stack({key_.transpose(0, 1), value_.transpose(0, 1)}, 1);
  const auto own = pairs.split(chunk);  // [n, 2, K, d]
  std::vector<at::Tensor> recalled;
  if (spans.blocks.defined()) {
    std::vector<int64_t> rows;
    for (const int64_t count : spans.counts) rows.push_back(count * options_.block_tokens);
    recalled = GatherSpans(pairs, spans.blocks).split_with_sizes(rows);
  }
  std::vector<at::Tensor> seen;
  std::vector<int64_t> asking, lengths;  // of each chunk
  for (size_t i = 0; i < own.size(); ++i) {
    asking.push_back(own[i].size(0));
    lengths.push_back(asking.back());
    if (!recalled.empty()) {
      seen.push_back(recalled[i]);
      lengths.back() += recalled[i].size(0);
    }
    seen.push_back(own[i]);
  }
  const at::Tensor all = recalled.empty() ? pairs : at::cat(seen, 0);
  if (HasFlashAttention(query_)) {
    const auto key_and_value = all.unbind(1);
    return FlashAttentionOfPieces(query_.permute({2, 0, 1, 3}).flatten(1, 2), key_and_value[0],
                                  key_and_value[1], asking, lengths, scale_)
        .view({tokens_, kv_heads_, group_, width_});
  }
  const auto query = query_.split(chunk, 2);
  const auto piece = all.split_with_sizes(lengths);
  std::vector<at::Tensor> output;
  for (size_t i = 0; i < query.size(); ++i) {
    const auto key_and_value = piece[i].permute({1, 2, 0, 3}).unbind(0);  // [K, n, d] each
    output.push_back(AttendCausally(query[i], key_and_value[0], key_and_value[1], scale_));
  }
  return at::cat(output, 0);
}

// Rows of pairs [L, 2, K, d]: those of blocks [K, N], each head's own -> [N S, 2, K, d].
at::Tensor Sequence::GatherSpans(const at::Tensor& pairs, const at::Tensor& blocks) const {
  const int64_t rows = options_.block_tokens, in_block = rows * 2 * kv_heads_;
  const at::Tensor row = at::arange(in_block, blocks.options())
                             .view({1, rows, 2, kv_heads_})
                             .add(blocks.t().view({-1, 1, 1, kv_heads_}), in_block);
  c10::List<std::optional<at::Tensor>> indices;
  indices.push_back(std::optional<at::Tensor>(row.flatten()));
  return at::index(pairs.flatten(0, 2), indices).view({-1, 2, kv_heads_, width_});
}

Sequence Checked(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                 const SequenceAttentionOptions& options) {
  CheckSequenceOptions(options);
  if (options.mode == SequenceMode::kStream) {
    throw Error(ErrorCode::kInvalidArgument,
                "sequence attention: mode 'se-stream' needs keys that are not rotated",
                "Call StreamAttention.");
  }
  CheckSequenceTensors(query, key, value);
  return Sequence(query, key, value, options);
}

at::Tensor Attend(const Sequence& sequence, SequenceMode mode) {
  switch (mode) {
    case SequenceMode::kFull:
      return sequence.AttendFully();
    case SequenceMode::kWindow:
      return sequence.AttendToWindow();
    case SequenceMode::kShiftedSparse:
      return sequence.AttendToGroups();
    default:
      return sequence.AttendToChunks();
  }
}

}  // namespace

void CheckSequenceTensors(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  const auto fail = [&](const char* reason) {
    throw Error(ErrorCode::kInvalidArgument,
                std::string("sequence attention: ") + reason + ": query " + ShapeOf(query) +
                    ", key " + ShapeOf(key) + ", value " + ShapeOf(value),
                "Pass query [L, H, d], key and value [L, K, d], with H a multiple of K.");
  };
  if (query.dim() != 3 || key.dim() != 3 || value.sizes() != key.sizes()) fail("wrong shapes");
  if (query.numel() == 0 || key.numel() == 0) fail("an empty tensor");
  if (query.size(0) != key.size(0) || query.size(2) != key.size(2)) fail("wrong shapes");
  if (query.size(1) % key.size(1) != 0) fail("query heads cannot share the key heads");
  if (!query.is_floating_point() || key.scalar_type() != query.scalar_type() ||
      value.scalar_type() != query.scalar_type() || key.device() != query.device() ||
      value.device() != query.device()) {
    fail("tensors of different types or devices, or not of floating point");
  }
}

at::Tensor SequenceAttention(const at::Tensor& query, const at::Tensor& key,
                             const at::Tensor& value, const SequenceAttentionOptions& options) {
  const Sequence sequence = Checked(query, key, value, options);
  return Attend(sequence, options.mode).reshape(query.sizes()).contiguous();
}

std::vector<at::Tensor> ChooseSpans(const at::Tensor& query, const at::Tensor& key,
                                    const at::Tensor& value,
                                    const SequenceAttentionOptions& options) {
  const Sequence sequence = Checked(query, key, value, options);
  const Spans spans = sequence.ChooseSpans(ChunkOfCall(options));
  if (spans.blocks.defined()) return spans.blocks.split_with_sizes(spans.counts, 1);
  return std::vector<at::Tensor>(spans.counts.size(),
                                 at::empty({key.size(1), 0}, query.options().dtype(at::kLong)));
}

}  // namespace eidetic::model
