#include "sdk/passages.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace eidetic::sdk {

using memory::Result;
using memory::Status;

namespace {

// Fills in what a reader looks a passage up by.
Status Describe(const PassageSource& source, memory::LineageId lineage, Passage* passage) {
  passage->byte_begin = passage->text_begin;
  passage->byte_end = passage->text_end;
  if (source.archive == nullptr) {
    passage->source = source.session;
    passage->text = source.text(passage->token_begin, passage->token_end);
    return Status();
  }
  passage->collection = source.collection;
  EID_ASSIGN_OR_RETURN(std::optional<memory::DocumentRecord> document,
                       source.archive->DocumentOfLineage(lineage));
  if (!document) return Status();  // removed meanwhile
  passage->source = document->source;
  passage->document = document->id;
  Result<std::string> text =
      source.archive->Text(document->id, passage->text_begin, passage->text_end);
  if (!text.ok()) {
    return text.status().code() == memory::Code::kNotFound ? Status() : text.status();
  }
  passage->text = std::move(text).value();
  const Result<memory::TextMap> map = source.archive->MapOf(*document);
  if (!map.ok()) {
    return map.status().code() == memory::Code::kNotFound ? Status() : map.status();
  }
  const memory::ByteRange original = map->ToOriginal({passage->text_begin, passage->text_end});
  passage->byte_begin = original.begin;
  passage->byte_end = original.end;
  return Status();
}

double Presence(uint64_t selections, const LayerTotals& totals) {
  return static_cast<double>(selections) / static_cast<double>(totals.selections);
}

// Consecutive blocks of one lineage.
struct Run {
  Passage passage;
  int source = 0;
  memory::LineageId lineage = 0;
  std::map<int, LayerUse> layers;  // attention summed over the blocks
};

std::vector<Run> RunsOf(const RecallRecord& record) {
  std::vector<Run> runs;
  for (const auto& [key, use] : record.uses) {  // ordered by source, lineage, position
    const memory::IndexedBlock& block = use.block;
    const bool follows = !runs.empty() && runs.back().source == use.source &&
                         runs.back().lineage == block.lineage &&
                         runs.back().passage.token_end == block.position;
    if (!follows) {
      Run run;
      run.source = use.source;
      run.lineage = block.lineage;
      run.passage.token_begin = block.position;
      run.passage.text_begin = block.text_begin;
      runs.push_back(std::move(run));
    }
    Passage& passage = runs.back().passage;
    passage.token_end = block.position + static_cast<uint64_t>(block.tokens);
    passage.text_end = block.text_end;
    passage.blocks += 1;
    passage.score += use.retrieval;
    passage.by_attention |= use.by_attention;
    passage.by_words |= use.by_words;
    passage.word_score = std::max(passage.word_score, use.word_score);
    for (const auto& [layer, of_layer] : use.layers) {
      LayerUse& sum = runs.back().layers[layer];
      sum.read_attention += of_layer.read_attention;
      sum.answer_attention += of_layer.answer_attention;
      // Of the block that was there most often.
      sum.selections = std::max(sum.selections, of_layer.selections);
      passage.presence =
          std::max(passage.presence, Presence(of_layer.selections, record.layers.at(layer)));
    }
  }
  return runs;
}

// Turns sums of attention into shares of the context: of the answer's tokens, or when there were
// none, of those read.
class AttentionUnits {
 public:
  explicit AttentionUnits(const RecallRecord& record) : record_(record) {
    for (const auto& [layer, totals] : record.layers) answered_ |= totals.answer_tokens > 0;
    for (const auto& [layer, totals] : record.layers) pairs_ += Tokens(totals);
  }
  double Attention(const LayerUse& use) const {
    return answered_ ? use.answer_attention : use.read_attention;
  }
  double all_layers() const { return 1.0 / static_cast<double>(std::max<uint64_t>(1, pairs_)); }
  double one_layer(int layer) const {
    return 1.0 / static_cast<double>(std::max<uint64_t>(1, Tokens(record_.layers.at(layer))));
  }

