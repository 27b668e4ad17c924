#include "sdk/session_reports.h"

#include <chrono>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;
using nlohmann::json;

namespace {

// ISO 8601 with milliseconds, UTC.
std::string TimeText(int64_t milliseconds) {
  const std::time_t seconds = milliseconds / 1000;
  std::tm utc = {};
  if (gmtime_r(&seconds, &utc) == nullptr) return std::to_string(milliseconds) + " ms";
  char text[64];
  const size_t length = std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text + length, sizeof(text) - length, ".%03dZ",
                static_cast<int>(milliseconds % 1000));
  return text;
}

json HeadJson(const memory::SessionHead& head) {
  return {{"name", head.name},
          {"created", TimeText(head.created)},
          {"changed", TimeText(head.changed)},
          {"forked_from", head.forked_from},
          {"turns", head.turns()},
          {"tokens", head.tokens()}};
}

// A session that was saved as a whole: nothing but its name is known without its model.
json SavedJson(const std::string& name) {
  return {{"name", name}, {"turns", 0}, {"saved_without_turns", true}};
}

json TurnJson(const memory::TurnHeader& turn) {
  return {{"turn", turn.turn},
          {"name", turn.name},
          {"time", TimeText(turn.time)},
          {"token_begin", turn.token_begin},
          {"token_end", turn.token_end},
          {"snapshot", turn.has_snapshot()},
          {"replayable", turn.replayable},
          {"forgotten", turn.forgotten},
          {"waiting", false}};
}

// A turn that is to be read again: where its tokens will stand is told all the same.
json WaitingJson(const memory::WaitingTurn& turn, uint64_t token_begin) {
  return {{"turn", turn.turn},
          {"name", turn.name},
          {"time", TimeText(turn.time)},
          {"token_begin", token_begin},
          {"token_end", token_begin + turn.content.tokens.size()},
          {"snapshot", false},
          {"replayable", true},
          {"forgotten", turn.forgotten},
          {"waiting", true}};
}

json PartsJson(const memory::TurnContent& content) {
  json parts = json::array();
  for (const memory::TurnPart& part : content.parts) {
    parts.push_back({{"role", part.role},
                     {"generated", part.generated},
                     {"tokens", part.tokens},
                     {"text", part.text}});
  }
  return parts;
}

// Whatever bytes the texts hold.
std::string Dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

void AppendText(const memory::TurnContent& content, std::string* text) {
  for (const memory::TurnPart& part : content.parts) {
    if (part.text.empty()) continue;
    if (!part.role.empty()) {
      if (!text->empty() && text->back() != '\n') text->push_back('\n');
      text->append(part.role).append(": ").append(part.text).append("\n");
    } else {
      text->append(part.text);
    }
  }
}

}  // namespace

Result<std::string> SessionsJson(const memory::Archive& archive) {
  EID_ASSIGN_OR_RETURN(const std::vector<memory::SessionHead> heads, archive.sessions().List());
  EID_ASSIGN_OR_RETURN(const std::vector<std::string> names, archive.Sessions());
  EID_ASSIGN_OR_RETURN(const auto waiting, archive.sessions().CountWaiting());
  json sessions = json::array();
  auto head = heads.begin();
  for (const std::string& name : names) {
    while (head != heads.end() && head->name < name) ++head;
    const bool kept = head != heads.end() && head->name == name;
    sessions.push_back(kept ? HeadJson(*head) : SavedJson(name));
    const auto waits = waiting.find(name);
    sessions.back()["waiting"] = waits == waiting.end() ? 0 : waits->second;
  }
  return Dump({{"sessions", std::move(sessions)}});
}

Result<std::string> SessionJson(const memory::Archive& archive, const std::string& name) {
  const Result<memory::SessionHead> head = archive.sessions().Find(name);
  if (!head.ok()) {
    if (head.status().code() != Code::kNotFound || !archive.SessionRecord(name).ok()) {
      return head.status();
    }
    json saved = SavedJson(name);
    saved["turn_list"] = json::array();
    return Dump(saved);
  }
  EID_ASSIGN_OR_RETURN(const std::vector<memory::TurnHeader> turns, archive.sessions().Turns(name));
  json told = HeadJson(head.value());
  told["turn_list"] = json::array();
  for (const memory::TurnHeader& turn : turns) told["turn_list"].push_back(TurnJson(turn));
  EID_ASSIGN_OR_RETURN(const std::vector<memory::WaitingTurn> waiting,
                       archive.sessions().Waiting(name));
  uint64_t token = head->tokens();
  for (const memory::WaitingTurn& turn : waiting) {
    told["turn_list"].push_back(WaitingJson(turn, token));
    token += turn.content.tokens.size();
  }
  return Dump(told);
}

Result<std::string> ExportSession(const memory::Archive& archive, const std::string& name,
                                  ExportFormat format) {
  const Result<memory::SessionHead> head = archive.sessions().Find(name);
  if (!head.ok()) {
    if (head.status().code() != Code::kNotFound || !archive.SessionRecord(name).ok()) {
      return head.status();
    }
    return Status(Code::kUnsupported,
                  "session " + name + " was saved before there were turns: it cannot be exported",
                  "open it and save it once, then export it");
  }
  EID_ASSIGN_OR_RETURN(const std::vector<memory::TurnHeader> turns, archive.sessions().Turns(name));
  json told = HeadJson(head.value());
  told["turn_list"] = json::array();
  std::string text;
  for (const memory::TurnHeader& turn : turns) {
    EID_ASSIGN_OR_RETURN(const memory::TurnContent content, archive.sessions().Content(turn));
    if (format == ExportFormat::kText) {
      AppendText(content, &text);
      continue;
    }
    json one = TurnJson(turn);
    one["parts"] = PartsJson(content);
    one["tokens"] = content.tokens;
    told["turn_list"].push_back(std::move(one));
  }
  EID_ASSIGN_OR_RETURN(const std::vector<memory::WaitingTurn> waiting,
                       archive.sessions().Waiting(name));
  uint64_t token = head->tokens();
  for (const memory::WaitingTurn& turn : waiting) {
    if (format == ExportFormat::kText) {
      AppendText(turn.content, &text);
      continue;
    }
    json one = WaitingJson(turn, token);
    token += turn.content.tokens.size();
    one["parts"] = PartsJson(turn.content);
    one["tokens"] = turn.content.tokens;
    told["turn_list"].push_back(std::move(one));
  }
  if (format == ExportFormat::kText) return text;
  return Dump(told);
}

}  // namespace eidetic::sdk
