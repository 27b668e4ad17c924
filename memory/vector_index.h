// The seam to nearest-neighbour search by inner product. An index is a cache: the store rebuilds it
// (rule 1). One contract test covers every kind.
#ifndef EIDETIC_MEMORY_VECTOR_INDEX_H_
#define EIDETIC_MEMORY_VECTOR_INDEX_H_

#include <cstdint>
#include <memory>

#include "memory/status.h"

namespace eidetic::memory {

// Searches may run at the same time as each other, not as Add or Remove.
class VectorIndex {
 public:
  virtual ~VectorIndex() = default;
  // vectors [count, dim] fp16 bits, ids [count]: unique (not checked), not negative. All or
  // nothing: kInvalidArgument (a negative id, a number that is not finite), kOutOfMemory.
  virtual Status Add(const uint16_t* vectors, const int64_t* ids, int64_t count) = 0;
  // Removes begin <= id < end; ids that are not there are no error.
  virtual Status RemoveRange(int64_t begin, int64_t end) = 0;
  // The k best of each query, best first; equal scores in order of insertion (exact) or of id
  // (FAISS). queries [query_count, dim] fp32; ids and scores [query_count, k]; missing ones are -1
  // and -inf. kInvalidArgument when k < 1.
  virtual Status Search(const float* queries, int64_t query_count, int k, int64_t* ids,
                        float* scores) const = 0;
  virtual int64_t size() const = 0;    // vectors that a search can find
  virtual uint64_t bytes() const = 0;  // held in memory
};

enum class IndexKind { kExact, kFaiss };

// Brute force over fp16 (kernels/key_score.h): the default. `threads` per search, 0: all cores.
std::unique_ptr<VectorIndex> NewExactIndex(int dim, int threads);
// faiss::IndexFlatIP behind an id map, in fp32.
std::unique_ptr<VectorIndex> NewFaissIndex(int dim);
std::unique_ptr<VectorIndex> NewVectorIndex(IndexKind kind, int dim, int threads);

// What every kind checks before it adds and before it searches.
Status CheckVectors(const uint16_t* vectors, const int64_t* ids, int64_t count, int dim);
Status CheckSearch(int64_t query_count, int k);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_VECTOR_INDEX_H_
