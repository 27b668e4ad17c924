#include <omp.h>

#include <algorithm>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "kernels/vector_scan.h"
#include "memory/vector_index.h"

namespace eidetic::memory {
namespace {

// Vectors live in chunks, so that growth never copies what is there and a small index stays small
// in memory: a chunk's pages are touched as it fills.
constexpr int64_t kChunkVectors = 8192;

struct FreeBytes {
  void operator()(uint8_t* bytes) const { ::operator delete[](bytes, kAlignment); }
  static constexpr std::align_val_t kAlignment{64};  // the widest load of a scan
};

struct Chunk {
  Chunk(kernels::GroupCoding coding, int dim)
      : groups(new (FreeBytes::kAlignment)
                   uint8_t[kernels::GroupedBytes(coding, kChunkVectors, dim)]) {
    ids.reserve(kChunkVectors);
    live.reserve(kChunkVectors);
  }
  std::unique_ptr<uint8_t[], FreeBytes> groups;  // of kChunkVectors, as vector_scan.h has them
  std::vector<int64_t> ids;
  std::vector<uint8_t> live;
  int64_t dead = 0;
};

// Reads every vector in every search.
class ScanIndex : public VectorIndex {
 public:
  ScanIndex(kernels::GroupCoding coding, int dim, int threads)
      : coding_(coding), dim_(dim), threads_(threads > 0 ? threads : omp_get_max_threads()) {}

  Status Add(const uint16_t* vectors, const int64_t* ids, int64_t count) override;
  Status RemoveRange(int64_t begin, int64_t end) override;
  Status Search(const float* queries, int64_t query_count, int k, int64_t* ids,
                float* scores) const override;
  int64_t size() const override { return total_ - dead_; }
  uint64_t bytes() const override {
    return kernels::GroupedBytes(coding_, total_, dim_) +
           static_cast<uint64_t>(total_) * (sizeof(int64_t) + sizeof(uint8_t));
  }

 private:
  void Append(const uint16_t* vectors, const int64_t* ids, int64_t count);
  void DropDead();

