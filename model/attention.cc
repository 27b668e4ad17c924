#include "model/attention.h"

#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/triu.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "model/error.h"
#include "model/flash_attention.h"
#include "model/span_pages.h"

namespace eidetic::model {
namespace {

// Queries that attend at once: bounds the mask and lets the first of a long segment skip the keys
// of the last.
constexpr int64_t kQueryChunk = 512;

void CheckSpan(const kernels::SpanView& span, const ModelConfig& config, int layer) {
  if (span.tokens < 0 || span.page_count < 0 ||
      (span.tokens > 0 && (span.kv_heads != config.kv_heads || span.head_dim != config.head_dim))) {
    throw Error(ErrorCode::kMismatch,
                "the span of layer " + std::to_string(layer) + " has " +
                    std::to_string(span.kv_heads) + " kv heads of " +
                    std::to_string(span.head_dim) + ", the model has " +
                    std::to_string(config.kv_heads) + " of " + std::to_string(config.head_dim),
                "Attach memory that this model made.");
  }
  int64_t tokens = 0;
  for (int page = 0; page < span.page_count; ++page) tokens += span.pages[page].tokens;
  if (tokens != span.tokens) {
    throw Error(ErrorCode::kInvalidArgument, "the span of layer " + std::to_string(layer) +
                                                 " says " + std::to_string(span.tokens) +
                                                 " tokens and its pages hold " +
                                                 std::to_string(tokens));
  }
}

}  // namespace

AttentionPass::AttentionPass(const ModelConfig& config, const AttentionOptions& options,
                             KeyValueWindow* window, RotaryTable* rotary, int64_t position,
                             int64_t tokens)
    : config_(config),
      options_(options),
      window_(*window),
      rotary_(*rotary),
      position_(position),
      tokens_(tokens),
      window_begin_(position - window->window_tokens()) {
  // One request for everything the pass will ask, so that the table is computed at most once.
  const int64_t prefix = window_.prefix_capacity();
  const int64_t first = prefix > 0 ? window_begin_ - prefix : position_;
  rotary_.Slice(first, position_ + tokens_ - first);
  segment_angles_ = rotary_.Slice(position_, tokens_);
}

at::Tensor AttentionPass::Attend(const at::Tensor& qkv, int layer, int index) {
  const int64_t heads = config_.heads, kv_heads = config_.kv_heads, d = config_.head_dim;
  const at::Tensor rows = qkv.view({tokens_, heads + 2 * kv_heads, d});
  const at::Tensor query = rows.narrow(1, 0, heads);
  const kernels::SpanView span = SelectSpan(query, layer);
  const int64_t prefix = window_.sink_count() + span.tokens;
  window_.Reserve(prefix, tokens_);
  WritePrefix(index, span);

  const int64_t held = window_.window_tokens();
  const at::Tensor key_value = rows.narrow(1, heads, 2 * kv_heads).unflatten(1, {2, kv_heads});
  window_.KeyAndValueSlots(index, held, tokens_).copy_(key_value.permute({1, 2, 0, 3}));
  Rotate(rows.narrow(1, heads, kv_heads).transpose(0, 1), segment_angles_,
         window_.Slots(index, Plane::kRotatedKey, held, tokens_));
  at::Tensor rotated = at::empty({heads, tokens_, d}, qkv.options());
  Rotate(query.transpose(0, 1), segment_angles_, rotated);
  rotated = rotated.view({kv_heads, heads / kv_heads, tokens_, d});

  Payment* payment = nullptr;
  if (report_attention && span.tokens > 0) {
    payment = &payments_.emplace_back(Payment{layer, {}, {}});
    for (int i = 0; i < span.page_count; ++i) payment->page_tokens.push_back(span.pages[i].tokens);
  }
  at::Tensor output;  // [L, H d]
  for (int64_t q0 = 0; q0 < tokens_; q0 += kQueryChunk) {
    const int64_t count = std::min(kQueryChunk, tokens_ - q0);
    const at::Tensor chunk = rotated.narrow(2, q0, count);
    const at::Tensor attended =
        count == 1 || payment != nullptr
            ? AttendExplicitly(chunk, index, prefix, q0, span.tokens, payment)
            : AttendFused(chunk, index, prefix, q0);
    const at::Tensor part = attended.permute({2, 0, 1, 3}).reshape({count, heads * d});
    if (count == tokens_) {
      output = part;
    } else {
      if (!output.defined()) output = at::empty({tokens_, heads * d}, qkv.options());
      output.narrow(0, q0, count).copy_(part);
    }
  }
  return output;
}

void AttentionPass::ReportAttention() {
  if (payments_.empty()) return;
  std::vector<at::Tensor> all;
  for (const Payment& payment : payments_) {
    all.insert(all.end(), payment.tokens.begin(), payment.tokens.end());
  }
  const at::Tensor read = (all.size() == 1 ? all[0] : at::cat(all)).cpu();
  const double* token = read.const_data_ptr<double>();
  for (const Payment& payment : payments_) {
    std::vector<double> mass(payment.page_tokens.size(), 0.0);
    for (size_t chunk = 0; chunk < payment.tokens.size(); ++chunk) {
      for (size_t page = 0; page < mass.size(); ++page) {
        for (int i = 0; i < payment.page_tokens[page]; ++i) mass[page] += *token++ / config_.heads;
      }
    }
    span->Attended(payment.layer, mass.data(), static_cast<int>(mass.size()),
                   static_cast<int>(tokens_));
  }
  payments_.clear();
}

kernels::SpanView AttentionPass::SelectSpan(const at::Tensor& query, int layer) {
  if (span == nullptr || options_.mode != AttentionMode::kStream ||
      !std::binary_search(options_.span_layers.begin(), options_.span_layers.end(), layer)) {
    return {};
  }
  if (!query_angles_.defined()) query_angles_ = rotary_.Compute(options_.query_offset, 1);
  at::Tensor turned = at::empty(query.sizes(), query.options());  // [L, H, d]
  Rotate(query.transpose(0, 1), query_angles_, turned.transpose(0, 1));
  turned = turned.cpu();
  ScoringQueries scoring;
  scoring.layer = layer;
  scoring.data = turned.const_data_ptr<float>();
  scoring.tokens = static_cast<int>(tokens_);
  scoring.heads = config_.heads;
  scoring.head_dim = config_.head_dim;
  const kernels::SpanView view = span->Select(scoring);
  CheckSpan(view, config_, layer);
  return view;
}

void AttentionPass::WritePrefix(int index, const kernels::SpanView& span) {
  const int64_t sinks = window_.sink_count();
  const int64_t prefix = sinks + span.tokens;
  if (prefix == 0) return;
  const at::Tensor angles = rotary_.Slice(window_begin_ - prefix, prefix);
  if (sinks > 0 && window_.SinksAreStale(index, prefix)) {
    Rotate(window_.SinkKeys(index), angles.narrow(0, 0, sinks),
           window_.Slots(index, Plane::kRotatedKey, -prefix, sinks));
    window_.Slots(index, Plane::kValue, -prefix, sinks).copy_(window_.SinkValues(index));
    window_.MarkSinksWritten(index, prefix);
  }
  const std::shared_ptr<const void> epoch = this->span == nullptr ? nullptr : this->span->epoch();
  const std::vector<int> stale = window_.StalePages(index, span, epoch);
  if (!stale.empty()) {
    WritePages(span, stale, angles.narrow(0, sinks, span.tokens),
               window_.Slots(index, Plane::kRotatedKey, -span.tokens, span.tokens),
               window_.Slots(index, Plane::kValue, -span.tokens, span.tokens));
  }
  window_.MarkPagesWritten(index, span, epoch);
}

at::Tensor AttentionPass::AttendFused(const at::Tensor& query, int index, int64_t prefix,
                                      int64_t q0) {
  const int64_t queries = query.size(2);
  const int64_t before = prefix + window_.window_tokens() + q0;
  const int64_t columns = before + queries;
  // The heads of a group share a key head: a batch of kv heads with repeated (stride 0) keys.
  const std::array<int64_t, 4> grouped = {query.size(0), query.size(1), columns, query.size(3)};
  const at::Tensor keys =
      window_.Slots(index, Plane::kRotatedKey, -prefix, columns).unsqueeze(1).expand(grouped);
  const at::Tensor values =
      window_.Slots(index, Plane::kValue, -prefix, columns).unsqueeze(1).expand(grouped);
  if (HasEfficientAttention(query)) {
    return EfficientAttention(query, keys, values, config_.attention_scale);
  }
  if (before == 0) {
    return at::scaled_dot_product_attention(query, keys, values, {}, 0.0, /*is_causal=*/true,
                                            config_.attention_scale);
  }
  return at::scaled_dot_product_attention(query, keys, values, CausalMask(queries, columns), 0.0,
                                          /*is_causal=*/false, config_.attention_scale);
}

at::Tensor AttentionPass::AttendExplicitly(const at::Tensor& query, int index, int64_t prefix,
                                           int64_t q0, int64_t span_tokens, Payment* payment) {
  const int64_t kv_heads = query.size(0), group = query.size(1), queries = query.size(2);
  const int64_t columns = prefix + window_.window_tokens() + q0 + queries;
  const at::Tensor keys = window_.Slots(index, Plane::kRotatedKey, -prefix, columns);  // [K, T, d]
  const at::Tensor values = window_.Slots(index, Plane::kValue, -prefix, columns);
  const at::Tensor flat = query.reshape({kv_heads, group * queries, query.size(3)});
  at::Tensor scores = at::bmm(flat, keys.transpose(1, 2)).mul_(config_.attention_scale);
  if (queries > 1) {
    scores.view({kv_heads * group, queries, columns}).add_(CausalMask(queries, columns));
  }
  const at::Tensor probabilities = at::softmax(scores, -1);  // [K, group * queries, T]
  if (payment != nullptr) {
    payment->tokens.push_back(probabilities.narrow(2, prefix - span_tokens, span_tokens)
                                  .sum(at::IntArrayRef{0, 1}, false, at::kDouble));
  }
  return at::bmm(probabilities, values).view(query.sizes());
}

const at::Tensor& AttentionPass::CausalMask(int64_t queries, int64_t columns) {
  at::Tensor& mask = masks_[{queries, columns}];
  if (!mask.defined()) {
    const at::TensorOptions options = segment_angles_.options();
    mask = at::zeros({queries, columns}, options);
    mask.narrow(1, columns - queries, queries)
        .copy_(at::triu(
            at::full({queries, queries}, -std::numeric_limits<double>::infinity(), options), 1));
  }
  return mask;
}

}  // namespace eidetic::model
