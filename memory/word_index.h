// A full-text index over the text of blocks: where stored text speaks of the words of a question.
// Ranking is BM25 over stemmed words (FTS5 of SQLite; docs/decisions/061).
//
// What is indexed are *places*: kPlaceBlocks blocks of one lineage that stand next to each other,
// one place beginning at every block, so that a place is scored by just the text that is recalled
// with it. A lineage shorter than that is one place.
#ifndef EIDETIC_MEMORY_WORD_INDEX_H_
#define EIDETIC_MEMORY_WORD_INDEX_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "memory/block.h"
#include "memory/status.h"

namespace eidetic::memory {

inline constexpr int kPlaceBlocks = 3;  // a block and its neighbours

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
  Status AddLineage(LineageId lineage, const std::string& tag,
                    const std::vector<WordBlock>& blocks);
  // One more block of a lineage that grows. The newest block can be found once the lineage has
  // kPlaceBlocks. Not to be mixed with AddLineage.
  Status Append(LineageId lineage, const WordBlock& block);
  // Takes lineages out; nothing of their text stays in the file. Those that are not here are no
  // error.
  Status RemoveLineages(const std::vector<LineageId>& lineages);
  // The lineages of AddLineage with their tags.
  Result<std::map<LineageId, std::string>> Lineages() const;

  // At most `limit` places, best first, that share no block; ties in the order of lineage and
  // position. `admits` (may be empty) says which lineages count. Any bytes may stand in `text`.
  Result<std::vector<WordHit>> Search(std::string_view text, size_t limit,
                                      const std::function<bool(LineageId)>& admits) const;

 private:
  struct Database;
  explicit WordIndex(std::unique_ptr<Database> database);
  Status AddPlace(LineageId lineage, const WordBlock* blocks, size_t count);
  std::unique_ptr<Database> database_;
  std::map<LineageId, std::vector<WordBlock>> growing_;  // last blocks of each lineage of Append
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_WORD_INDEX_H_
