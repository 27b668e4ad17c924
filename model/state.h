// The state of one stream and its bytes (docs/formats/session.md).
#ifndef EIDETIC_MODEL_STATE_H_
#define EIDETIC_MODEL_STATE_H_

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/hybrid_model.h"
#include "model/key_value_window.h"
#include "model/mamba2.h"
#include "model/rotary.h"

namespace eidetic::model {

// Throws Error kInvalidArgument for options that are out of range or name layers that are no
// attention layers.
void CheckAttentionOptions(const AttentionOptions& options, const ModelConfig& config);

class StateWriter;
class StateReader;

class StreamState final : public ModelState {
 public:
  // A stream that has read nothing. `graph`: HybridModel::FingerprintBytes of the model.
  StreamState(const ModelConfig& config, const AttentionOptions& options, const std::string& graph,
              c10::Device device);
  // Throws Error: kMismatch for a state of another graph, kCorruption.
  static std::unique_ptr<StreamState> Restore(const std::string& bytes, const ModelConfig& config,
                                              const std::string& graph, c10::Device device);

  // The same out of SerializeRecurrent's bytes and those of SerializeRows, ascending, which
  // together cover sinks and window.
  static std::unique_ptr<StreamState> Restore(const std::string& recurrent,
                                              const std::vector<StateRows>& rows,
                                              const ModelConfig& config, const std::string& graph,
                                              c10::Device device);

  // The same stream with tensors of its own.
  std::unique_ptr<StreamState> Copy() const;

  uint64_t position() const override { return position_; }
  const AttentionOptions& options() const override { return options_; }
  uint64_t window_begin() const override { return position_ - window_.window_tokens(); }
  uint64_t sink_count() const override { return sink_ids_.size(); }
  std::string Serialize() const override;
  std::string SerializeRecurrent() const override;
  std::string SerializeRows(uint64_t begin, uint64_t end) const override;
  uint64_t bytes() const override;

  const std::string& graph() const { return graph_; }
  const c10::Device& device() const { return device_; }
  KeyValueWindow& window() { return window_; }
  RotaryTable& rotary() { return rotary_; }
  Mamba2State Mamba(int index) const { return {ssm_[index], conv_[index]}; }
  // The recurrent states of all Mamba layers: [layers, H, P, N] and [layers, W - 1, C].
  const at::Tensor& ssm() const { return ssm_; }
  const at::Tensor& conv() const { return conv_; }

  // True while a forward pass is under way, and for good when it threw.
  bool broken() const { return broken_; }
  void SetBroken(bool broken) { broken_ = broken; }
  bool flushed() const { return flushed_; }

  // The last layer's output for the token read last: [1, D], not normalised; not defined when it is
  // not known.
  const at::Tensor& last() const { return last_; }
  void KeepLast(const at::Tensor& row);

  // Room for a segment. Called before the pass.
  void Reserve(int64_t tokens);
  // The tokens just read join sinks and window. What the mode no longer keeps goes to `sink` (may
  // be null) in whole blocks and leaves. With `at_once`, whole blocks that stay go there as well.
  void Advance(const std::vector<int32_t>& tokens, BlockSink* sink, bool at_once);
  // Everything not handed over yet.
  void Flush(BlockSink* sink);

 private:
  StreamState(const StreamState&) = default;  // the same tensors: for Copy

  // Hands over `count` tokens of the window from its row `first`, and before them the sinks if
  // these were not handed over yet.
  void HandOver(int64_t first, int64_t count, BlockSink* sink);
  // Hands over what was not handed over yet of the window's rows before `end`, in runs.
  void HandOverUpTo(int64_t end, BlockSink* sink);
  // Calls `fail` (which throws) when restored counts contradict each other.
  void CheckCounts(const std::function<void(const std::string&)>& fail) const;
  void FillWindow(const at::Tensor& sinks, const at::Tensor& window);

  // The bytes (state_bytes.cc).
  void CheckWhole() const;
  void WriteHead(const char* magic, uint32_t version, StateWriter* writer) const;
  static std::unique_ptr<StreamState> ReadHead(const char* magic, uint32_t version,
                                               const ModelConfig& config, const std::string& graph,
                                               c10::Device device, StateReader* reader);
  void ReadRecurrent(StateReader* reader);
  std::vector<int64_t> RowSizes(int64_t tokens) const;
  at::Tensor GatherRows(const std::vector<StateRows>& rows, uint64_t begin, uint64_t end) const;

  ModelConfig config_;
  AttentionOptions options_;
  std::string graph_;
  c10::Device device_;
  std::vector<int> attention_layers_;
  KeyValueWindow window_;
  RotaryTable rotary_;
  at::Tensor ssm_;
  at::Tensor conv_;
  at::Tensor last_;
  uint64_t position_ = 0;
  uint64_t handed_ = 0;              // tokens [0, handed_) went to a sink or were dropped
  std::vector<int32_t> sink_ids_;    // token ids of the sinks
  std::vector<int32_t> window_ids_;  // and of the window
  bool broken_ = false;
  bool flushed_ = false;
};

}  // namespace eidetic::model

#endif  // EIDETIC_MODEL_STATE_H_
