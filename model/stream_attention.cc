#include "model/stream_attention.h"

#include <ATen/core/List.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/index.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "model/error.h"
#include "model/flash_attention.h"
#include "model/rotary.h"
#include "model/sequence_attention.h"

namespace eidetic::model {
namespace {

// Tokens of segments that attend at once, and scores that are there at once: they bound temporary
// memory and change nothing else.
constexpr int64_t kAttendTokens = 16384;
constexpr int64_t kMostScores = int64_t{1} << 27;

// Where rows of scores are longer, the best are looked for in the best groups of so many.
constexpr int64_t kLongRow = 1024, kGroup = 32;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// What a segment finds: token and block numbers.
struct Segment {
  int64_t first = 0, tokens = 0;
  int64_t sinks = 0;         // that were read before it
  int64_t window_begin = 0;  // the window ends at `first`
  int64_t candidates = 0;    // blocks behind the sinks that have left the window
};

std::vector<Segment> CutIntoSegments(int64_t tokens, const SequenceAttentionOptions& options) {
  const StreamReading& stream = options.stream;
  const int64_t block = options.block_tokens;
  std::vector<Segment> segments;
  int64_t sinks = 0, begin = 0;
  for (int64_t first = 0; first < tokens; first += segments.back().tokens) {
    Segment segment;
    segment.first = first;
    segment.tokens = std::min<int64_t>(stream.segment, tokens - first);
    segment.sinks = sinks;
    segment.window_begin = begin;
    segment.candidates = std::max<int64_t>(begin - stream.sinks, 0) / block;
    segments.push_back(segment);
    const int64_t end = first + segment.tokens;
    const int64_t more = std::min(stream.sinks - sinks, end - begin);
    sinks += more;
    begin += more;
    begin += std::max<int64_t>(end - begin - stream.window, 0) / block * block;
  }
  return segments;
}

at::Tensor Column(const std::vector<int64_t>& numbers, c10::Device device) {
  at::Tensor column = at::empty({static_cast<int64_t>(numbers.size()), 1}, at::kLong);
  std::copy(numbers.begin(), numbers.end(), column.mutable_data_ptr<int64_t>());
  return column.to(device);
}

at::Tensor Rows(const at::Tensor& tensor, const at::Tensor& places) {
  c10::List<std::optional<at::Tensor>> indices;
  indices.push_back(std::optional<at::Tensor>(places));
  return at::index(tensor, indices);
}

at::Tensor Descending(const at::Tensor& numbers, int64_t count) {
  return std::get<1>(at::sort(numbers, /*stable=*/true, /*dim=*/1, /*descending=*/true))
      .narrow(1, 0, count);
}

// The `count` largest of each row [.., n], largest first, and their places. A device selects in
// many passes over a row; the largest of groups are found in one, and no number is among the
// `count` largest whose group is not among as many groups.
std::pair<at::Tensor, at::Tensor> Largest(const at::Tensor& rows, int64_t count) {
  const int64_t n = rows.size(-1);
  if (n < kLongRow || n % kGroup != 0) {
    const auto [best, places] = at::topk(rows, std::min(count, n));
    return {best, places};
  }
  const at::Tensor groups = rows.unflatten(-1, {n / kGroup, kGroup});
  const at::Tensor chosen =
      std::get<1>(at::topk(groups.amax(at::IntArrayRef{-1}), std::min(count, n / kGroup)));
  const at::Tensor wide = chosen.unsqueeze(-1);  // [.., c, 1]
  std::vector<int64_t> sizes = wide.sizes().vec();
  sizes.back() = kGroup;
  const at::Tensor some = groups.gather(-2, wide.expand(sizes)).flatten(-2);  // [.., c group]
  const auto [best, places] = at::topk(some, std::min(count, some.size(-1)));
  return {
      best,
      chosen.gather(-1, places.floor_divide(kGroup)).mul_(kGroup).add_(places.remainder(kGroup))};
}

at::Tensor Ascending(const at::Tensor& numbers) {
  return std::get<0>(numbers.sort(1));
}

class Stream {
 public:
  Stream(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
         const at::Tensor& angles, const SequenceAttentionOptions& options)
      : options_(options),
        block_(options.block_tokens),
        kv_heads_(key.size(1)),
        group_(query.size(1) / key.size(1)),
        width_(query.size(2)),
        scale_(options.scale > 0 ? options.scale : 1 / std::sqrt(static_cast<double>(width_))),
        query_(query),
        key_(key),
        value_(value),
        angles_(angles.defined() && angles.size(1) > 0 ? angles : at::Tensor()),
        segments_(CutIntoSegments(query.size(0), options)) {}

