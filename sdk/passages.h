// From blocks that served to passages that a reader can look up (rule 5).
#ifndef EIDETIC_SDK_PASSAGES_H_
#define EIDETIC_SDK_PASSAGES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "memory/archive.h"
#include "sdk/memory_bridge.h"

namespace eidetic::sdk {

// What one span layer paid for a passage.
struct LayerShare {
  int layer = 0;         // model layer
  double attention = 0;  // share of its attention to the whole context, mean over heads and tokens
  double presence = 0;   // share of its selections that held a block of the passage
};

// A run of blocks of one document or of a session's own past that stand next to each other.
struct Passage {
  std::string collection;  // empty: the session's own past
  std::string source;
  std::string text;
  memory::DocumentId document = 0;
  uint64_t byte_begin = 0;  // of the original that a document's text was extracted from
  uint64_t byte_end = 0;
  uint64_t text_begin = 0;  // of the stored text
  uint64_t text_end = 0;
  uint64_t token_begin = 0;
  uint64_t token_end = 0;
  uint32_t blocks = 0;
  double attention = 0;       // mean share over span layers, heads and tokens of the answer
  double focus = 0;           // the same in the focus layer alone
  int focus_layer = -1;       // model layer; -1: nothing was attended to
  double score = 0;           // mean retrieval mass over selections
  bool by_attention = false;  // why it was in the span: one or both
  bool by_words = false;
  double word_score = 0;  // BM25 of the best place in it that words pinned
  double presence = 0;  // share of one layer's selections that held a block of it; the best layer's
  std::vector<LayerShare> layers;  // in order of the layer; those that selected a block of it
};

enum class PassageOrder { kByFocus, kByScore };

// Where the blocks of one searched set come from, in the order of Recall's sources.
struct PassageSource {
  std::string collection;                    // empty: the session's own past
  const memory::Archive* archive = nullptr;  // null: own past
  std::string session;                       // own past: the session's name
  // Own past: the text of tokens begin..end.
  std::function<std::string(uint64_t token_begin, uint64_t token_end)> text;
};

// All passages of a record, best first, at most `limit` (0: all): those that words pinned by their
// scores, then those of attention alone by the order asked for. Attention is that of the answer's
// one-token steps; when there were none, that of reading. The focus layer is the one that looks
// things up, while others spread their attention over whatever resembles the text: `focus_layer`
// when it served (the retrieval profile knows it), else the one whose attention was the most
// concentrated on few of the passages (docs/decisions/057).
memory::Result<std::vector<Passage>> PassagesOf(const RecallRecord& record,
                                                const std::vector<PassageSource>& sources,
                                                size_t limit, PassageOrder order,
                                                int focus_layer = -1);

// The best places of a collection by words alone, at most `limit`, best first. No model is asked.
memory::Result<std::vector<Passage>> PassagesByWords(memory::Archive* archive,
                                                     const std::string& collection,
                                                     std::string_view words, size_t limit);

}  // namespace eidetic::sdk

#endif  // EIDETIC_SDK_PASSAGES_H_
