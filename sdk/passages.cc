#include "sdk/passages.h"

#include <algorithm>
#include <optional>

namespace eidetic::sdk {

using memory::Result;
using memory::Status;

namespace {

Status Describe(const PassageSource& source, memory::LineageId lineage, Passage* passage) {
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
  EID_ASSIGN_OR_RETURN(passage->text,
                       source.archive->Text(document->id, passage->byte_begin, passage->byte_end));
  return Status();
}

}  // namespace

Result<std::vector<Passage>> PassagesOf(const RecallRecord& record,
                                        const std::vector<PassageSource>& sources, size_t limit,
                                        PassageOrder order) {
  const bool answered = record.answer_tokens > 0;
  const double attention_unit = 1.0 / static_cast<double>(std::max<uint64_t>(
                                          1, answered ? record.answer_tokens : record.read_tokens));
  const double score_unit = 1.0 / static_cast<double>(std::max<uint64_t>(1, record.selections));

  struct Run {
    Passage passage;
    int source;
    memory::LineageId lineage;
  };
  std::vector<Run> runs;
  for (const auto& [key, use] : record.uses) {  // ordered by source, lineage, position
    const memory::IndexedBlock& block = use.block;
    const bool follows = !runs.empty() && runs.back().source == use.source &&
                         runs.back().lineage == block.lineage &&
                         runs.back().passage.token_end == block.position;
    if (!follows) {
      runs.push_back({{}, use.source, block.lineage});
      runs.back().passage.token_begin = block.position;
      runs.back().passage.byte_begin = block.text_begin;
    }
    Passage& passage = runs.back().passage;
    passage.token_end = block.position + static_cast<uint64_t>(block.tokens);
    passage.byte_end = block.text_end;
    passage.blocks += 1;
    passage.attention += (answered ? use.answer_attention : use.read_attention) * attention_unit;
    passage.score += use.retrieval * score_unit;
    for (const auto& [layer, times] : use.selections) {
      passage.presence =
          std::max(passage.presence, static_cast<double>(times) /
                                         static_cast<double>(record.selections_of_layer.at(layer)));
    }
  }

  std::stable_sort(runs.begin(), runs.end(), [order](const Run& a, const Run& b) {
    return order == PassageOrder::kByAttention ? a.passage.attention > b.passage.attention
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

}  // namespace eidetic::sdk
