#include "memory/retriever.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <unordered_set>

#include "kernels/key_score.h"

namespace eidetic::memory {
namespace {

// Multiply-adds that pay for waking one more thread.
constexpr double kWorkPerThread = 500e3;
// Beyond this an inner product with fp16 keys could overflow.
constexpr float kLargestQuery = 1e30f;
// Queries whose masses are summed in one piece; pieces are then added in order, so that the sums do
// not depend on the threads.
constexpr int kQueriesPerPiece = 64;

// One block as a stage sees it.
struct Ranked {
  int source = 0;
  const IndexedBlock* block = nullptr;
  double mass = 0;
  double lingering = 0;
  double bringer_weight = 0;
  double weight() const { return std::max(mass, lingering); }
};

auto Place(const Ranked& ranked) {
  return std::make_tuple(ranked.source, ranked.block->lineage, ranked.block->position);
}

bool HeavierFirst(const Ranked& a, const Ranked& b) {
  return a.weight() != b.weight() ? a.weight() > b.weight() : Place(a) < Place(b);
}

bool OldestFirst(const Ranked& a, const Ranked& b) {
  return Place(a) < Place(b);
}

void KeepHeaviest(size_t count, std::vector<Ranked>* blocks) {
  count = std::min(count, blocks->size());
  std::partial_sort(blocks->begin(), blocks->begin() + static_cast<std::ptrdiff_t>(count),
                    blocks->end(), HeavierFirst);
  blocks->resize(count);
}

// One call of ChooseBlocks: the request, checked, and the two stages.
class Choice {
 public:
  Choice(const std::vector<RetrievalSource>& sources, const RetrievalOptions& options,
         const LayerQueries& queries)
      : sources_(sources), options_(options), queries_(queries) {}

  Status Check();
  // Blocks in all sources.
  int64_t total() const { return total_; }
  std::vector<Ranked> AllBlocks() const;
  // Stage 1: every block with a vote, with its mass.
  Status Vote(std::vector<Ranked>* voted) const;
  // Stage 2: replaces the masses by those of the real keys.
  Status Rescore(std::vector<Ranked>* blocks) const;

 private:
  Status CheckOptions() const;
  Status CheckSources();
  Status CheckQueries() const;
  void SplitByHead();
  const Layout& layout() const { return sources_.front().index->layout(); }
  int query_count() const { return queries_.tokens * queries_.heads; }
  int queries_per_head() const { return query_count() / layout().kv_heads; }
  const float* HeadQueries(int kv_head) const {
    return by_head_.data() + static_cast<size_t>(kv_head) * queries_per_head() * layout().head_dim;
  }
  Status ReadKeys(const std::vector<Ranked>& blocks, std::vector<PayloadPtr>* payloads) const;
  Status CheckPayload(const Ranked& ranked, const Payload& payload) const;
  void ScoreKeys(const std::vector<PayloadPtr>& payloads, std::vector<float>* maxima,
                 std::vector<float>* sums) const;
  int Threads(double work, int parts) const;

