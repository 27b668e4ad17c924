#include "memory/block.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace eidetic::memory {
namespace {

std::string RowName(const Layout& layout, size_t layer_index, const char* part, int token,
                    int head) {
  return "layer " + std::to_string(layout.layers[layer_index]) + ", " + part + ", token " +
         std::to_string(token) + ", kv head " + std::to_string(head);
}

// Why the codec refused `rows`: the first number that it cannot hold.
Status RefusedRow(const Layout& layout, size_t layer_index, const char* part, int tokens,
                  const float* rows) {
  int worst_token = 0;
  int worst_head = 0;
  float worst = 0;
  for (int token = 0; token < tokens; ++token) {
    for (int head = 0; head < layout.kv_heads; ++head) {
      const float* row = rows + (static_cast<size_t>(token) * layout.kv_heads + head) *
                                    static_cast<size_t>(layout.head_dim);
      for (int i = 0; i < layout.head_dim; ++i) {
        if (!std::isfinite(row[i])) {
          return Status(Code::kInvalidArgument,
                        RowName(layout, layer_index, part, token, head) + ": component " +
                            std::to_string(i) + " is " + std::to_string(row[i]),
                        "the model's weights or its compute are damaged: check the model file");
        }
        if (std::fabs(row[i]) > std::fabs(worst)) {
          worst = row[i];
          worst_token = token;
          worst_head = head;
        }
      }
    }
  }
  return Status(Code::kInvalidArgument,
                RowName(layout, layer_index, part, worst_token, worst_head) + ": " +
                    std::to_string(worst) + " is too large for " + kernels::CodecName(layout.codec),
                "use the int8 codec, which scales each row");
}

// Means of `representative_tokens` consecutive keys, [kv_heads, count, head_dim] fp16.
Status AppendMeans(const Layout& layout, size_t layer_index, int tokens, const float* keys,
                   std::vector<float>* mean, std::vector<uint16_t>* representatives) {
  const int count = layout.RepresentativeCount(tokens);
  for (int head = 0; head < layout.kv_heads; ++head) {
    for (int group = 0; group < count; ++group) {
      const int begin = group * layout.representative_tokens;
      const int end = std::min(tokens, begin + layout.representative_tokens);
      mean->assign(static_cast<size_t>(layout.head_dim), 0.0f);
      for (int token = begin; token < end; ++token) {
        const float* row = keys + (static_cast<size_t>(token) * layout.kv_heads + head) *
                                      static_cast<size_t>(layout.head_dim);
        for (int i = 0; i < layout.head_dim; ++i) (*mean)[i] += row[i];
      }
      const float scale = 1.0f / static_cast<float>(end - begin);
      for (float& value : *mean) {
        value *= scale;
        if (!(std::fabs(value) <= 65504.0f)) {  // the largest fp16
          return Status(Code::kInvalidArgument, RowName(layout, layer_index, "keys", begin, head) +
                                                    ": the mean key has " + std::to_string(value) +
                                                    ", too large for fp16");
        }
      }
      const size_t old_size = representatives->size();
      representatives->resize(old_size + mean->size());
      kernels::FloatToHalf(mean->data(), mean->size(), representatives->data() + old_size);
    }
  }
  return {};
}

}  // namespace

Result<Block> EncodeBlock(const Layout& layout, BlockHeader header, const float* const* keys,
                          const float* const* values) {
  const int tokens = header.token_count();
  if (tokens < 1 || tokens > layout.block_tokens) {
    return Status(Code::kInvalidArgument, "a block has 1.." + std::to_string(layout.block_tokens) +
                                              " tokens, this one has " + std::to_string(tokens));
  }
  if (header.text_begin > header.text_end) {
    return Status(Code::kInvalidArgument,
                  "a block's text range ends (" + std::to_string(header.text_end) +
                      ") before it begins (" + std::to_string(header.text_begin) + ")");
  }
  Block block;
  block.header = std::move(header);
  const size_t bytes =
      kernels::PayloadBytes(layout.codec, tokens, layout.kv_heads, layout.head_dim);
  block.representatives.reserve(layout.layers.size() *
                                static_cast<size_t>(layout.RepresentativeCount(tokens)) *
                                static_cast<size_t>(layout.RowWidth()));
  std::vector<float> mean;
  for (size_t layer = 0; layer < layout.layers.size(); ++layer) {
    for (bool is_key : {true, false}) {
      const float* rows = is_key ? keys[layer] : values[layer];
      std::string payload(bytes, '\0');
      if (!kernels::EncodeRows(layout.codec, rows, tokens, layout.kv_heads, layout.head_dim,
                               reinterpret_cast<uint8_t*>(payload.data()))) {
        return RefusedRow(layout, layer, is_key ? "keys" : "values", tokens, rows);
      }
      (is_key ? block.keys : block.values).push_back(std::move(payload));
    }
    EID_RETURN_IF_ERROR(
        AppendMeans(layout, layer, tokens, keys[layer], &mean, &block.representatives));
  }
  return block;
}

}  // namespace eidetic::memory
