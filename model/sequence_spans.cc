#include "model/sequence_spans.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>

#include <algorithm>
#include <limits>
#include <tuple>

namespace eidetic::model {
namespace {

// Tokens whose block summaries are computed at once: it bounds temporary memory and changes
// rounding only.
constexpr int64_t kSummaryTokens = 8192;

class Chooser {
 public:
  Chooser(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
          const SequenceAttentionOptions& options, double scale, int64_t chunk)
      : query_(query),
        key_(key),
        value_(value),
        options_(options),
        scale_(scale),
        tokens_(query.size(2)),
        kv_heads_(query.size(0)),
        group_(query.size(1)),
        width_(query.size(3)),
        chunk_(chunk),
        chunks_((tokens_ + chunk - 1) / chunk) {}

  Spans Choose() const;

 private:
  // Blocks that lie before the chunk that begins at `first` as a whole.
  int64_t CandidatesBefore(int64_t first) const { return first / options_.block_tokens; }
  at::Tensor Summaries(int64_t blocks) const;
  at::Tensor Scores() const;
  at::Tensor ChooseByScore(const std::vector<int64_t>& counts) const;
  at::Tensor ChooseAtRandom(const std::vector<int64_t>& counts) const;

  const at::Tensor& query_;         // [K, G, L, d]
  const at::Tensor &key_, &value_;  // [K, L, d]
  const SequenceAttentionOptions& options_;
  double scale_;
  int64_t tokens_, kv_heads_, group_, width_, chunk_, chunks_;
};

Spans Chooser::Choose() const {
  Spans spans;
  if (options_.mode != SequenceMode::kPaper && options_.mode != SequenceMode::kPaperRandom &&
      options_.mode != SequenceMode::kPaperLandmark) {
    return spans;
  }
  spans.counts.resize(chunks_);
  for (int64_t i = 1; i < chunks_; ++i) {
    spans.counts[i] = std::min<int64_t>(options_.span_blocks, CandidatesBefore(i * chunk_));
  }
  if (spans.counts.back() == 0) return spans;
  spans.blocks = options_.mode == SequenceMode::kPaperRandom ? ChooseAtRandom(spans.counts)
                                                             : ChooseByScore(spans.counts);
  return spans;
}

// c_j of the first `blocks` blocks: [K, blocks, G d], as a chunk's summed queries meet them.
at::Tensor Chooser::Summaries(int64_t blocks) const {
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
      return tokens.narrow(-2, first * rows, count * rows).unflatten(-2, {count, rows});
    };
    const auto by_block = [&](const at::Tensor& tokens) {  // one copy changes type and order
      return tokens
          .to(tokens.options().dtype(type), /*non_blocking=*/false, /*copy=*/false,
              at::MemoryFormat::Contiguous)
          .reshape({kv_heads_ * count, -1, width_});
    };
    const at::Tensor query = by_block(cut(query_).transpose(1, 2));  // [K count, G S, d]
    const at::Tensor key = by_block(cut(key_)), value = by_block(cut(value_));
    const at::Tensor weights =
        at::softmax(at::bmm(query, key.transpose(1, 2)).mul_(scale_), -1)
            .view({kv_heads_ * count, group_, rows, rows})
            .mean(2);  // the mean of rows of A_j is that of rows of the softmax, times V_j
    summaries.push_back(at::bmm(weights, value).view({kv_heads_, count, group_ * width_}));
  }
  return summaries.size() == 1 ? summaries[0] : at::cat(summaries, 1);
}

// R of all chunks but the first, [K, C - 1, B] (K = 1 when all heads choose together), of the B
// blocks before the last chunk; -inf for those that are no candidates of the chunk.
at::Tensor Chooser::Scores() const {
  const int64_t rows = options_.block_tokens;
  const int64_t blocks = CandidatesBefore((chunks_ - 1) * chunk_);
  const at::Tensor summaries = Summaries(blocks);
  const auto sum_of_chunks = [&](int64_t first, int64_t count, int64_t length) {
    return query_.narrow(2, first, count * length)
        .unflatten(2, {count, length})
        .transpose(1, 2)  // [K, count, G, length, d]
        .sum(at::IntArrayRef{3}, false, summaries.scalar_type())
        .flatten(2, 3);
  };
  const int64_t whole = tokens_ / chunk_, rest = tokens_ % chunk_;
  std::vector<at::Tensor> sums;
  if (whole > 1) sums.push_back(sum_of_chunks(chunk_, whole - 1, chunk_));
  if (rest > 0) sums.push_back(sum_of_chunks(whole * chunk_, 1, rest));
  at::Tensor scores =
      at::bmm(sums.size() == 1 ? sums[0] : at::cat(sums, 1), summaries.transpose(1, 2));
  if (options_.one_choice_for_all_heads) scores = scores.sum(0, true);
  const auto whole_numbers = query_.options().dtype(at::kLong);
  const at::Tensor block_ends = at::arange(rows, (blocks + 1) * rows, rows, whole_numbers);
  const at::Tensor begins = at::arange(chunk_, chunks_ * chunk_, chunk_, whole_numbers);
  return scores.masked_fill_(block_ends.gt(begins.unsqueeze(1)),
                             -std::numeric_limits<double>::infinity());
}

at::Tensor Chooser::ChooseByScore(const std::vector<int64_t>& counts) const {
  const at::Tensor best =
      std::get<1>(at::sort(Scores(), /*stable=*/true, /*dim=*/2, /*descending=*/true))
          .narrow(2, 0, counts.back());
  const auto in_order = [](const at::Tensor& blocks) { return std::get<0>(blocks.sort(-1)); };
  at::Tensor chosen;
  if (counts[1] == counts.back()) {
    chosen = in_order(best).flatten(1, 2);
  } else {  // the first chunks have fewer candidates
    std::vector<at::Tensor> of_chunks;
    for (size_t i = 1; i < counts.size(); ++i) {
      of_chunks.push_back(
          in_order(best.select(1, static_cast<int64_t>(i) - 1).narrow(1, 0, counts[i])));
    }
    chosen = at::cat(of_chunks, 1);
  }
  return chosen.expand({kv_heads_, chosen.size(1)});
}

at::Tensor Chooser::ChooseAtRandom(const std::vector<int64_t>& counts) const {
  uint64_t state = ~options_.seed;  // apart from the draw of the chunk's size
  std::vector<at::Tensor> spans;
  for (size_t i = 1; i < counts.size(); ++i) {
    const int64_t candidates = CandidatesBefore(static_cast<int64_t>(i) * chunk_);
    at::Tensor span = at::empty({kv_heads_, counts[i]}, at::kLong);
    int64_t* place = span.mutable_data_ptr<int64_t>();
    std::vector<int64_t> drawn;
    for (int64_t head = 0; head < kv_heads_; ++head) {
      if (head == 0 || !options_.one_choice_for_all_heads) {
        drawn = DrawSubset(candidates, counts[i], &state);
      }
      place = std::copy(drawn.begin(), drawn.end(), place);
    }
    spans.push_back(span);
  }
  return at::cat(spans, 1).to(query_.device());
}

}  // namespace

Spans ChooseSpansOfChunks(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                          const SequenceAttentionOptions& options, double scale, int64_t chunk) {
  const at::NoGradGuard no_gradient;
  return Chooser(query, key, value, options, scale, chunk).Choose();
}

}  // namespace eidetic::model
