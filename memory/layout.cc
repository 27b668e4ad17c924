#include "memory/layout.h"

#include <algorithm>

#include "memory/format.h"

namespace eidetic::memory {
namespace {

Status OutOfRange(const char* field, int64_t value, int64_t low, int64_t high) {
  return Status(Code::kInvalidArgument, std::string("layout: ") + field + " is " +
                                            std::to_string(value) + ", must be " +
                                            std::to_string(low) + ".." + std::to_string(high));
}

}  // namespace

uint64_t Layout::PayloadBytes(uint64_t tokens) const {
  return tokens * 2 * layers.size() * kernels::PayloadBytes(codec, 1, kv_heads, head_dim);
}

int Layout::LayerIndex(int model_layer) const {
  auto found = std::lower_bound(layers.begin(), layers.end(), model_layer);
  if (found == layers.end() || *found != model_layer) return -1;
  return static_cast<int>(found - layers.begin());
}

Status Layout::Validate() const {
  if (fingerprint.empty() || fingerprint.size() > format::kMaxFingerprintBytes) {
    return OutOfRange("length of the fingerprint", static_cast<int64_t>(fingerprint.size()), 1,
                      format::kMaxFingerprintBytes);
  }
  if (layers.empty() || layers.size() > format::kMaxLayers) {
    return OutOfRange("number of layers", static_cast<int64_t>(layers.size()), 1,
                      format::kMaxLayers);
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i] < 0 || layers[i] > format::kMaxLayer) {
      return OutOfRange("a layer", layers[i], 0, format::kMaxLayer);
    }
    if (i > 0 && layers[i] <= layers[i - 1]) {
      return Status(Code::kInvalidArgument,
                    "layout: layers are not ascending: " + std::to_string(layers[i]) + " follows " +
                        std::to_string(layers[i - 1]));
    }
  }
  if (kv_heads < 1 || kv_heads > format::kMaxHeads) {
    return OutOfRange("kv_heads", kv_heads, 1, format::kMaxHeads);
  }
  if (head_dim < 1 || head_dim > format::kMaxHeadDim) {
    return OutOfRange("head_dim", head_dim, 1, format::kMaxHeadDim);
  }
  if (block_tokens < 1 || block_tokens > format::kMaxBlockTokens) {
    return OutOfRange("block_tokens", block_tokens, 1, format::kMaxBlockTokens);
  }
  if (representative_tokens < 1 || representative_tokens > block_tokens) {
    return OutOfRange("representative_tokens", representative_tokens, 1, block_tokens);
  }
  if (codec != kernels::Codec::kFp16 && codec != kernels::Codec::kInt8) {
    return Status(Code::kInvalidArgument,
                  "layout: codec " + std::to_string(static_cast<int>(codec)) + " is not known",
                  "use fp16 or int8");
  }
  return {};
}

}  // namespace eidetic::memory
