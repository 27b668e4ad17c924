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
  // The k best of each query, best first; equal scores in order of insertion (exact, int8) or of
  // id (FAISS). queries [query_count, dim] fp32; ids and scores [query_count, k]; missing ones are
  // -1 and -inf. kInvalidArgument when k < 1.
  virtual Status Search(const float* queries, int64_t query_count, int k, int64_t* ids,
                        float* scores) const = 0;
  virtual int64_t size() const = 0;    // vectors that a search can find
  virtual uint64_t bytes() const = 0;  // held in memory
};

enum class IndexKind {
  kInt8,   // every search reads all vectors, rounded to int8, with queries rounded likewise: the
           // default. Scores are off by at most what kernels/vector_scan.h says.
  kExact,  // every search reads all vectors as they were given, in fp16
  kFaiss,  // faiss::IndexFlatIP behind an id map, in fp32
};

// `threads` per search, 0: all cores; FAISS has its own.
std::unique_ptr<VectorIndex> NewVectorIndex(IndexKind kind, int dim, int threads);
std::unique_ptr<VectorIndex> NewFaissIndex(int dim);

// What every kind checks before it adds and before it searches.
Status CheckVectors(const uint16_t* vectors, const int64_t* ids, int64_t count, int dim);
Status CheckSearch(int64_t query_count, int k);

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_VECTOR_INDEX_H_
