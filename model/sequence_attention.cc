#include "model/sequence_attention.h"

#include <ATen/core/List.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <tuple>

#include "model/error.h"
#include "model/flash_attention.h"

namespace eidetic::model {
namespace {

// Queries of a window that attend at once, and tokens whose block summaries are computed at once:
// both bound temporary memory, neither changes more than rounding.
constexpr int64_t kWindowQueries = 512;
constexpr int64_t kSummaryTokens = 8192;

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
  // Per chunk the block numbers [K, n]; empty in modes that have no spans.
  std::vector<at::Tensor> ChooseSpans(int64_t chunk) const;

 private:
  bool HasSpans() const {
    return options_.mode == SequenceMode::kPaper || options_.mode == SequenceMode::kPaperRandom ||
           options_.mode == SequenceMode::kPaperLandmark;
  }
  int64_t Chunks(int64_t chunk) const { return (tokens_ + chunk - 1) / chunk; }
  // Blocks that lie before the chunk that begins at `first` as a whole.
  int64_t Candidates(int64_t first) const { return first / options_.block_tokens; }
  at::Tensor Summaries(int64_t blocks) const;
  std::vector<at::Tensor> ChooseByScore(int64_t chunk) const;
  std::vector<at::Tensor> ChooseAtRandom(int64_t chunk) const;
  std::vector<at::Tensor> GatherSpans(const at::Tensor& rows,
                                      const std::vector<at::Tensor>& spans) const;
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

at::Tensor Sequence::AttendToChunks() const {
  const int64_t chunk = ChunkOfCall(options_);
  // Pieces by split, spans by one gather: backward then joins gradients instead of adding a tensor
  // of the sequence's length for each chunk.
  const auto query = query_.split(chunk, 2);
  const auto key = key_.split(chunk, 1), value = value_.split(chunk, 1);
  std::vector<at::Tensor> span_keys, span_values;
  if (HasSpans() && query.size() > 1) {
    const std::vector<at::Tensor> spans = ChooseSpans(chunk);
    span_keys = GatherSpans(key_, spans);
    span_values = GatherSpans(value_, spans);
  }
  std::vector<at::Tensor> output;
  for (size_t i = 0; i < query.size(); ++i) {
    if (span_keys.empty()) {
      output.push_back(AttendCausally(query[i], key[i], value[i], scale_));
    } else {
      output.push_back(AttendCausally(query[i], at::cat({span_keys[i], key[i]}, 1),
                                      at::cat({span_values[i], value[i]}, 1), scale_));
    }
  }
  return at::cat(output, 0);
}

std::vector<at::Tensor> Sequence::ChooseSpans(int64_t chunk) const {
  const at::NoGradGuard no_gradient;
  switch (options_.mode) {
    case SequenceMode::kPaper:
    case SequenceMode::kPaperLandmark:
      return ChooseByScore(chunk);
    case SequenceMode::kPaperRandom:
      return ChooseAtRandom(chunk);
    default:
      return {};
  }
}

// c_j of the first `blocks` blocks: [K, blocks, G d], as a chunk's summed queries meet them.
at::Tensor Sequence::Summaries(int64_t blocks) const {
  const int64_t rows = options_.block_tokens;
  const at::ScalarType type = query_.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  if (options_.mode == SequenceMode::kPaperLandmark) {
    return key_.narrow(1, 0, blocks * rows)
        .unflatten(1, {blocks, rows})
        .select(2, rows - 1)
        .to(type)
        .repeat({1, 1, group_});  // for each query head of the key head
  }
  const int64_t piece = std::max(kSummaryTokens / rows, int64_t{1});
  std::vector<at::Tensor> summaries;
  for (int64_t first = 0; first < blocks; first += piece) {
    const int64_t count = std::min(piece, blocks - first);
    const auto cut = [&](const at::Tensor& tokens) {  // [.., L, d] -> [.., count, S, d]
      return tokens.narrow(-2, first * rows, count * rows).unflatten(-2, {count, rows}).to(type);
    };
    const at::Tensor query =
        cut(query_).permute({0, 2, 1, 3, 4}).reshape({kv_heads_ * count, group_ * rows, width_});
    const at::Tensor key = cut(key_).reshape({kv_heads_ * count, rows, width_});
    const at::Tensor value = cut(value_).reshape({kv_heads_ * count, rows, width_});
    const at::Tensor weights =
        at::softmax(at::bmm(query, key.transpose(1, 2)).mul_(scale_), -1)
            .view({kv_heads_ * count, group_, rows, rows})
            .mean(2);  // the mean of rows of A_j is that of rows of the softmax, times V_j
    summaries.push_back(at::bmm(weights, value).view({kv_heads_, count, group_ * width_}));
  }
  return at::cat(summaries, 1);
}

std::vector<at::Tensor> Sequence::ChooseByScore(int64_t chunk) const {
  const at::Tensor none = at::empty({kv_heads_, 0}, query_.options().dtype(at::kLong));
  const int64_t chunks = Chunks(chunk);
  std::vector<at::Tensor> spans(chunks, none);
  const int64_t blocks = Candidates((chunks - 1) * chunk);
  if (blocks == 0) return spans;
  const at::Tensor summaries = Summaries(blocks);
  for (int64_t i = 1; i < chunks; ++i) {
    const int64_t first = i * chunk, candidates = Candidates(first);
    if (candidates == 0) continue;
    const at::Tensor sums = query_.narrow(2, first, std::min(chunk, tokens_ - first))
                                .sum(at::IntArrayRef{2}, false, summaries.scalar_type())
                                .view({kv_heads_, group_ * width_, 1});
    at::Tensor scores = at::bmm(summaries.narrow(1, 0, candidates), sums).squeeze(2);
    if (options_.one_choice_for_all_heads) scores = scores.sum(0, true);
    const at::Tensor order =
        std::get<1>(at::sort(scores, /*stable=*/true, /*dim=*/1, /*descending=*/true));
    const at::Tensor best = order.narrow(1, 0, std::min<int64_t>(options_.span_blocks, candidates));
    spans[i] = std::get<0>(best.sort(1)).expand({kv_heads_, best.size(1)});
  }
  return spans;
}

std::vector<at::Tensor> Sequence::ChooseAtRandom(int64_t chunk) const {
  uint64_t state = ~options_.seed;  // apart from the draw of the chunk's size
  std::vector<at::Tensor> spans;
  for (int64_t i = 0; i < Chunks(chunk); ++i) {
    const int64_t candidates = Candidates(i * chunk);
    const int64_t count = std::min<int64_t>(options_.span_blocks, candidates);
    at::Tensor span = at::empty({kv_heads_, count}, at::kLong);
    int64_t* place = span.mutable_data_ptr<int64_t>();
    std::vector<int64_t> drawn;
    for (int64_t head = 0; head < kv_heads_; ++head) {
      if (head == 0 || !options_.one_choice_for_all_heads) {
        drawn = DrawSubset(candidates, count, &state);
      }
      place = std::copy(drawn.begin(), drawn.end(), place);
    }
    spans.push_back(span.to(query_.device()));
  }
  return spans;
}

// The spans' rows of keys or values [K, L, d]: per chunk [K, n S, d].
std::vector<at::Tensor> Sequence::GatherSpans(const at::Tensor& rows,
                                              const std::vector<at::Tensor>& spans) const {
  const int64_t block = options_.block_tokens, blocks = tokens_ / block;
  std::vector<int64_t> lengths;
  for (const at::Tensor& span : spans) lengths.push_back(span.size(1) * block);
  if (blocks == 0) return std::vector<at::Tensor>(spans.size(), rows.narrow(1, 0, 0));
  const at::Tensor table = rows.narrow(1, 0, blocks * block)
                               .unflatten(1, {blocks, block})
                               .reshape({kv_heads_ * blocks, block * width_});
  const at::Tensor chosen = at::cat(spans, 1);  // [K, n of all chunks]
  const at::Tensor head = at::arange(kv_heads_, chosen.options()).unsqueeze(1);
  c10::List<std::optional<at::Tensor>> indices;
  indices.push_back(std::optional<at::Tensor>(chosen.add(head, blocks).flatten()));
  return at::index(table, indices)
      .view({kv_heads_, chosen.size(1) * block, width_})
      .split_with_sizes(lengths, 1);
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
  return Checked(query, key, value, options).ChooseSpans(ChunkOfCall(options));
}

}  // namespace eidetic::model
