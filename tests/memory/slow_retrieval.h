// The formulas of retriever.h written out slowly in double precision: what the retriever is tested
// against, and what its bench checks before it times anything.
#ifndef EIDETIC_TESTS_MEMORY_SLOW_RETRIEVAL_H_
#define EIDETIC_TESTS_MEMORY_SLOW_RETRIEVAL_H_

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "memory/block.h"
#include "memory/retriever.h"

namespace eidetic::memory {

// What went into one block, for the slow formulas.
struct KnownBlock {
  BlockHeader header;
  std::vector<std::string> keys;  // coded, per layer
  std::vector<uint16_t> representatives;
};

// A block's name across stores.
using SlowKey = std::tuple<int, LineageId, uint64_t>;  // source, lineage, position

struct SlowSource {
  const std::vector<KnownBlock>* blocks;
  const Layout* layout;
};

inline std::vector<std::pair<SlowKey, double>> Heaviest(const std::map<SlowKey, double>& masses,
                                                        size_t count) {
  std::vector<std::pair<SlowKey, double>> all(masses.begin(), masses.end());
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (all.size() > count) all.resize(count);
  return all;
}

// Scores of one query with every representative (or, with `keys`, every key) of one kv head, as
// (score, block).
inline std::vector<std::pair<double, SlowKey>> SlowScores(const std::vector<SlowSource>& sources,
                                                          int model_layer, int kv_head,
                                                          const float* query, bool keys) {
  std::vector<std::pair<double, SlowKey>> scores;
  for (size_t s = 0; s < sources.size(); ++s) {
    const Layout& layout = *sources[s].layout;
    const size_t dim = static_cast<size_t>(layout.head_dim);
    const size_t heads = static_cast<size_t>(layout.kv_heads);
    const size_t layer = static_cast<size_t>(layout.LayerIndex(model_layer));
    for (const KnownBlock& block : *sources[s].blocks) {
      const int tokens = block.header.token_count();
      std::vector<std::vector<double>> vectors;
      if (keys) {
        std::vector<float> rows(static_cast<size_t>(tokens) * heads * dim);
        kernels::DecodeRows(layout.codec,
                            reinterpret_cast<const uint8_t*>(block.keys[layer].data()), tokens,
                            layout.kv_heads, layout.head_dim, rows.data());
        for (int t = 0; t < tokens; ++t) {
          const float* row = rows.data() + (static_cast<size_t>(t) * heads + kv_head) * dim;
          vectors.emplace_back(row, row + dim);
        }
      } else {
        const size_t count = static_cast<size_t>(layout.RepresentativeCount(tokens));
        for (size_t r = 0; r < count; ++r) {
          const uint16_t* row =
              block.representatives.data() + ((layer * heads + kv_head) * count + r) * dim;
          std::vector<double> vector;
          for (size_t d = 0; d < dim; ++d) vector.push_back(kernels::HalfToFloat(row[d]));
          vectors.push_back(vector);
        }
      }
      for (const std::vector<double>& vector : vectors) {
        double sum = 0;
        for (size_t d = 0; d < dim; ++d) sum += static_cast<double>(query[d]) * vector[d];
        scores.push_back(
            {sum, SlowKey(static_cast<int>(s), block.header.lineage, block.header.position)});
      }
    }
  }
  return scores;
}

// Adds one query's softmax over the scores, summed per block.
inline void AddSoftmax(const std::vector<std::pair<double, SlowKey>>& scores, double scale,
                       double weight, std::map<SlowKey, double>* masses) {
  double top = -1e300, sum = 0;
  for (const auto& [score, key] : scores) top = std::max(top, score);
  for (const auto& [score, key] : scores) sum += std::exp(scale * (score - top));
  for (const auto& [score, key] : scores) {
    (*masses)[key] += weight * std::exp(scale * (score - top)) / sum;
  }
}

// The heaviest blocks, each of the first `successors` followed by the one that comes after it.
inline std::map<SlowKey, double> WithSuccessors(const std::vector<SlowSource>& sources,
                                                const RetrievalOptions& options,
                                                const std::map<SlowKey, double>& masses) {
  const auto best = Heaviest(masses, static_cast<size_t>(options.k));
  std::map<SlowKey, double> span;
  const auto take = [&](const SlowKey& key) {
    const auto found = masses.find(key);
    if (span.size() < static_cast<size_t>(options.k)) {
      span.emplace(key, found == masses.end() ? 0 : found->second);
    }
  };
  for (size_t i = 0; i < best.size(); ++i) {
    const auto& [source, lineage, position] = best[i].first;
    take(best[i].first);
    if (i >= static_cast<size_t>(options.successors)) continue;
    const auto& blocks = *sources[static_cast<size_t>(source)].blocks;
    const auto is_at = [&, lineage = lineage](const KnownBlock& block, uint64_t where) {
      return block.header.lineage == lineage && block.header.position == where;
    };
    for (const KnownBlock& block : blocks) {
      if (!is_at(block, position)) continue;
      const uint64_t end = position + static_cast<uint64_t>(block.header.token_count());
      for (const KnownBlock& next : blocks) {
        if (is_at(next, end)) take({source, lineage, end});
      }
    }
  }
  return span;
}

// With what lingers of the last choice.
inline std::map<SlowKey, double> WithLast(const RetrievalOptions& options,
                                          const LayerQueries& queries,
                                          std::map<SlowKey, double> masses) {
  if (queries.last == nullptr) return masses;
  for (const ChosenBlock& one : *queries.last) {
    if (options.linger * one.weight() == 0) continue;
    double& mass = masses[{one.source, one.block.lineage, one.block.position}];
    mass = std::max(mass, options.linger * one.weight());
  }
  return masses;
}

// The whole of retriever.h, literally.
inline std::map<SlowKey, double> SlowChoice(const std::vector<SlowSource>& sources,
                                            const RetrievalOptions& options,
                                            const LayerQueries& queries) {
  const Layout& layout = *sources[0].layout;
  const int group = queries.heads / layout.kv_heads;
  const double weight = 1.0 / (queries.tokens * queries.heads);
  std::map<SlowKey, double> votes, masses;
  size_t total = 0;
  for (const SlowSource& source : sources) total += source.blocks->size();
  const bool everything = options.candidates > 0 &&
                          total <= static_cast<size_t>(std::max(options.candidates, options.k));
  const auto query_of = [&](int token, int head) {
    return queries.data + (static_cast<size_t>(token) * queries.heads + head) * layout.head_dim;
  };
  for (int token = 0; token < queries.tokens; ++token) {
    for (int head = 0; head < queries.heads; ++head) {
      auto scores = SlowScores(sources, queries.layer, head / group, query_of(token, head), false);
      std::stable_sort(scores.begin(), scores.end(),
                       [](const auto& a, const auto& b) { return a.first > b.first; });
      if (!everything && scores.size() > static_cast<size_t>(options.votes)) {
        scores.resize(static_cast<size_t>(options.votes));
      }
      AddSoftmax(scores, options.scale, weight, &votes);
    }
  }
  if (options.candidates == 0) {
    return WithSuccessors(sources, options, WithLast(options, queries, votes));
  }
  const auto candidates =
      Heaviest(votes, static_cast<size_t>(std::max(options.candidates, options.k)));
  std::map<SlowKey, double> among(candidates.begin(), candidates.end());
  for (int token = 0; token < queries.tokens; ++token) {
    for (int head = 0; head < queries.heads; ++head) {
      auto scores = SlowScores(sources, queries.layer, head / group, query_of(token, head), true);
      std::erase_if(scores, [&](const auto& one) { return among.count(one.second) == 0; });
      AddSoftmax(scores, options.scale, weight, &masses);
    }
  }
  return WithSuccessors(sources, options, WithLast(options, queries, masses));
}

}  // namespace eidetic::memory

#endif  // EIDETIC_TESTS_MEMORY_SLOW_RETRIEVAL_H_