  at::Tensor Choose() const;
  at::Tensor Attend(const at::Tensor& spans) const;

 private:
  // Segments first .. first + count - 1 of one shape.
  struct Run {
    size_t first = 0, count = 0;
  };
  // Candidate blocks of a run's segments [B, C], ascending, counted from the first block behind the
  // sinks; and which of them may be chosen.
  struct Candidates {
    at::Tensor blocks, allowed;
  };

  int64_t FirstBlock() const { return options_.stream.sinks / block_; }
  int64_t SpanBlocks(const Segment& segment) const {
    return std::min<int64_t>(options_.stream.span_blocks, segment.candidates);
  }
  int64_t MostCandidates() const {
    return std::max(options_.stream.candidates, options_.stream.span_blocks);
  }
  // Columns of scores, so that long rows are cut into groups.
  static int64_t WholeGroups(int64_t columns) {
    return columns < kLongRow ? columns : (columns + kGroup - 1) / kGroup * kGroup;
  }
  bool Votes(const Segment& segment) const { return segment.candidates > MostCandidates(); }
  int64_t ScoresOf(const Segment& segment) const;
  Run ScoringRun(size_t first) const;
  Run AttendingRun(size_t first) const;
  at::Tensor At(const at::Tensor& rows, int64_t position, int64_t count) const {
    return angles_.defined() ? RotatedRows(rows, angles_.narrow(0, position, count)) : rows;
  }
  Candidates CandidatesOf(const Run& run, const at::Tensor& queries,
                          const at::Tensor& representatives, const at::Tensor& counts) const;
  at::Tensor VotesOf(const Run& run, const at::Tensor& queries, const at::Tensor& representatives,
                     const at::Tensor& counts) const;
  at::Tensor MassOf(const Run& run, const at::Tensor& queries, const at::Tensor& keys,
                    const Candidates& candidates) const;
  at::Tensor HeaviestWithSuccessors(const at::Tensor& blocks, const at::Tensor& mass, int64_t k,
                                    const at::Tensor& counts) const;
  at::Tensor AttendRun(const Run& run, const at::Tensor& query, const at::Tensor& spans,
                       const at::Tensor& begins) const;