  kernels::GroupCoding coding_;
  int dim_;
  int threads_;
  std::vector<Chunk> chunks_;  // all but the last are full
  int64_t total_ = 0;          // vectors held, dead ones too
  int64_t dead_ = 0;
};

void ScanIndex::Append(const uint16_t* vectors, const int64_t* ids, int64_t count) {
  for (int64_t done = 0; done < count;) {
    if (chunks_.empty() || static_cast<int64_t>(chunks_.back().ids.size()) == kChunkVectors) {
      chunks_.emplace_back(coding_, dim_);
    }
    Chunk& chunk = chunks_.back();
    const int64_t held = static_cast<int64_t>(chunk.ids.size());
    const int64_t now = std::min(kChunkVectors - held, count - done);
    // Within what was reserved: cannot fail halfway.
    kernels::PutIntoGroups(coding_, vectors + done * dim_, now, dim_, held, chunk.groups.get());
    chunk.ids.insert(chunk.ids.end(), ids + done, ids + done + now);
    chunk.live.insert(chunk.live.end(), static_cast<size_t>(now), uint8_t{1});
    total_ += now;
    done += now;
  }
}

Status ScanIndex::Add(const uint16_t* vectors, const int64_t* ids, int64_t count) {
  EID_RETURN_IF_ERROR(CheckVectors(vectors, ids, count, dim_));
  const int64_t before = total_;
  try {
    Append(vectors, ids, count);
  } catch (const std::bad_alloc&) {
    while (total_ > before) {
      Chunk& last = chunks_.back();
      const int64_t in_last = static_cast<int64_t>(last.ids.size());
      const int64_t cut = std::min(in_last, total_ - before);
      last.ids.resize(static_cast<size_t>(in_last - cut));
      last.live.resize(static_cast<size_t>(in_last - cut));
      total_ -= cut;
      if (last.ids.empty()) chunks_.pop_back();
    }
    return Status(Code::kOutOfMemory,
                  "no memory for " + std::to_string(count) + " more vectors beside the " +
                      std::to_string(before) + " in the index",
                  "Free memory, or search a smaller collection.");
  }
  return Status();
}

Status ScanIndex::RemoveRange(int64_t begin, int64_t end) {
  for (Chunk& chunk : chunks_) {
    for (size_t i = 0; i < chunk.ids.size(); ++i) {
      if (chunk.live[i] != 0 && chunk.ids[i] >= begin && chunk.ids[i] < end) {
        chunk.live[i] = 0;
        ++chunk.dead;
        ++dead_;
      }
    }
  }
  // Dead vectors cost search time; dropping them costs a copy, so it waits until they are half.
  if (dead_ > 0 && dead_ * 2 >= total_) DropDead();
  return Status();
}

// Moves live vectors forward over dead ones, in place: needs no memory.
void ScanIndex::DropDead() {
  int64_t kept = 0;
  for (Chunk& from : chunks_) {
    for (size_t i = 0; i < from.ids.size(); ++i) {
      if (from.live[i] == 0) continue;
      Chunk& to = chunks_[static_cast<size_t>(kept / kChunkVectors)];
      const int64_t at = kept % kChunkVectors;
      kernels::CopyBetweenGroups(coding_, dim_, from.groups.get(), static_cast<int64_t>(i),
                                 to.groups.get(), at);
      to.ids[static_cast<size_t>(at)] = from.ids[i];
      to.live[static_cast<size_t>(at)] = 1;
      ++kept;
    }
  }
  const size_t needed = static_cast<size_t>((kept + kChunkVectors - 1) / kChunkVectors);
  while (chunks_.size() > needed) chunks_.pop_back();
  for (Chunk& chunk : chunks_) chunk.dead = 0;
  if (!chunks_.empty()) {
    const int64_t last = kept - (static_cast<int64_t>(chunks_.size()) - 1) * kChunkVectors;
    chunks_.back().ids.resize(static_cast<size_t>(last));
    chunks_.back().live.resize(static_cast<size_t>(last));
  }
  total_ = kept;
  dead_ = 0;
}

Status ScanIndex::Search(const float* queries, int64_t query_count, int k, int64_t* ids,
                         float* scores) const {
  EID_RETURN_IF_ERROR(CheckSearch(query_count, k));
  std::vector<kernels::VectorRun> runs;
  runs.reserve(chunks_.size());
  for (const Chunk& chunk : chunks_) {
    runs.push_back({chunk.groups.get(), chunk.dead > 0 ? chunk.live.data() : nullptr,
                    static_cast<int64_t>(chunk.ids.size())});
  }
  kernels::TopKInnerProducts(coding_, queries, static_cast<int>(query_count), dim_, runs.data(),
                             static_cast<int>(runs.size()), k, threads_, ids, scores);
  for (int64_t i = 0; i < query_count * k; ++i) {
    if (ids[i] < 0) continue;
    ids[i] = chunks_[static_cast<size_t>(ids[i] / kChunkVectors)]
                 .ids[static_cast<size_t>(ids[i] % kChunkVectors)];
  }
  return Status();
}

}  // namespace

Status CheckVectors(const uint16_t* vectors, const int64_t* ids, int64_t count, int dim) {
  for (int64_t i = 0; i < count; ++i) {
    if (ids[i] < 0) {
      return Status(Code::kInvalidArgument, "vector " + std::to_string(i) + " has the id " +
                                                std::to_string(ids[i]) +
                                                "; ids of an index are not negative");
    }
    const uint16_t* vector = vectors + i * dim;
    int not_finite = 0;
    for (int d = 0; d < dim; ++d) not_finite |= (vector[d] & 0x7c00) == 0x7c00;
    if (not_finite != 0) {
      return Status(Code::kInvalidArgument, "the vector with the id " + std::to_string(ids[i]) +
                                                " has a number that is not finite");
    }
  }
  return Status();
}

Status CheckSearch(int64_t query_count, int k) {
  if (query_count < 0 || query_count > std::numeric_limits<int>::max() || k < 1) {
    return Status(Code::kInvalidArgument, "a search for the " + std::to_string(k) + " best of " +
                                              std::to_string(query_count) +
                                              " queries; k is 1 or more");
  }
  return Status();
}

std::unique_ptr<VectorIndex> NewVectorIndex(IndexKind kind, int dim, int threads) {
  switch (kind) {
    case IndexKind::kFaiss:
      return NewFaissIndex(dim);
    case IndexKind::kExact:
      return std::make_unique<ScanIndex>(kernels::GroupCoding::kHalf, dim, threads);
    case IndexKind::kInt8:
      break;
  }
  return std::make_unique<ScanIndex>(kernels::GroupCoding::kInt8, dim, threads);
}

}  // namespace eidetic::memory
