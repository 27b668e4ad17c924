// States of texts that many sessions begin with, such as what is read before a question: the first
// session that reads such a text leaves its state here, later ones go on from a copy.
#ifndef EIDETIC_SDK_KEPT_BEGINNINGS_H_
#define EIDETIC_SDK_KEPT_BEGINNINGS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "model/hybrid_model.h"

namespace eidetic::sdk {

// Thread-safe.
class KeptBeginnings {
 public:
  static constexpr size_t kMost = 4;

  // A state of its own for a stream of `options` that has read `tokens` from its start, in one pass
  // with the span off: what that pass would leave, to the bit. Null when it is not kept. Throws as
  // HybridModel::CopyState.
  std::unique_ptr<model::ModelState> Find(const model::HybridModel& model,
                                          const model::AttentionOptions& options,
                                          const std::vector<int32_t>& tokens);
  // Keeps a copy of `state`, which read `tokens` so. Of more than kMost the one goes that was
  // neither kept nor found for the longest time. Throws likewise.
  void Keep(const model::HybridModel& model, const model::ModelState& state,
            const std::vector<int32_t>& tokens);
  size_t size() const;

 private:
  struct Beginning {
    std::vector<int32_t> tokens;
    std::shared_ptr<const model::ModelState> state;
  };
  // Makes the one found the first; null when there is none.
  std::shared_ptr<const model::ModelState> Touch(const model::AttentionOptions& options,
                                                 const std::vector<int32_t>& tokens);

  mutable std::mutex mutex_;
  std::vector<Beginning> kept_;  // the one used last first
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_KEPT_BEGINNINGS_H_
