#include "memory/session_catalog.h"

#include <algorithm>
#include <set>
#include <utility>

#include "memory/format.h"
#include "memory/session_format.h"

namespace eidetic::memory {

Result<SessionCatalog> SessionCatalog::Load(const RecordStore& records) {
  SessionCatalog catalog;
  const auto scan = [&](format::SessionTag tag, auto visit) {
    const std::string prefix = format::TagPrefix(tag);
    return records.Scan(Family::kSessions, prefix, format::PrefixEnd(prefix), visit);
  };
  const auto visit_head = [&](std::string_view key, std::string_view value) -> Status {
    Result<SessionHead> head = format::DecodeHead(key, value);
    if (head.ok()) {
      std::string name = head->name;
      catalog.heads.emplace(std::move(name), std::move(head).value());
    } else if (catalog.damage.ok()) {
      catalog.damage = head.status();
    }
    return {};
  };
  const auto visit_turn = [&](std::string_view key, std::string_view value) -> Status {
    const Result<TurnHeader> turn = format::DecodeTurn(key, value);
    const Result<format::TurnKeyParts> place = format::ParseTurnKey(key);
    if (turn.ok() && place.ok()) {
      catalog.turns[place->lineage].emplace(place->number, turn.value());
    }
    return {};
  };
  const auto visit_waiting = [&](std::string_view key, std::string_view value) -> Status {
    Result<WaitingTurn> turn = format::DecodeWaiting(key, value);
    if (!turn.ok()) {
      if (catalog.damage.ok()) catalog.damage = turn.status();
      return {};
    }
    EID_ASSIGN_OR_RETURN(const std::string name, format::ParseWaitingKey(key));
    turn->content = {};
    const TurnNumber number = turn->turn;
    catalog.waiting[name].emplace(number, std::move(turn).value());
    return {};
  };
  // Bytes that cannot be read at all end the scan: like a record that is damaged, they hide what
  // comes behind them.
  for (const Status& status :
       {scan(format::SessionTag::kHead, visit_head), scan(format::SessionTag::kTurn, visit_turn),
        scan(format::SessionTag::kWaiting, visit_waiting)}) {
    if (!status.ok() && status.code() != Code::kCorruption) return status;
    if (!status.ok() && catalog.damage.ok()) catalog.damage = status;
  }
  return catalog;
}

const TurnHeader* SessionCatalog::Find(LineageId lineage, TurnNumber turn) const {
  const auto of = turns.find(lineage);
  if (of == turns.end()) return nullptr;
  const auto found = of->second.find(turn);
  return found == of->second.end() ? nullptr : &found->second;
}

Result<const TurnHeader*> SessionCatalog::Find(const SessionHead& session, TurnNumber turn) const {
  if (turn < 1 || turn > session.turns()) {
    return Status(Code::kNotFound,
                  "session " + session.name + " has no turn " + std::to_string(turn) + ", it has " +
                      std::to_string(session.turns()),
                  "`eidetic sessions show` lists a session's turns");
  }
  const LineageId lineage = LineageOfTurn(session.path, turn);
  const TurnHeader* found = Find(lineage, turn);
  if (found != nullptr) return found;
  return Status(Code::kCorruption,
                "session " + session.name + ": the record of turn " + std::to_string(turn) +
                    " (lineage " + std::to_string(lineage) + ") is missing or damaged",
                "run `eidetic memory verify`, and restore the archive from a backup");
}

std::map<LineageId, TurnNumber> SessionCatalog::SeenTurns() const {
  std::map<LineageId, TurnNumber> seen;
  for (const auto& [name, head] : heads) {
    for (const PathEntry& entry : head.path) {
      TurnNumber& turn = seen[entry.lineage];
      turn = std::max(turn, entry.last_turn);
    }
  }
  return seen;
}

LineageId LineageOfTurn(const std::vector<PathEntry>& path, TurnNumber turn) {
  const auto holds = [&](const PathEntry& entry) { return turn <= entry.last_turn; };
  return std::find_if(path.begin(), path.end(), holds)->lineage;
}

std::map<LineageId, std::vector<RowRange>> RowsOfSnapshot(const std::vector<PathEntry>& path,
                                                          const TurnHeader& turn) {
  // The window begins behind the sinks, or both are cut off by the session's length.
  const RowRange sinks{0, turn.sinks};
  const RowRange window{std::max(turn.window_begin, turn.sinks), turn.token_end};
  std::map<LineageId, std::vector<RowRange>> rows;
  uint64_t begin = 0;
  for (const PathEntry& entry : path) {
    const bool last = entry.lineage == turn.lineage;
    const uint64_t end = last ? turn.token_end : entry.tokens;
    std::vector<RowRange>& ranges = rows[entry.lineage];
    for (const RowRange& wanted : {sinks, window}) {
      const RowRange here{std::max(wanted.begin, begin), std::min(wanted.end, end)};
      if (here.begin >= here.end) continue;
      if (!ranges.empty() && ranges.back().end == here.begin) {
        ranges.back().end = here.end;
      } else {
        ranges.push_back(here);
      }
    }
    if (last) break;
    begin = end;
  }
  return rows;
}

std::vector<RowRange> PiecesOf(const SessionCatalog& catalog, LineageId lineage,
                               const RowRange& range) {
  std::set<uint64_t> cuts = {range.begin, range.end};
  for (uint64_t at = (range.begin / kRowTokens + 1) * kRowTokens; at < range.end;
       at += kRowTokens) {
    cuts.insert(at);
  }
  const auto of = catalog.turns.find(lineage);
  if (of != catalog.turns.end()) {
    for (const auto& [number, turn] : of->second) {
      if (turn.token_begin > range.begin && turn.token_begin < range.end) {
        cuts.insert(turn.token_begin);
      }
    }
  }
  std::vector<RowRange> pieces;
  for (auto at = cuts.begin(); std::next(at) != cuts.end(); ++at) {
    pieces.push_back({*at, *std::next(at)});
  }
  return pieces;
}

}  // namespace eidetic::memory