  const std::vector<RetrievalSource>& sources_;
  const RetrievalOptions& options_;
  const LayerQueries& queries_;
  std::vector<int> layer_indexes_;  // of the layer in each source
  std::vector<float> by_head_;      // the queries as [kv_heads, tokens * group, head_dim]
  int64_t total_ = 0;
};

Status Invalid(std::string message, std::string remedy = {}) {
  return Status(Code::kInvalidArgument, std::move(message), std::move(remedy));
}

Status Choice::Check() {
  EID_RETURN_IF_ERROR(CheckOptions());
  EID_RETURN_IF_ERROR(CheckSources());
  if (total_ == 0) return Status();
  EID_RETURN_IF_ERROR(CheckQueries());
  SplitByHead();
  return Status();
}

Status Choice::CheckOptions() const {
  if (options_.k < 1) return Invalid("a span of " + std::to_string(options_.k) + " blocks; k >= 1");
  if (options_.candidates < 0) {
    return Invalid(std::to_string(options_.candidates) + " candidate blocks; 0 or more");
  }
  if (options_.successors < 0) {
    return Invalid(std::to_string(options_.successors) + " successors; 0 or more");
  }
  if (!(options_.linger >= 0 && options_.linger <= 1)) {
    return Invalid("a lingering part of " + std::to_string(options_.linger) + "; 0 to 1");
  }
  if (options_.votes < 1)
    return Invalid(std::to_string(options_.votes) + " votes a query; 1 or more");
  if (!(options_.scale > 0) || !std::isfinite(options_.scale)) {
    return Invalid("a retrieval scale of " + std::to_string(options_.scale),
                   "Set the model's attention scale, such as 1 / sqrt(head size).");
  }
  return Status();
}

Status Choice::CheckSources() {
  layer_indexes_.clear();
  total_ = 0;
  for (size_t i = 0; i < sources_.size(); ++i) {
    const RetrievalSource& source = sources_[i];
    if (source.index == nullptr || source.store == nullptr) {
      return Invalid("retrieval source " + std::to_string(i) + " has no index or no store");
    }
    const Layout& its = source.index->layout();
    if (its.fingerprint != layout().fingerprint) {
      return Status(Code::kFingerprintMismatch,
                    "retrieval source " + std::to_string(i) + " is of the model " +
                        its.fingerprint + ", source 0 of " + layout().fingerprint,
                    "Attach only collections made with the session's model.");
    }
    if (its.kv_heads != layout().kv_heads || its.head_dim != layout().head_dim) {
      return Invalid("retrieval source " + std::to_string(i) + " has " +
                     std::to_string(its.kv_heads) + " kv heads of " + std::to_string(its.head_dim) +
                     ", source 0 has " + std::to_string(layout().kv_heads) + " of " +
                     std::to_string(layout().head_dim));
    }
    const int at = its.LayerIndex(queries_.layer);
    if (at < 0) {
      return Invalid("layer " + std::to_string(queries_.layer) +
                         " is not stored in retrieval source " + std::to_string(i),
                     "Take it out of the span layers, or ingest again with this layer stored.");
    }
    layer_indexes_.push_back(at);
    total_ += source.index->size();
  }
  return Status();
}

Status Choice::CheckQueries() const {
  const int kv_heads = layout().kv_heads;
  if (queries_.tokens < 1 || queries_.heads < 1 || queries_.heads % kv_heads != 0 ||
      queries_.data == nullptr) {
    return Invalid("queries of " + std::to_string(queries_.tokens) + " tokens and " +
                   std::to_string(queries_.heads) + " heads against " + std::to_string(kv_heads) +
                   " kv heads: there must be a token, and heads a multiple of kv heads");
  }
  const size_t dim = static_cast<size_t>(layout().head_dim);
  for (int row = 0; row < query_count(); ++row) {
    const float* query = queries_.data + static_cast<size_t>(row) * dim;
    bool good = true;
    for (size_t d = 0; d < dim; ++d) good &= std::fabs(query[d]) <= kLargestQuery;  // not NaN
    if (!good) {
      return Invalid("the query of token " + std::to_string(row / queries_.heads) + ", head " +
                     std::to_string(row % queries_.heads) + " in layer " +
                     std::to_string(queries_.layer) + " is not finite, or is beyond 1e30");
    }
  }
  return Status();
}

// Gathers the query heads of each kv head: both stages work through one kv head at a time.
void Choice::SplitByHead() {
  const int kv_heads = layout().kv_heads;
  const int group = queries_.heads / kv_heads;
  const size_t dim = static_cast<size_t>(layout().head_dim);
  const size_t run = static_cast<size_t>(group) * dim;
  by_head_.resize(static_cast<size_t>(query_count()) * dim);
  for (int token = 0; token < queries_.tokens; ++token) {
    for (int kv_head = 0; kv_head < kv_heads; ++kv_head) {
      const float* from = queries_.data + (static_cast<size_t>(token) * kv_heads + kv_head) * run;
      std::copy_n(
          from, run,
          by_head_.begin() + static_cast<std::ptrdiff_t>(
                                 (static_cast<size_t>(kv_head) * queries_.tokens + token) * run));
    }
  }
}

int Choice::Threads(double work, int parts) const {
  const int allowed = options_.threads > 0 ? options_.threads : omp_get_max_threads();
  const int worth = static_cast<int>(std::min(work / kWorkPerThread, 1024.0));
  return std::max(1, std::min({allowed, worth, parts}));
}

std::vector<Ranked> Choice::AllBlocks() const {
  std::vector<Ranked> all;
  all.reserve(static_cast<size_t>(total_));
  for (size_t s = 0; s < sources_.size(); ++s) {
    for (const int64_t ordinal : sources_[s].index->live()) {
      all.push_back({static_cast<int>(s), &sources_[s].index->block(ordinal), 0});
    }
  }
  return all;
}

struct VoteFor {
  float score;
  int source;
  int64_t ordinal;
};

// What one vote gives to a block.
struct Weight {
  int source;
  int64_t ordinal;
  double mass;
};

Status Choice::Vote(std::vector<Ranked>* voted) const {
  const int count = queries_per_head();
  const size_t votes = static_cast<size_t>(options_.votes);
  const size_t places = static_cast<size_t>(count) * votes;
  std::vector<std::vector<int64_t>> ordinals(sources_.size(), std::vector<int64_t>(places));
  std::vector<std::vector<float>> scores(sources_.size(), std::vector<float>(places));
  std::vector<Weight> given;
  given.reserve(static_cast<size_t>(query_count()) * votes);
  std::vector<VoteFor> best;
  std::vector<double> weights(votes);
  for (int kv_head = 0; kv_head < layout().kv_heads; ++kv_head) {
    for (size_t s = 0; s < sources_.size(); ++s) {
      EID_RETURN_IF_ERROR(sources_[s].index->Search(layer_indexes_[s], kv_head,
                                                    HeadQueries(kv_head), count, options_.votes,
                                                    ordinals[s].data(), scores[s].data()));
    }
    for (int q = 0; q < count; ++q) {
      best.clear();
      for (size_t s = 0; s < sources_.size(); ++s) {
        for (size_t i = q * votes; i < (q + 1) * votes && ordinals[s][i] >= 0; ++i) {
          best.push_back({scores[s][i], static_cast<int>(s), ordinals[s][i]});
        }
      }
      // Each source's votes come best first, so this keeps the order of equals: source, then row.
      std::stable_sort(best.begin(), best.end(),
                       [](const VoteFor& a, const VoteFor& b) { return a.score > b.score; });
      if (best.size() > votes) best.resize(votes);
      double sum = 0;
      for (size_t i = 0; i < best.size(); ++i) {
        weights[i] = std::exp(static_cast<double>(options_.scale) *
                              (static_cast<double>(best[i].score) - best[0].score));
        sum += weights[i];
      }
      for (size_t i = 0; i < best.size(); ++i) {
        given.push_back({best[i].source, best[i].ordinal, weights[i] / sum});
      }
    }
  }
  // Stable, so that each block's masses are added in the order of the votes.
  std::stable_sort(given.begin(), given.end(), [](const Weight& a, const Weight& b) {
    return a.source != b.source ? a.source < b.source : a.ordinal < b.ordinal;
  });
  voted->clear();
  for (size_t i = 0; i < given.size();) {
    const Weight& first = given[i];
    double mass = 0;
    for (; i < given.size() && given[i].source == first.source && given[i].ordinal == first.ordinal;
         ++i) {
      mass += given[i].mass;
    }
    const RepresentativeIndex& index = *sources_[static_cast<size_t>(first.source)].index;
    voted->push_back({first.source, &index.block(first.ordinal), mass / query_count()});
  }
  return Status();
}

// A payload that passed the store's checksum and still is not what the index says is damage too.
Status Choice::CheckPayload(const Ranked& ranked, const Payload& payload) const {
  const Layout& its = sources_[static_cast<size_t>(ranked.source)].index->layout();
  if (payload.tokens == ranked.block->tokens &&
      payload.bytes.size() ==
          kernels::PayloadBytes(payload.codec, payload.tokens, its.kv_heads, its.head_dim)) {
    return Status();
  }
  return Status(Code::kCorruption,
                "the keys of block " + std::to_string(ranked.block->id) + " (lineage " +
                    std::to_string(ranked.block->lineage) + ", position " +
                    std::to_string(ranked.block->position) + ") in layer " +
                    std::to_string(queries_.layer) + " are " + std::to_string(payload.tokens) +
                    " tokens in " + std::to_string(payload.bytes.size()) +
                    " bytes; the index has " + std::to_string(ranked.block->tokens) + " tokens",
                "Run `eidetic memory verify`, and ingest the document again.");
}

// `blocks` are sorted by source.
Status Choice::ReadKeys(const std::vector<Ranked>& blocks,
                        std::vector<PayloadPtr>* payloads) const {
  payloads->clear();
  payloads->reserve(blocks.size());
  std::vector<PayloadKey> keys;
  std::vector<PayloadPtr> read;
  for (size_t begin = 0; begin < blocks.size();) {
    size_t end = begin;
    keys.clear();
    for (; end < blocks.size() && blocks[end].source == blocks[begin].source; ++end) {
      keys.push_back(
          {blocks[end].block->lineage, queries_.layer, Part::kKeys, blocks[end].block->position});
    }
    const BlockStore& store = *sources_[static_cast<size_t>(blocks[begin].source)].store;
    EID_RETURN_IF_ERROR(store.ReadPayloads(keys, &read));
    for (size_t i = begin; i < end; ++i) {
      EID_RETURN_IF_ERROR(CheckPayload(blocks[i], *read[i - begin]));
      payloads->push_back(read[i - begin]);
    }
    begin = end;
  }
  return Status();
}

// maxima and sums [blocks, kv_heads, queries per head]: each block's part in every query's softmax.
void Choice::ScoreKeys(const std::vector<PayloadPtr>& payloads, std::vector<float>* maxima,
                       std::vector<float>* sums) const {
  const int kv_heads = layout().kv_heads;
  const int dim = layout().head_dim;
  const int count = queries_per_head();
  const int blocks = static_cast<int>(payloads.size());
  const size_t stride = static_cast<size_t>(query_count());
  maxima->resize(payloads.size() * stride);
  sums->resize(payloads.size() * stride);
  const double work = static_cast<double>(blocks) * layout().block_tokens * dim * query_count();
  const int threads = Threads(work, blocks);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int b = 0; b < blocks; ++b) {
    const Payload& payload = *payloads[static_cast<size_t>(b)];
    // A block's keys lie anywhere in memory, and a model that decodes has driven them out of the
    // caches since the last choice.
    const Payload* next = b + 1 < blocks ? payloads[static_cast<size_t>(b) + 1].get() : nullptr;
    const bool prefetch = next != nullptr && next->bytes.size() == payload.bytes.size();
    for (int kv_head = 0; kv_head < kv_heads; ++kv_head) {
      const size_t at = static_cast<size_t>(b) * stride + static_cast<size_t>(kv_head) * count;
      kernels::PayloadSoftmax(
          HeadQueries(kv_head), count, payload.codec,
          reinterpret_cast<const uint8_t*>(payload.bytes.data()), payload.tokens, kv_heads, dim,
          kv_head, options_.scale, maxima->data() + at, sums->data() + at,
          kernels::BestInstructionSet(),
          prefetch ? reinterpret_cast<const uint8_t*>(next->bytes.data()) : nullptr);
    }
  }
}

// Adds to masses [blocks] the softmax masses of queries first .. first + count; leaves in `sums`
// what each block has of them.
void SumMasses(const std::vector<float>& maxima, std::vector<float>* sums, size_t stride,
               size_t blocks, size_t first, size_t count, double* masses) {
  float top[kQueriesPerPiece];
  double whole[kQueriesPerPiece] = {};
  std::fill_n(top, count, -std::numeric_limits<float>::infinity());
  for (size_t b = 0; b < blocks; ++b) {
    const float* row = maxima.data() + b * stride + first;
    for (size_t q = 0; q < count; ++q) top[q] = std::max(top[q], row[q]);
  }
  for (size_t b = 0; b < blocks; ++b) {
    const float* largest = maxima.data() + b * stride + first;
    float* parts = sums->data() + b * stride + first;
    for (size_t q = 0; q < count; ++q) {
      parts[q] *= std::exp(largest[q] - top[q]);
      whole[q] += parts[q];
    }
  }
  for (size_t b = 0; b < blocks; ++b) {
    const float* parts = sums->data() + b * stride + first;
    for (size_t q = 0; q < count; ++q) masses[b] += parts[q] / whole[q];
  }
}

Status Choice::Rescore(std::vector<Ranked>* blocks) const {
  std::sort(blocks->begin(), blocks->end(), OldestFirst);  // as on disk: one pass over the store
  std::vector<PayloadPtr> payloads;
  EID_RETURN_IF_ERROR(ReadKeys(*blocks, &payloads));
  std::vector<float> maxima, sums;
  ScoreKeys(payloads, &maxima, &sums);

  const size_t count = blocks->size();
  const size_t queries = static_cast<size_t>(query_count());
  const int pieces = (query_count() + kQueriesPerPiece - 1) / kQueriesPerPiece;
  std::vector<double> masses(static_cast<size_t>(pieces) * count, 0.0);
  const int threads = Threads(static_cast<double>(count) * queries * 32, pieces);
#pragma omp parallel for num_threads(threads) schedule(static) if (threads > 1)
  for (int piece = 0; piece < pieces; ++piece) {
    const size_t first = static_cast<size_t>(piece) * kQueriesPerPiece;
    SumMasses(maxima, &sums, queries, count, first,
              std::min<size_t>(kQueriesPerPiece, queries - first),
              masses.data() + static_cast<size_t>(piece) * count);
  }
  for (size_t b = 0; b < count; ++b) {
    double mass = 0;
    for (int piece = 0; piece < pieces; ++piece) {
      mass += masses[static_cast<size_t>(piece) * count + b];
    }
    (*blocks)[b].mass = mass / static_cast<double>(queries);
  }
  return Status();
}

// What was chosen last competes with what still counts of its weight.
void Linger(const std::vector<RetrievalSource>& sources, double part,
            const std::vector<ChosenBlock>& last, std::vector<Ranked>* ranked) {
  for (const ChosenBlock& one : last) {
    const double lingering = part * one.weight();
    if (lingering == 0 || one.source < 0 || one.source >= static_cast<int>(sources.size()))
      continue;
    const RepresentativeIndex& index = *sources[static_cast<size_t>(one.source)].index;
    const IndexedBlock* block = index.Find(one.ordinal, one.block);
    if (block == nullptr) continue;
    const auto its = std::find_if(ranked->begin(), ranked->end(),
                                  [&](const Ranked& other) { return other.block == block; });
    if (its == ranked->end()) {
      ranked->push_back({one.source, block, 0, lingering});
    } else {
      its->lingering = lingering;
    }
  }
}

// The block that comes after one of a source in its text; no block: there is none.
Ranked AfterIt(const std::vector<RetrievalSource>& sources, const Ranked& ranked) {
  const auto s = static_cast<size_t>(ranked.source);
  const bool one_text = sources[s].is_one_text;
  Ranked next{ranked.source, sources[s].index->Successor(*ranked.block, one_text)};
  if (next.block == nullptr && one_text && s + 1 < sources.size() && sources[s + 1].is_one_text &&
      sources[s + 1].index->size() > 0) {
    const RepresentativeIndex& index = *sources[s + 1].index;
    const IndexedBlock& first = index.block(index.live().front());
    if (first.position == ranked.block->end()) next = {ranked.source + 1, &first};
  }
  return next;
}

// The k heaviest of `ranked`, of which the first `successors` bring the block after them: each with
// it, then the others, as long as there is room.
std::vector<Ranked> WithSuccessors(const std::vector<RetrievalSource>& sources,
                                   const RetrievalOptions& options, std::vector<Ranked> ranked) {
  const std::vector<Ranked> all = ranked;
  const auto room = static_cast<size_t>(options.k);
  KeepHeaviest(room, &ranked);
  std::vector<Ranked> span;
  const auto find = [](const std::vector<Ranked>& blocks, const Ranked& one) {
    return std::find_if(blocks.begin(), blocks.end(),
                        [&](const Ranked& other) { return other.block == one.block; });
  };
  const auto keep = [&](const Ranked& one) {
    if (span.size() < room && find(span, one) == span.end()) span.push_back(one);
  };
  for (size_t i = 0; i < ranked.size(); ++i) {
    keep(ranked[i]);
    if (i >= static_cast<size_t>(options.successors)) continue;
    Ranked next = AfterIt(sources, ranked[i]);
    if (next.block == nullptr) continue;
    if (const auto its = find(all, next); its != all.end()) next = *its;
    next.bringer_weight = ranked[i].weight();
    keep(next);
  }
  return span;
}

void Report(const std::vector<RetrievalSource>& sources, std::vector<Ranked>* blocks,
            std::vector<ChosenBlock>* chosen) {
  std::sort(blocks->begin(), blocks->end(), OldestFirst);
  chosen->reserve(blocks->size());
  for (const Ranked& ranked : *blocks) {
    chosen->push_back({ranked.source, *ranked.block, ranked.mass});
    chosen->back().bringer_weight = ranked.bringer_weight;
    chosen->back().lingering = ranked.lingering;
    chosen->back().ordinal =
        sources[static_cast<size_t>(ranked.source)].index->OrdinalOf(*ranked.block);
  }
}

// SplitMix64 (Steele, Lea and Flood 2014): small, seedable, the same everywhere.
uint64_t NextRandom(uint64_t* state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Uniform in 0 .. bound - 1: draws again in the uneven rest.
uint64_t RandomBelow(uint64_t bound, uint64_t* state) {
  const uint64_t uneven = (0 - bound) % bound;
  uint64_t drawn = NextRandom(state);
  while (drawn < uneven) drawn = NextRandom(state);
  return drawn % bound;
}

}  // namespace

Status ChooseBlocks(const std::vector<RetrievalSource>& sources, const RetrievalOptions& options,
                    const LayerQueries& queries, std::vector<ChosenBlock>* chosen) {
  chosen->clear();
  Choice choice(sources, options, queries);
  EID_RETURN_IF_ERROR(choice.Check());
  if (choice.total() == 0) return Status();
  const int limit = std::max(options.candidates, options.k);
  std::vector<Ranked> blocks;
  if (options.candidates == 0) {
    EID_RETURN_IF_ERROR(choice.Vote(&blocks));
  } else if (choice.total() <= limit) {
    blocks = choice.AllBlocks();
    EID_RETURN_IF_ERROR(choice.Rescore(&blocks));
  } else {
    EID_RETURN_IF_ERROR(choice.Vote(&blocks));
    KeepHeaviest(static_cast<size_t>(limit), &blocks);
    EID_RETURN_IF_ERROR(choice.Rescore(&blocks));
  }
  if (queries.last != nullptr) Linger(sources, options.linger, *queries.last, &blocks);
  blocks = WithSuccessors(sources, options, std::move(blocks));
  Report(sources, &blocks, chosen);
  return Status();
}

Status ChooseRandomBlocks(const std::vector<RetrievalSource>& sources, int k, uint64_t* random,
                          std::vector<ChosenBlock>* chosen) {
  chosen->clear();
  if (k < 1) return Invalid("a random span of " + std::to_string(k) + " blocks; k >= 1");
  uint64_t total = 0;
  for (const RetrievalSource& source : sources) {
    if (source.index == nullptr) return Invalid("a retrieval source has no index");
    total += static_cast<uint64_t>(source.index->size());
  }
  // Floyd's method: one draw a block, every set of k equally likely.
  const uint64_t count = std::min<uint64_t>(static_cast<uint64_t>(k), total);
  std::unordered_set<uint64_t> drawn;
  for (uint64_t last = total - count; last < total; ++last) {
    if (!drawn.insert(RandomBelow(last + 1, random)).second) drawn.insert(last);
  }
  std::vector<Ranked> blocks;
  for (uint64_t place : drawn) {
    size_t s = 0;
    while (place >= static_cast<uint64_t>(sources[s].index->size())) {
      place -= static_cast<uint64_t>(sources[s++].index->size());
    }
    const RepresentativeIndex& index = *sources[s].index;
    blocks.push_back({static_cast<int>(s), &index.block(index.live()[place]), 0});
  }
  Report(sources, &blocks, chosen);
  return Status();
}

}  // namespace eidetic::memory
