#include <faiss/IndexFlat.h>
#include <faiss/MetaIndexes.h>
#include <faiss/impl/IDSelector.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "kernels/block_codec.h"
#include "memory/vector_index.h"

namespace eidetic::memory {
namespace {

class FaissIndex : public VectorIndex {
 public:
  explicit FaissIndex(int dim) : dim_(dim), flat_(dim), by_id_(&flat_) {}

  Status Add(const uint16_t* vectors, const int64_t* ids, int64_t count) override;
  Status RemoveRange(int64_t begin, int64_t end) override;
  Status Search(const float* queries, int64_t query_count, int k, int64_t* ids,
                float* scores) const override;
  int64_t size() const override { return by_id_.ntotal; }
  uint64_t bytes() const override {
    return static_cast<uint64_t>(by_id_.ntotal) *
           (sizeof(float) * static_cast<uint64_t>(dim_) + sizeof(int64_t));
  }

 private:
  int dim_;
  faiss::IndexFlatIP flat_;
  faiss::IndexIDMap by_id_;  // looks at flat_, does not own it
};

// FAISS reports by exceptions; they stop here.
template <typename Work>
Status Guarded(const char* doing, Work work) {
  try {
    work();
    return Status();
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory, std::string("FAISS ran out of memory while ") + doing,
                  "Free memory, or use the exact index: it needs half of it.");
  } catch (const std::exception& error) {
    return Status(Code::kInternal,
                  std::string("FAISS failed while ") + doing + ": " + error.what());
  }
}

Status FaissIndex::Add(const uint16_t* vectors, const int64_t* ids, int64_t count) {
  EID_RETURN_IF_ERROR(CheckVectors(vectors, ids, count, dim_));
  if (count == 0) return Status();
  return Guarded("adding vectors", [&] {
    std::vector<float> widened(static_cast<size_t>(count) * static_cast<size_t>(dim_));
    kernels::HalfToFloat(vectors, widened.size(), widened.data());
    const std::vector<faiss::Index::idx_t> keys(ids, ids + count);
    by_id_.add_with_ids(count, widened.data(), keys.data());
  });
}

Status FaissIndex::RemoveRange(int64_t begin, int64_t end) {
  if (begin >= end || by_id_.ntotal == 0) return Status();
  return Guarded("removing vectors", [&] {
    const faiss::IDSelectorRange range(begin, end);
    by_id_.remove_ids(range);
  });
}

Status FaissIndex::Search(const float* queries, int64_t query_count, int k, int64_t* ids,
                          float* scores) const {
  EID_RETURN_IF_ERROR(CheckSearch(query_count, k));
  constexpr float kNoScore = -std::numeric_limits<float>::infinity();
  const size_t places = static_cast<size_t>(query_count) * static_cast<size_t>(k);
  std::fill_n(ids, places, int64_t{-1});
  std::fill_n(scores, places, kNoScore);
  if (by_id_.ntotal == 0 || query_count == 0) return Status();
  // FAISS has no well-defined filler when there are fewer than k; ask for what there is.
  const int64_t found = std::min<int64_t>(k, by_id_.ntotal);
  return Guarded("searching", [&] {
    const size_t results = static_cast<size_t>(query_count * found);
    std::vector<float> distances(results);
    std::vector<faiss::Index::idx_t> labels(results);
    by_id_.search(query_count, queries, found, distances.data(), labels.data());
    std::vector<std::pair<float, int64_t>> row;
    for (int64_t q = 0; q < query_count; ++q) {
      row.clear();
      for (int64_t i = q * found; i < (q + 1) * found; ++i) {
        if (labels[i] >= 0) row.emplace_back(-distances[i], labels[i]);
      }
      std::sort(row.begin(), row.end());  // equal scores by id, whatever FAISS's heap did
      for (size_t i = 0; i < row.size(); ++i) {
        ids[static_cast<size_t>(q) * k + i] = row[i].second;
        scores[static_cast<size_t>(q) * k + i] = -row[i].first;
      }
    }
  });
}

}  // namespace

std::unique_ptr<VectorIndex> NewFaissIndex(int dim) {
  return std::make_unique<FaissIndex>(dim);
}

}  // namespace eidetic::memory
