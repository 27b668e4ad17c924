// A full-text index over the text of blocks: where stored text speaks of the words of a question.
// Words are found by FTS5 of SQLite, stemmed; ranking is BM25 over places (docs/decisions/061).
//
// A *place* is a block with up to two neighbours on either side. What a block counts for a word is
// 1 when it holds it, and less for holders near by (word_index.cc: kNearness), so that words which
// stand together, and not all in one block, find each other.
#ifndef EIDETIC_MEMORY_WORD_INDEX_H_
#define EIDETIC_MEMORY_WORD_INDEX_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "memory/block.h"
#include "memory/status.h"

namespace eidetic::memory {

inline constexpr int kPlaceNeighbours = 2;  // on either side
inline constexpr int kMostPlaceBlocks = 2 * kPlaceNeighbours + 1;

// One block's text. Blocks without text (sinks) are no part of any place.
struct WordBlock {
  uint64_t position = 0;  // of its first token
  int tokens = 0;
  std::string text;
};

// A place that holds words of the query: tokens position..position + tokens of its lineage.
struct WordHit {
  LineageId lineage = 0;
  uint64_t position = 0;
  int tokens = 0;
  double score = 0;  // BM25, above 0; comparable within one search
};

// Not thread-safe. Errors: kCorruption when the file is no index of this version or SQLite finds it
// damaged, kNoSpace, kIoError; after one the index may lack what was being written.
class WordIndex {
 public:
  // At `path`, made there when there is nothing; with an empty path in RAM. A file is written
  // without syncs and without a journal on disk: a crash while it is being written damages it.
  static Result<std::unique_ptr<WordIndex>> Open(const std::string& path, bool read_only);
  ~WordIndex();
  WordIndex(const WordIndex&) = delete;
  WordIndex& operator=(const WordIndex&) = delete;

  // A lineage's blocks, in the order of their positions. `tag` says what is indexed, for
  // Lineages(). All or nothing. kAlreadyExists when the lineage is here.
  Status AddLineage(LineageId lineage, const std::string& tag, std::vector<WordBlock> blocks);
  // One more block of the one lineage that grows, in an index of nothing else. A block can be found
  // once the next one is here, since a word may go on there.
  Status Append(LineageId lineage, WordBlock block);
  // Takes lineages out; nothing of their text stays in the file. Those that are not here are no
  // error.
  Status RemoveLineages(const std::vector<LineageId>& lineages);
  // The lineages of AddLineage with their tags.
  Result<std::map<LineageId, std::string>> Lineages() const;

  // At most `limit` places, best first, that share no block; ties in the order of lineage and
  // position, so that an index made anew gives the same. `admits` (may be empty) says which
  // lineages count. Any bytes may stand in `text`.
  Result<std::vector<WordHit>> Search(std::string_view text, size_t limit,
                                      const std::function<bool(LineageId)>& admits) const;

 private:
  struct Database;
  explicit WordIndex(std::unique_ptr<Database> database);
  struct Extent;
  class Extents;
  struct Score {
    double value = 0;
    bool in_place = false;  // a word of the query is in the place around the block
  };
  using Scores = std::unordered_map<uint64_t, Score>;  // by a block's id
  // Adds a block's row; `id` becomes its row's.
  Status AddBlock(const WordBlock& block, uint64_t* id);
  Result<Extents> ReadExtents() const;
  // Adds what one word of the query is worth at each block.
  Status AddScores(const std::string& word, const Extents& extents, Scores* scores) const;
  Result<WordHit> HitAround(const Extent& extent, uint64_t id, double score) const;
  std::unique_ptr<Database> database_;
  std::optional<WordBlock> newest_;  // the last one of Append, not in the tables yet
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_WORD_INDEX_H_
