// The words of a session's own past: a full-text index in RAM over its blocks, brought up to date
// when it is searched.
#ifndef EIDETIC_SDK_OWN_WORDS_H_
#define EIDETIC_SDK_OWN_WORDS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "memory/representative_index.h"
#include "memory/span_choice.h"
#include "memory/word_index.h"

namespace eidetic::sdk {

// Not thread-safe.
class OwnWords {
 public:
  // The text of tokens begin..end of the session.
  using TextOf = std::function<std::string(uint64_t token_begin, uint64_t token_end)>;

  // The best places among the blocks of `own`, of which there may be more than at the last call,
  // but not others. The newest block is not searched.
  memory::Result<std::vector<memory::FoundPlace>> Search(const memory::RepresentativeIndex& own,
                                                         const TextOf& text_of,
                                                         std::string_view words, size_t limit);

 private:
  std::unique_ptr<memory::WordIndex> index_;
  size_t indexed_ = 0;  // blocks
};

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_OWN_WORDS_H_