 private:
  uint64_t Tokens(const LayerTotals& totals) const {
    return answered_ ? totals.answer_tokens : totals.read_tokens;
  }
  const RecallRecord& record_;
  bool answered_ = false;
  uint64_t pairs_ = 0;  // (token, layer)
};

bool Attended(const std::vector<Run>& runs, const AttentionUnits& units, int layer) {
  return std::any_of(runs.begin(), runs.end(), [&](const Run& run) {
    const auto use = run.layers.find(layer);
    return use != run.layers.end() && units.Attention(use->second) > 0;
  });
}

// The layer with the largest sum of squared shares among the passages (1: all on one passage); the
// lowest of equals; -1 when no layer attended to any.
int FocusLayer(const std::vector<Run>& runs, const AttentionUnits& units) {
  std::map<int, std::pair<double, double>> sums;  // by layer: of the attention, of its square
  for (const Run& run : runs) {
    for (const auto& [layer, use] : run.layers) {
      const double attention = units.Attention(use);
      sums[layer].first += attention;
      sums[layer].second += attention * attention;
    }
  }
  int focus = -1;
  double most = 0;
  for (const auto& [layer, sum] : sums) {
    const double concentration = sum.first > 0 ? sum.second / (sum.first * sum.first) : 0;
    if (concentration <= most) continue;
    most = concentration;
    focus = layer;
  }
  return focus;
}

}  // namespace

Result<std::vector<Passage>> PassagesOf(const RecallRecord& record,
                                        const std::vector<PassageSource>& sources, size_t limit,
                                        PassageOrder order, int focus_layer) {
  std::vector<Run> runs = RunsOf(record);
  const AttentionUnits units(record);
  if (!Attended(runs, units, focus_layer)) focus_layer = FocusLayer(runs, units);
  const double score_unit = 1.0 / static_cast<double>(std::max<uint64_t>(1, record.selections));
  for (Run& run : runs) {
    Passage& passage = run.passage;
    passage.score *= score_unit;
    passage.focus_layer = focus_layer;
    for (const auto& [layer, use] : run.layers) {
      passage.attention += units.Attention(use) * units.all_layers();
      const double attention = units.Attention(use) * units.one_layer(layer);
      if (layer == focus_layer) passage.focus = attention;
      passage.layers.push_back(
          {layer, attention, Presence(use.selections, record.layers.at(layer))});
    }
  }
  std::stable_sort(runs.begin(), runs.end(), [order](const Run& a, const Run& b) {
    if (a.passage.word_score != b.passage.word_score) {
      return a.passage.word_score > b.passage.word_score;
    }
    return order == PassageOrder::kByFocus ? a.passage.focus > b.passage.focus
                                           : a.passage.score > b.passage.score;
  });
  if (limit > 0 && runs.size() > limit) runs.resize(limit);
  std::vector<Passage> passages;
  for (Run& run : runs) {
    EID_RETURN_IF_ERROR(Describe(sources[run.source], run.lineage, &run.passage));
    passages.push_back(std::move(run.passage));
  }
  return passages;
}

Result<std::vector<Passage>> PassagesByWords(memory::Archive* archive,
                                             const std::string& collection, std::string_view words,
                                             size_t limit) {
  EID_ASSIGN_OR_RETURN(const std::vector<memory::WordPlace> places,
                       archive->SearchWords(collection, words, limit));
  PassageSource source;
  source.collection = collection;
  source.archive = archive;
  std::vector<Passage> passages;
  for (const memory::WordPlace& place : places) {
    const memory::IndexedBlock& last = place.blocks.back();
    Passage passage;
    passage.text_begin = place.byte_begin;
    passage.text_end = place.byte_end;
    passage.token_begin = place.blocks.front().position;
    passage.token_end = last.position + static_cast<uint64_t>(last.tokens);
    passage.blocks = static_cast<uint32_t>(place.blocks.size());
    passage.by_words = true;
    passage.word_score = place.score;
    EID_RETURN_IF_ERROR(Describe(source, last.lineage, &passage));
    passages.push_back(std::move(passage));
  }
  return passages;
}

}  // namespace eidetic::sdk