  const SequenceAttentionOptions& options_;
  int64_t block_, kv_heads_, group_, width_;
  double scale_;
  at::Tensor query_, key_, value_, angles_;
  std::vector<Segment> segments_;
};

// The most scores that a segment needs at once.
int64_t Stream::ScoresOf(const Segment& segment) const {
  const int64_t means = segment.candidates * (block_ / options_.stream.representative_tokens);
  const int64_t keys = std::min(segment.candidates, MostCandidates()) * block_;
  return kv_heads_ * group_ * segment.tokens * (Votes(segment) ? std::max(means, keys) : keys);
}

Stream::Run Stream::ScoringRun(size_t first) const {
  Run run = {first, 1};
  const Segment& head = segments_[first];
  while (first + run.count < segments_.size()) {
    const Segment& next = segments_[first + run.count];
    if (next.tokens != head.tokens || Votes(next) != Votes(head) ||
        SpanBlocks(next) != SpanBlocks(head) ||
        ScoresOf(next) * static_cast<int64_t>(run.count + 1) > kMostScores) {
      break;
    }
    ++run.count;
  }
  return run;
}

Stream::Run Stream::AttendingRun(size_t first) const {
  Run run = {first, 1};
  const Segment& head = segments_[first];
  while (first + run.count < segments_.size()) {
    const Segment& next = segments_[first + run.count];
    if (next.tokens != head.tokens || next.sinks != head.sinks ||
        SpanBlocks(next) != SpanBlocks(head) ||
        next.first - next.window_begin != head.first - head.window_begin ||
        head.tokens * static_cast<int64_t>(run.count + 1) > kAttendTokens) {
      break;
    }
    ++run.count;
  }
  return run;
}

at::Tensor Stream::Choose() const {
  const at::NoGradGuard no_gradient;
  const int64_t most = options_.stream.span_blocks;
  const auto count = static_cast<int64_t>(segments_.size());
  const at::Tensor spans = at::full({count, most}, -1, key_.options().dtype(at::kLong));
  const int64_t blocks = segments_.back().candidates;
  if (most == 0 || blocks == 0) return spans;

  const at::Tensor turned = At(query_, options_.stream.query_offset, 1).mul(scale_);
  const at::Tensor queries = turned.view({-1, kv_heads_, group_, width_})
                                 .permute({1, 0, 2, 3})
                                 .contiguous();  // [K, L, G, d]
  const at::Tensor keys = key_.narrow(0, FirstBlock() * block_, blocks * block_)
                              .transpose(0, 1)
                              .contiguous();  // [K, blocks S, d]
  at::Tensor means;                           // [K, blocks S / m, d], zeros behind
  if (Votes(segments_.back())) {
    means = keys.unflatten(1, {-1, options_.stream.representative_tokens}).mean(2);
    const int64_t missing = WholeGroups(means.size(1)) - means.size(1);
    means = at::constant_pad_nd(means, {0, 0, 0, missing});
  }
  std::vector<int64_t> numbers;
  for (const Segment& segment : segments_) numbers.push_back(segment.candidates);
  const at::Tensor counts = Column(numbers, key_.device());
  for (size_t first = 0; first < segments_.size();) {
    const int64_t chosen = SpanBlocks(segments_[first]);
    const Run run = ScoringRun(first);
    first += run.count;
    if (chosen == 0) continue;
    const auto at = static_cast<int64_t>(run.first), rows = static_cast<int64_t>(run.count);
    const Candidates candidates = CandidatesOf(run, queries, means, counts.narrow(0, at, rows));
    at::Tensor span = candidates.blocks;  // no more than are wanted
    if (span.size(1) > chosen || Votes(segments_[run.first])) {
      const at::Tensor mass = MassOf(run, queries, keys, candidates);
      span = Ascending(
          HeaviestWithSuccessors(candidates.blocks, mass, chosen, counts.narrow(0, at, rows)));
    }
    spans.narrow(0, at, rows).narrow(1, 0, chosen).copy_(span.add(FirstBlock()));
  }
  return spans;
}

// blocks [B, C] of `mass`, of counts [B, 1] that there are -> [B, k]: the k heaviest, of which the
// first bring the block after them: each with it, then the others, as long as there is room.
at::Tensor Stream::HeaviestWithSuccessors(const at::Tensor& blocks, const at::Tensor& mass,
                                          int64_t k, const at::Tensor& counts) const {
  const int given = options_.stream.successors;
  const int64_t leaders =
      std::min<int64_t>(k, given < 0 ? DefaultSuccessors(options_.stream.span_blocks) : given);
  const at::Tensor places = Descending(mass, k), heaviest = blocks.gather(1, places);
  if (leaders == 0) return heaviest;
  const at::Tensor first = heaviest.narrow(1, 0, leaders);
  // Who got no vote brings nobody.
  const at::Tensor brought = first.add(1).masked_fill_(
      mass.gather(1, places.narrow(1, 0, leaders)).lt(0), std::numeric_limits<int>::max());
  const at::Tensor order = at::cat(
      {at::stack({first, brought}, 2).flatten(1, 2), heaviest.narrow(1, leaders, k - leaders)},
      1);  // [B, k + leaders]
  const int64_t wanted = order.size(1);
  const at::Tensor comes_again =
      order.unsqueeze(2).eq(order.unsqueeze(1)).tril(-1).any(2);  // it stood further to the left
  const at::Tensor place = at::arange(wanted, counts.options())
                               .unsqueeze(0)
                               .add(comes_again.logical_or(order.ge(counts)).to(at::kLong), wanted);
  return order.gather(1, std::get<1>(place.topk(k, 1, /*largest=*/false)));
}

Stream::Candidates Stream::CandidatesOf(const Run& run, const at::Tensor& queries,
                                        const at::Tensor& representatives,
                                        const at::Tensor& counts) const {
  const Segment& last = segments_[run.first + run.count - 1];
  if (!Votes(last)) {
    const at::Tensor all = at::arange(last.candidates, counts.options()).unsqueeze(0);
    return {all.expand({counts.size(0), last.candidates}), all.lt(counts)};
  }
  const at::Tensor votes = VotesOf(run, queries, representatives, counts);
  const at::Tensor blocks = Ascending(Descending(votes, MostCandidates()));
  return {blocks, votes.gather(1, blocks).gt(0)};
}

// What the blocks are given by all tokens and heads: [B, blocks], whole numbers of 2^-32, so that
// the order in which a device adds them up does not matter.
at::Tensor Stream::VotesOf(const Run& run, const at::Tensor& queries,
                           const at::Tensor& representatives, const at::Tensor& counts) const {
  const Segment& head = segments_[run.first];
  const int64_t per_block = block_ / options_.stream.representative_tokens;
  const int64_t means = WholeGroups(segments_[run.first + run.count - 1].candidates * per_block);
  const int64_t blocks = (means + per_block - 1) / per_block,
                rows = static_cast<int64_t>(run.count);
  at::Tensor scores = at::bmm(queries.narrow(1, head.first, rows * head.tokens).flatten(1, 2),
                              representatives.narrow(1, 0, means).transpose(1, 2));
  const int64_t shared = head.candidates * per_block;  // candidates of all of the run
  if (shared < means) {
    const at::Tensor later = at::arange(shared, means, counts.options()).unsqueeze(0);
    scores.view({kv_heads_, rows, -1, means})
        .narrow(3, shared, means - shared)
        .masked_fill_(later.ge(counts.mul(per_block)).view({1, rows, 1, -1}), -kInfinity);
  }
  const auto [best, places] = Largest(scores, options_.stream.votes);
  const at::Tensor given = at::softmax(best, 2, at::kDouble)
                               .mul_(0x1p32)
                               .to(at::kLong)
                               .add_(1)  // a vote, however light
                               .masked_fill_(best.eq(-kInfinity), 0);
  const at::Tensor segment = at::arange(rows, counts.options()).mul_(blocks).view({1, rows, 1});
  const at::Tensor block = places.floor_divide(per_block).view({kv_heads_, rows, -1}).add(segment);
  return at::zeros({rows * blocks}, counts.options())
      .scatter_add_(0, block.flatten(), given.flatten())
      .view({rows, blocks});
}

// The sum over tokens and heads of the probability on each candidate's keys: [B, C]; -1 where a
// block may not be chosen.
at::Tensor Stream::MassOf(const Run& run, const at::Tensor& queries, const at::Tensor& keys,
                          const Candidates& candidates) const {
  const Segment& head = segments_[run.first];
  const int64_t rows = static_cast<int64_t>(run.count), count = candidates.blocks.size(1);
  const at::Tensor chosen = keys.unflatten(1, {-1, block_})
                                .index_select(1, candidates.blocks.flatten())
                                .view({kv_heads_ * rows, count * block_, width_});
  const at::Tensor asking = queries.narrow(1, head.first, rows * head.tokens)
                                .reshape({kv_heads_ * rows, head.tokens * group_, width_});
  at::Tensor scores = at::bmm(asking, chosen.transpose(1, 2));
  const at::Tensor refused = candidates.allowed.logical_not();  // [B, C]
  scores.view({kv_heads_, rows, -1, count, block_})
      .masked_fill_(refused.view({1, rows, 1, count, 1}), -kInfinity);
  const at::ScalarType type = scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return at::softmax(scores, 2)
      .sum(at::IntArrayRef{1}, /*keepdim=*/false, type)
      .view({kv_heads_, rows, count, block_})
      .sum(at::IntArrayRef{0, 3})
      .masked_fill_(refused, -1);
}

at::Tensor Stream::Attend(const at::Tensor& spans) const {
  std::vector<Run> runs;
  std::vector<int64_t> tokens, begins;
  for (size_t first = 0; first < segments_.size(); first += runs.back().count) {
    runs.push_back(AttendingRun(first));
    tokens.push_back(segments_[first].tokens * static_cast<int64_t>(runs.back().count));
  }
  for (const Segment& segment : segments_) begins.push_back(segment.window_begin);
  const at::Tensor begin = Column(begins, key_.device());
  // By one split, so that backward joins gradients.
  const std::vector<at::Tensor> queries = query_.split_with_sizes(tokens, 0);
  std::vector<at::Tensor> output;
  for (size_t i = 0; i < runs.size(); ++i) {
    const auto first = static_cast<int64_t>(runs[i].first);
    const auto count = static_cast<int64_t>(runs[i].count);
    output.push_back(AttendRun(runs[i], queries[i], spans.narrow(0, first, count),
                               begin.narrow(0, first, count)));
  }
  return output.size() == 1 ? output[0] : at::cat(output, 0);
}

// query [B n, H, d], spans [B, k or more], begins [B, 1] -> [B n, H, d]
at::Tensor Stream::AttendRun(const Run& run, const at::Tensor& query, const at::Tensor& spans,
                             const at::Tensor& begins) const {
  const Segment& head = segments_[run.first];
  const int64_t rows = static_cast<int64_t>(run.count), queries = head.tokens;
  const int64_t recent = head.first - head.window_begin + queries;  // window and segment
  const auto numbers = [&](int64_t count) { return at::arange(count, begins.options()); };
  std::vector<at::Tensor> parts;
  if (head.sinks > 0) parts.push_back(numbers(head.sinks).expand({rows, head.sinks}));
  if (const int64_t blocks = SpanBlocks(head); blocks > 0) {
    const at::Tensor firsts = spans.narrow(1, 0, blocks).mul(block_).unsqueeze(2);
    parts.push_back(firsts.add(numbers(block_)).flatten(1));
  }
  parts.push_back(begins.add(numbers(recent)));
  const at::Tensor places = at::cat(parts, 1);  // [B, T]
  const int64_t columns = places.size(1);
  const at::Tensor keys = At(Rows(key_, places), 0, columns);  // [B, T, K, d]
  const at::Tensor values = Rows(value_, places);
  const at::Tensor asking =
      At(query.unflatten(0, {rows, queries}), columns - queries, queries);  // [B, n, H, d]
  if (HasFlashAttention(query)) {
    return FlashAttention(asking, keys, values, scale_, /*window=*/0).flatten(0, 1);
  }
  const auto by_head = [&](const at::Tensor& gathered) {  // [B, T, K, d] -> [B K, G, T, d]
    return gathered.transpose(1, 2)
        .reshape({rows * kv_heads_, 1, columns, width_})
        .expand({rows * kv_heads_, group_, columns, width_});
  };
  std::optional<at::Tensor> mask;
  if (columns > queries) {
    const at::Tensor hidden =
        at::ones({queries, columns}, query.options().dtype(at::kBool).requires_grad(false))
            .triu_(columns - queries + 1);
    mask = at::zeros({queries, columns}, query.options().requires_grad(false))
               .masked_fill_(hidden, -kInfinity);
  }
  const at::Tensor by_group = asking.view({rows, queries, kv_heads_, group_, width_})
                                  .permute({0, 2, 3, 1, 4})
                                  .reshape({rows * kv_heads_, group_, queries, width_});
  return at::scaled_dot_product_attention(by_group, by_head(keys), by_head(values), mask, 0.0,
                                          /*is_causal=*/columns == queries, scale_)
      .view({rows, kv_heads_, group_, queries, width_})
      .permute({0, 3, 1, 2, 4})
      .reshape({rows * queries, kv_heads_ * group_, width_});
}

Stream Checked(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
               const at::Tensor& angles, const SequenceAttentionOptions& options) {
  CheckSequenceOptions(options);
  if (options.mode != SequenceMode::kStream) {
    throw Error(ErrorCode::kInvalidArgument,
                "stream attention: the mode is '" + std::string(SequenceModeName(options.mode)) +
                    "', not 'se-stream'",
                "SequenceAttention has the other modes.");
  }
  CheckSequenceTensors(query, key, value);
  if (angles.defined() && angles.size(0) < StreamPositions(options)) {
    throw Error(ErrorCode::kInvalidArgument,
                "stream attention: there are angles of " + std::to_string(angles.size(0)) +
                    " positions, " + std::to_string(StreamPositions(options)) + " are needed",
                "Compute the rotary table for StreamPositions(options) positions.");
  }
  return Stream(query, key, value, angles, options);
}

}  // namespace

int64_t StreamPositions(const SequenceAttentionOptions& options) {
  const StreamReading& stream = options.stream;
  const int64_t blocks = stream.span_blocks + 1;  // and one that waits in the window
  const int64_t compact =
      stream.sinks + blocks * options.block_tokens + stream.window + stream.segment;
  return std::max<int64_t>(compact, stream.query_offset + 1);
}

at::Tensor StreamAttention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                           const at::Tensor& angles, const SequenceAttentionOptions& options,
                           at::Tensor* spans) {
  const Stream stream = Checked(query, key, value, angles, options);
  at::Tensor chosen = spans != nullptr ? *spans : at::Tensor();
  if (!chosen.defined()) chosen = stream.Choose();
  if (spans != nullptr) *spans = chosen;
  return stream.Attend(chosen);
}

at::Tensor ChooseStreamSpans(const at::Tensor& query, const at::Tensor& key,
                             const at::Tensor& angles, const SequenceAttentionOptions& options) {
  return Checked(query, key, key, angles, options).Choose();
}

}  // namespace eidetic::model
