#include "memory/verify_sessions.h"

#include <algorithm>
#include <optional>

#include "memory/format.h"
#include "memory/session_format.h"
#include "memory/session_retention.h"

namespace eidetic::memory {
namespace {

format::SessionTag TagOf(std::string_view key) {
  return static_cast<format::SessionTag>(key.empty() ? '\0' : key[0]);
}

}  // namespace

bool SessionVerifier::Knows(std::string_view key) {
  switch (TagOf(key)) {
    case format::SessionTag::kContent:
    case format::SessionTag::kHead:
    case format::SessionTag::kTurn:
    case format::SessionTag::kRows:
    case format::SessionTag::kWaiting:
      return true;
    case format::SessionTag::kReaderState:
    case format::SessionTag::kSession:
    case format::SessionTag::kSnapshot:
      break;
  }
  return false;
}

Status SessionVerifier::Read(std::string_view key, std::string_view value) {
  if (TagOf(key) == format::SessionTag::kHead) {
    EID_ASSIGN_OR_RETURN(SessionHead head, format::DecodeHead(key, value));
    std::string name = head.name;
    catalog_.heads.emplace(std::move(name), std::move(head));
    return {};
  }
  if (TagOf(key) == format::SessionTag::kWaiting) {
    EID_ASSIGN_OR_RETURN(WaitingTurn turn, format::DecodeWaiting(key, value));
    EID_ASSIGN_OR_RETURN(const std::string name, format::ParseWaitingKey(key));
    turn.content = {};
    const TurnNumber number = turn.turn;
    catalog_.waiting[name].emplace(number, std::move(turn));
    return {};
  }
  EID_ASSIGN_OR_RETURN(const format::TurnKeyParts parts, format::ParseTurnKey(key));
  if (TagOf(key) == format::SessionTag::kContent) {
    EID_ASSIGN_OR_RETURN(const TurnContent content, format::DecodeContent(key, value));
    content_tokens_[{parts.lineage, parts.number}] = content.tokens.size();
  } else if (TagOf(key) == format::SessionTag::kTurn) {
    EID_ASSIGN_OR_RETURN(TurnHeader turn, format::DecodeTurn(key, value));
    catalog_.turns[parts.lineage].emplace(parts.number, std::move(turn));
  } else {
    EID_ASSIGN_OR_RETURN(const WindowRows rows, format::DecodeRows(key, value));
    rows_[parts.lineage][rows.begin] = rows.end;
  }
  return {};
}

void SessionVerifier::SawSnapshot(std::string_view prefix) {
  const Result<format::TurnKeyParts> parts = format::ParseTurnKey(prefix);
  if (parts.ok()) {
    snapshots_.insert({parts->lineage, parts->number});
  } else {
    log_->Damaged("sessions: " + parts.status().message());
  }
}

void SessionVerifier::Damaged(const std::string& session, TurnNumber turn,
                              const std::string& what) {
  log_->Damaged("session " + session + ", turn " + std::to_string(turn) + ": " + what);
}

Status SessionVerifier::Check(const std::map<LineageId, LineageRecord>& lineages) {
  for (const auto& [name, head] : catalog_.heads) {
    for (const PathEntry& entry : head.path) {
      TurnNumber& last = seen_[entry.lineage];
      last = std::max(last, entry.last_turn);
    }
  }
  for (const auto& [name, head] : catalog_.heads) {
    CheckSession(head);
    CheckWaiting(head);
  }
  for (const auto& [lineage, last] : seen_) {
    const TurnHeader* turn = catalog_.Find(lineage, last);
    if (turn != nullptr) EID_RETURN_IF_ERROR(CheckLineage(lineage, *turn, lineages));
  }
  // What a damaged record sees is not known.
  if (!damaged_) CheckStrays();
  return {};
}

// The turns follow one another from 1 on, and have everything that belongs to them.
void SessionVerifier::CheckSession(const SessionHead& head) {
  uint64_t position = 0;
  TurnNumber number = 1;
  for (const PathEntry& entry : head.path) {
    const TurnHeader* turn = nullptr;
    for (; number <= entry.last_turn; ++number) {
      turn = catalog_.Find(entry.lineage, number);
      const TurnId id{entry.lineage, number};
      if (turn == nullptr) {
        Damaged(head.name, number, "its record is missing");
        continue;
      }
      if (turn->token_begin != position) {
        Damaged(head.name, number,
                "it begins at token " + std::to_string(turn->token_begin) + ", not at " +
                    std::to_string(position));
      }
      position = turn->token_end;
      if (!checked_.insert(id).second) continue;
      const auto content = content_tokens_.find(id);
      if (content == content_tokens_.end() ||
          content->second != turn->token_end - turn->token_begin) {
        Damaged(head.name, number, "what it read is missing, or of another length");
      }
      if (turn->has_snapshot() != snapshots_.contains(id)) {
        Damaged(head.name, number,
                turn->has_snapshot() ? "its state is missing or not whole"
                                     : "it has a state that should not be there");
      }
      if (turn->has_snapshot()) CheckRows(head, *turn);
    }
    if (turn != nullptr && (turn->token_end != entry.tokens || turn->blocks != entry.blocks)) {
      Damaged(head.name, entry.last_turn, "it ends elsewhere than its session says");
    }
    position = entry.tokens;
  }
}

// They follow on from the last turn.
void SessionVerifier::CheckWaiting(const SessionHead& head) {
  const auto waiting = catalog_.waiting.find(head.name);
  if (waiting == catalog_.waiting.end()) return;
  TurnNumber next = head.turns() + 1;
  for (const auto& [number, turn] : waiting->second) {
    if (number != next) Damaged(head.name, next, "what is to be read again is missing");
    next = number + 1;
  }
}

void SessionVerifier::CheckRows(const SessionHead& head, const TurnHeader& turn) {
  for (const auto& [lineage, ranges] : RowsOfSnapshot(head.path, turn)) {
    const auto& there = rows_[lineage];
    for (const RowRange& range : ranges) {
      uint64_t at = range.begin;
      for (auto piece = there.find(at); piece != there.end() && at < range.end;
           piece = there.find(at)) {
        at = piece->second;
      }
      if (at == range.end) continue;
      Damaged(
          head.name, turn.turn,
          "keys and values of its window are missing or not whole at token " + std::to_string(at));
    }
  }
}

// The lineage's record, as the scan found it or as it is now: turns may have been committed
// between.
Status SessionVerifier::CheckLineage(LineageId id, const TurnHeader& last,
                                     const std::map<LineageId, LineageRecord>& lineages) {
  const auto fits = [&](const LineageRecord& record) {
    return record.committed_tokens == last.blocks && record.committed_blocks == last.block_count;
  };
  const auto found = lineages.find(id);
  if (found != lineages.end() && fits(found->second)) return {};
  const std::string key = format::LineageKey(id);
  const Result<std::string> value = records_.Get(Family::kMeta, key);
  if (!value.ok() && value.status().code() != Code::kNotFound) return value.status();
  if (value.ok()) {
    const Result<LineageRecord> now = format::DecodeLineage(key, *value);
    // Damage is told where lineages are read; a longer one has grown since.
    if (!now.ok() || fits(*now)) return {};
    if (now->committed_tokens >= last.blocks && now->committed_blocks >= last.block_count &&
        (found == lineages.end() || now->committed_tokens > found->second.committed_tokens)) {
      return {};
    }
  }
  log_->Damaged("lineage " + std::to_string(id) + ": its blocks should be " +
                std::to_string(last.block_count) + " up to position " +
                std::to_string(last.blocks) + ", as its last turn says" +
                (value.ok() ? "" : "; its record is missing"));
  return {};
}

void SessionVerifier::CheckStrays() {
  const auto stray = [&](LineageId lineage, TurnNumber turn) {
    const auto seen = seen_.find(lineage);
    return seen == seen_.end() || turn > seen->second;
  };
  uint64_t strays = 0;
  for (const auto& [lineage, turns] : catalog_.turns) {
    for (const auto& [number, turn] : turns) strays += stray(lineage, number) ? 1 : 0;
  }
  for (const auto& [name, turns] : catalog_.waiting) {
    strays += catalog_.heads.contains(name) ? 0 : turns.size();
  }
  for (const auto& [id, tokens] : content_tokens_) strays += stray(id.first, id.second) ? 1 : 0;
  for (const TurnId& id : snapshots_) strays += stray(id.first, id.second) ? 1 : 0;
  std::set<LineageId> roots;
  for (const auto& [name, head] : catalog_.heads) roots.insert(RootOf(head));
  std::map<LineageId, std::vector<RowRange>> needed;
  for (LineageId root : roots) {
    needed.merge(RowsOfSnapshots(catalog_, root, PresentSnapshots(catalog_, root)));
  }
  for (const auto& [lineage, pieces] : rows_) {
    const std::vector<RowRange>& ranges = needed[lineage];
    for (const auto& [begin, end] : pieces) {
      const auto holds = [&](const RowRange& range) {
        return range.begin <= begin && end <= range.end;
      };
      strays += std::any_of(ranges.begin(), ranges.end(), holds) ? 0 : 1;
    }
  }
  if (strays == 0) return;
  log_->Damaged("sessions: " + std::to_string(strays) +
                " records of turns and windows belong to no session");
}

}  // namespace eidetic::memory
