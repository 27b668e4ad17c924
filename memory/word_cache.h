// The word index of one collection as a file that can be made again: a pure cache (rule 1). The
// file is used when its checksum (in a file beside it) says that it is whole; what it holds is
// compared with what is wanted, lineage by lineage; whatever is missing, old or damaged is made
// again from the store.
#ifndef EIDETIC_MEMORY_WORD_CACHE_H_
#define EIDETIC_MEMORY_WORD_CACHE_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "memory/word_index.h"

namespace eidetic::memory {

// Not thread-safe. One writable cache of a path at a time, in one process; any number that are not.
class WordCache {
 public:
  // `path` names the file; its checksum is in `path`.sum. With an empty path, in RAM. One that is
  // not writable never writes: when the file lacks something it makes an index in RAM.
  WordCache(std::string path, bool writable);

  // A lineage's blocks. kNotFound: it is gone meanwhile, and is left out.
  using BlocksOf = std::function<Result<std::vector<WordBlock>>(LineageId)>;

  // The index of the `wanted` lineages, each with a tag that changes with its content. An index
  // that is not writable may hold others, too. The pointer is good until the next call. An error is
  // blocks_of's, or that there is no memory: trouble with the file leads to an index in RAM.
  Result<const WordIndex*> Holding(const std::map<LineageId, std::string>& wanted,
                                   const BlocksOf& blocks_of);
  // Forgets the index and its file, for one that turned out to be damaged.
  void Discard();
  // Whether the index is the file's.
  bool on_disk() const { return index_ != nullptr && in_file_; }

 private:
  void OpenFile();
  Status Update(const std::map<LineageId, std::string>& wanted, const BlocksOf& blocks_of);
  bool FileIsWhole() const;
  Status WriteSum() const;

  std::string path_;
  bool writable_;
  bool in_file_ = false;
  std::unique_ptr<WordIndex> index_;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_WORD_CACHE_H_
