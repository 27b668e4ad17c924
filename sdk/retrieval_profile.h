// How a model recalls: which layers get a span, how large it is, how candidates are found. Kept in
// a file of its own beside the model's (docs/formats/retrieval-profile.md), changeable without
// reading anything again. It is not part of the fingerprint: it decides what is recalled, never
// what was stored.
#ifndef EIDETIC_SDK_RETRIEVAL_PROFILE_H_
#define EIDETIC_SDK_RETRIEVAL_PROFILE_H_

#include <optional>
#include <string>
#include <vector>

#include "memory/span_choice.h"
#include "memory/status.h"
#include "model/config.h"
#include "model/sequence_options.h"

namespace eidetic::sdk {

inline constexpr int kMostLayerGroup = 1024;

struct RetrievalProfile {
  std::vector<int> span_layers;  // model layers, ascending; not empty
  int span_blocks = 16;          // k
  int candidate_blocks = 128;    // rescored on their real keys; 0: no rescoring
  // Blocks of a choice that bring the one after them (memory/retriever.h); none named:
  // model::DefaultSuccessors.
  std::optional<int> successor_blocks;
  // Part of the last token's choice that still counts (memory/retriever.h); none named: LingerOf.
  std::optional<double> linger;
  int representative_tokens = 8;  // consecutive keys behind one mean
  int query_offset = 1024;        // rotary distance of scoring queries, tokens
  int layer_group = 1;            // span layers in a row that share a choice of their own past
  int focus_layer = -1;           // the span layer that looks things up; -1: not known
  memory::RecallPolicy policy = memory::RecallPolicy::kAttention;  // who chooses the span
  memory::WordShare words;                                         // when words have a say
  bool calibrated = false;                                         // read from a file, not assumed
  std::string path;                                                // of that file

  int SuccessorsOf(int blocks_in_span) const {
    return successor_blocks.value_or(model::DefaultSuccessors(blocks_in_span));
  }

  // Half, where the span has room for more than what is asked for now.
  double LingerOf(int blocks_in_span) const {
    return linger.value_or(model::DefaultSuccessors(blocks_in_span) > 0 ? 0.5 : 0);
  }

  // Hex SHA-256 over version and settings: equal profiles recall alike.
  std::string Hash() const;
};

// What is assumed of a model that was not calibrated: every attention layer has a span.
RetrievalProfile AssumedProfile(const model::ModelConfig& config);

// Where a model's profile is looked for when no path is given.
std::string ProfilePathOf(const std::string& model_path);

// Reads a profile and checks every field. kNotFound; kCorruption when it is no profile or a field
// is out of range; kUnsupported for a newer version; kFingerprintMismatch when it is of another
// model (`fingerprint` empty: not compared); kInvalidArgument when a layer is no attention layer.
memory::Result<RetrievalProfile> ReadProfile(const std::string& path,
                                             const std::string& fingerprint,
                                             const model::ModelConfig& config);

// Copies the profile that a patch folder may bring (`PATCH_DIR/profile.json`) beside the model that
// was merged with it, whose configuration it must fit. One that stands there already stays. Errors
// as ReadProfile's, kIoError, kNoSpace.
memory::Status BringProfile(const std::string& patch_dir, const std::string& model_path);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_RETRIEVAL_PROFILE_H_
