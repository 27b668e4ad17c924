#include "memory/session_format.h"

#include <cstring>
#include <utility>

#include "memory/byte_io.h"
#include "memory/format.h"
#include "memory/sealed_record.h"

namespace eidetic::memory::format {
namespace {

constexpr uint8_t kReplayable = 1;  // flags of a turn
constexpr uint8_t kForgotten = 2;
constexpr size_t kNumberBytes = sizeof(TurnNumber);

std::string TaggedPair(SessionTag tag, uint64_t first, uint64_t second) {
  std::string key(1, static_cast<char>(tag));
  ByteWriter writer(&key);
  writer.Big(first);
  writer.Big(second);
  return key;
}

// A 32-bit length, then the bytes.
void WriteLong(std::string_view bytes, ByteWriter* writer) {
  writer->Little(static_cast<uint32_t>(bytes.size()));
  writer->Bytes(bytes);
}

bool ReadLong(ByteReader* reader, std::string* bytes) {
  uint32_t length = 0;
  std::string_view raw;
  if (!reader->Little(&length) || !reader->Bytes(length, &raw)) return false;
  bytes->assign(raw);
  return true;
}

bool ReadTime(ByteReader* reader, int64_t* time) {
  return reader->Little(time) && *time >= 0;
}

// Turns, positions and lineages of a path grow from entry to entry.
bool PathIsPossible(const SessionHead& head) {
  PathEntry before;
  for (const PathEntry& entry : head.path) {
    if (entry.lineage <= before.lineage || entry.last_turn <= before.last_turn ||
        entry.tokens < before.tokens || entry.blocks < before.blocks ||
        entry.blocks > entry.tokens) {
      return false;
    }
    before = entry;
  }
  return head.writes == 0 || head.writes == before.lineage;
}

bool ReadView(ByteReader* reader, RecallView* view) {
  uint16_t collections = 0;
  if (!reader->Little(&collections)) return false;
  for (int i = 0; i < collections; ++i) {
    CollectionView one;
    if (!reader->ShortString(kMaxNameBytes, &one.collection) || !reader->Little(&one.lineages) ||
        !reader->Little(&one.last) || !reader->Little(&one.digest)) {
      return false;
    }
    view->collections.push_back(std::move(one));
  }
  return ReadLong(reader, &view->choice);
}

bool ReadPass(ByteReader* reader, PassRun* pass) {
  uint8_t use_span = 0;
  if (!reader->Little(&pass->tokens) || !reader->Little(&pass->times) ||
      !reader->Little(&use_span) || use_span > 1 || !reader->Little(&pass->view)) {
    return false;
  }
  pass->use_span = use_span == 1;
  return true;
}

bool ReadPart(ByteReader* reader, TurnPart* part) {
  uint8_t generated = 0;
  if (!reader->ShortString(kMaxRoleBytes, &part->role) || !reader->Little(&generated) ||
      generated > 1 || !reader->Little(&part->tokens) || !ReadLong(reader, &part->text)) {
    return false;
  }
  part->generated = generated == 1;
  return true;
}

// `count` things, each read by `read`. Memory grows with what is there, not with what is claimed.
template <typename T, typename Read>
bool ReadMany(ByteReader* reader, uint32_t count, Read read, std::vector<T>* out) {
  for (uint32_t i = 0; i < count; ++i) {
    T one{};
    if (!read(reader, &one)) return false;
    out->push_back(std::move(one));
  }
  return true;
}

Status Impossible(const std::string& what) {
  return Status(Code::kInvalidArgument, "a turn " + what);
}

}  // namespace

std::string HeadKey(std::string_view name) {
  return TagPrefix(SessionTag::kHead).append(name);
}
std::string TurnKey(LineageId lineage, TurnNumber turn) {
  return TaggedPair(SessionTag::kTurn, lineage, turn);
}
std::string ContentKey(LineageId lineage, TurnNumber turn) {
  return TaggedPair(SessionTag::kContent, lineage, turn);
}
std::string SnapshotPrefix(LineageId lineage, TurnNumber turn) {
  return TaggedPair(SessionTag::kSnapshot, lineage, turn);
}
std::string RowsKey(LineageId lineage, uint64_t position) {
  return TaggedPair(SessionTag::kRows, lineage, position);
}
std::string WaitingPrefix(std::string_view name) {
  std::string key = TagPrefix(SessionTag::kWaiting).append(name);
  key.push_back('\0');
  return key;
}
std::string WaitingKey(std::string_view name, TurnNumber turn) {
  std::string key = WaitingPrefix(name);
  ByteWriter(&key).Big(turn);
  return key;
}
std::string LineageEnd(std::string key) {
  key.resize(1 + sizeof(LineageId));
  return PrefixEnd(std::move(key));
}

Result<TurnKeyParts> ParseTurnKey(std::string_view key) {
  ByteReader reader(key);
  uint8_t tag = 0;
  TurnKeyParts parts;
  if (!reader.Big(&tag) || !reader.Big(&parts.lineage) || !reader.Big(&parts.number) ||
      !reader.done()) {
    return Status(Code::kCorruption,
                  "a record has the key " + Printable(key) + ", which is no turn's");
  }
  return parts;
}

Result<std::string> ParseHeadKey(std::string_view key) {
  if (key.size() < 2 || key.size() > 1 + kMaxNameBytes ||
      key[0] != static_cast<char>(SessionTag::kHead) || key.find('\0') != key.npos) {
    return Status(Code::kCorruption,
                  "a record has the key " + Printable(key) + ", which is no session's");
  }
  return std::string(key.substr(1));
}

Result<std::string> ParseWaitingKey(std::string_view key) {
  const size_t end = key.find('\0');
  if (key.size() < 2 || key[0] != static_cast<char>(SessionTag::kWaiting) || end == key.npos ||
      end < 2 || end > 1 + kMaxNameBytes || key.size() != end + 1 + kNumberBytes) {
    return Status(Code::kCorruption,
                  "a record has the key " + Printable(key) + ", which is no waiting turn's");
  }
  return std::string(key.substr(1, end - 1));
}

std::string EncodeHead(std::string_view key, const SessionHead& head) {
  std::string value = Begin(64 + head.path.size() * sizeof(PathEntry) + head.settings.size());
  ByteWriter writer(&value);
  writer.Little(head.created);
  writer.Little(head.changed);
  writer.ShortString(head.forked_from);
  writer.Little(head.writes);
  writer.Little(static_cast<uint32_t>(head.path.size()));
  for (const PathEntry& entry : head.path) {
    for (uint64_t number : {entry.lineage, entry.last_turn, entry.tokens, entry.blocks}) {
      writer.Little(number);
    }
  }
  WriteLong(head.settings, &writer);
  return Seal(key, std::move(value));
}

Result<SessionHead> DecodeHead(std::string_view key, std::string_view value) {
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value));
  SessionHead head;
  EID_ASSIGN_OR_RETURN(head.name, ParseHeadKey(key));
  ByteReader reader(body);
  uint32_t entries = 0;
  const auto read_entry = [](ByteReader* from, PathEntry* entry) {
    return from->Little(&entry->lineage) && from->Little(&entry->last_turn) &&
           from->Little(&entry->tokens) && from->Little(&entry->blocks);
  };
  if (!ReadTime(&reader, &head.created) || !ReadTime(&reader, &head.changed) ||
      !reader.ShortString(kMaxNameBytes, &head.forked_from) || !reader.Little(&head.writes) ||
      !reader.Little(&entries) || !ReadMany(&reader, entries, read_entry, &head.path) ||
      !ReadLong(&reader, &head.settings) || !reader.done() || !PathIsPossible(head)) {
    return Refuse(key, "this is no valid record of a session");
  }
  return head;
}

std::string EncodeTurn(std::string_view key, const TurnHeader& turn) {
  const bool again = turn.forgotten || turn.first != TurnId();
  std::string value = Begin(96 + turn.name.size(), again ? kTurnOriginVersion : kRecordVersion);
  ByteWriter writer(&value);
  writer.ShortString(turn.name);
  writer.Little(turn.time);
  for (uint64_t number : {turn.token_begin, turn.token_end, turn.blocks, turn.block_count,
                          turn.window_begin, turn.sinks}) {
    writer.Little(number);
  }
  const int flags = (turn.replayable ? kReplayable : 0) | (turn.forgotten ? kForgotten : 0);
  writer.Little(static_cast<uint8_t>(flags));
  writer.Little(turn.snapshot_chunks);
  if (again) {
    writer.Little(turn.first.first);
    writer.Little(turn.first.second);
  }
  return Seal(key, std::move(value));
}

Result<TurnHeader> DecodeTurn(std::string_view key, std::string_view value) {
  uint8_t version = 0;
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value, kTurnOriginVersion, &version));
  EID_ASSIGN_OR_RETURN(const TurnKeyParts parts, ParseTurnKey(key));
  const bool again = version == kTurnOriginVersion;
  TurnHeader turn;
  turn.lineage = parts.lineage;
  turn.turn = parts.number;
  ByteReader reader(body);
  uint8_t flags = 0;
  if (!reader.ShortString(kMaxTurnNameBytes, &turn.name) || !ReadTime(&reader, &turn.time) ||
      !reader.Little(&turn.token_begin) || !reader.Little(&turn.token_end) ||
      !reader.Little(&turn.blocks) || !reader.Little(&turn.block_count) ||
      !reader.Little(&turn.window_begin) || !reader.Little(&turn.sinks) || !reader.Little(&flags) ||
      flags > (again ? kReplayable | kForgotten : kReplayable) ||
      !reader.Little(&turn.snapshot_chunks) ||
      (again && (!reader.Little(&turn.first.first) || !reader.Little(&turn.first.second))) ||
      !reader.done() || turn.turn == 0 || turn.token_begin > turn.token_end ||
      turn.blocks > turn.token_end || turn.block_count > turn.blocks ||
      turn.window_begin > turn.token_end || turn.sinks > turn.token_end ||
      turn.token_end - turn.token_begin > kMaxTurnTokens ||
      turn.snapshot_chunks > kMaxBlobBytes / kBlobChunkBytes) {
    return Refuse(key, "this is no valid record of a turn");
  }
  turn.replayable = (flags & kReplayable) != 0;
  turn.forgotten = (flags & kForgotten) != 0;
  return turn;
}

std::string EncodeContent(std::string_view key, const TurnContent& content) {
  std::string value = Begin(1024 + content.tokens.size() * 10);
  ByteWriter writer(&value);
  writer.Little(static_cast<uint32_t>(content.tokens.size()));
  writer.Bytes({reinterpret_cast<const char*>(content.tokens.data()),
                content.tokens.size() * sizeof(int32_t)});
  writer.Little(static_cast<uint32_t>(content.passes.size()));
  for (const PassRun& pass : content.passes) {
    writer.Little(pass.tokens);
    writer.Little(pass.times);
    writer.Little(static_cast<uint8_t>(pass.use_span ? 1 : 0));
    writer.Little(pass.view);
  }
  writer.Little(static_cast<uint16_t>(content.views.size()));
  for (const RecallView& view : content.views) {
    writer.Little(static_cast<uint16_t>(view.collections.size()));
    for (const CollectionView& one : view.collections) {
      writer.ShortString(one.collection);
      writer.Little(one.lineages);
      writer.Little(one.last);
      writer.Little(one.digest);
    }
    WriteLong(view.choice, &writer);
  }
  writer.Little(static_cast<uint32_t>(content.parts.size()));
  for (const TurnPart& part : content.parts) {
    writer.ShortString(part.role);
    writer.Little(static_cast<uint8_t>(part.generated ? 1 : 0));
    writer.Little(part.tokens);
    WriteLong(part.text, &writer);
  }
  WriteLong(content.resume, &writer);
  return Seal(key, std::move(value));
}

Result<TurnContent> DecodeContent(std::string_view key, std::string_view value) {
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value));
  ByteReader reader(body);
  TurnContent content;
  uint32_t tokens = 0, passes = 0, parts = 0;
  uint16_t views = 0;
  std::string_view raw;
  if (!reader.Little(&tokens) || tokens > kMaxTurnTokens ||
      !reader.Bytes(tokens * sizeof(int32_t), &raw)) {
    return Refuse(key, "the turn's tokens are cut off");
  }
  content.tokens.resize(tokens);
  if (tokens > 0) std::memcpy(content.tokens.data(), raw.data(), raw.size());
  if (!reader.Little(&passes) || !ReadMany(&reader, passes, ReadPass, &content.passes) ||
      !reader.Little(&views) || !ReadMany(&reader, views, ReadView, &content.views) ||
      !reader.Little(&parts) || !ReadMany(&reader, parts, ReadPart, &content.parts) ||
      !ReadLong(&reader, &content.resume) || !reader.done()) {
    return Refuse(key, "the turn's passes, parts or state are not possible");
  }
  if (const Status checked = CheckContent(content); !checked.ok()) {
    return Refuse(key, checked.message());
  }
  return content;
}

Status CheckContent(const TurnContent& content) {
  if (content.tokens.size() > kMaxTurnTokens) {
    return Impossible("has " + std::to_string(content.tokens.size()) + " tokens, at most " +
                      std::to_string(kMaxTurnTokens));
  }
  if (content.views.size() > UINT16_MAX) {
    return Impossible("has " + std::to_string(content.views.size()) + " views of collections");
  }
  uint64_t in_passes = 0, in_parts = 0;
  for (const PassRun& pass : content.passes) {
    if (pass.tokens == 0 || pass.times == 0 || pass.view >= content.views.size()) {
      return Impossible("has an empty forward pass, or one that looked at nothing known");
    }
    in_passes += uint64_t{pass.tokens} * pass.times;
    if (in_passes > content.tokens.size()) break;
  }
  for (const TurnPart& part : content.parts) {
    if (part.role.size() > kMaxRoleBytes) return Impossible("has a role of too many bytes");
    in_parts += part.tokens;
  }
  for (const RecallView& view : content.views) {
    if (view.collections.size() > UINT16_MAX) return Impossible("has too many collections");
  }
  if (in_passes != content.tokens.size() || in_parts != content.tokens.size()) {
    return Impossible("has " + std::to_string(content.tokens.size()) + " tokens, but " +
                      std::to_string(in_passes) + " in its passes and " + std::to_string(in_parts) +
                      " in its parts");
  }
  return {};
}

// The content stands as in a record of its own, checksum and all.
std::string EncodeWaiting(std::string_view key, const WaitingTurn& turn) {
  std::string value = Begin(128 + turn.content.tokens.size() * 10);
  ByteWriter writer(&value);
  writer.ShortString(turn.name);
  writer.Little(turn.time);
  writer.Little(static_cast<uint8_t>(turn.forgotten ? 1 : 0));
  writer.Little(turn.first.first);
  writer.Little(turn.first.second);
  WriteLong(EncodeContent(key, turn.content), &writer);
  return Seal(key, std::move(value));
}

Result<WaitingTurn> DecodeWaiting(std::string_view key, std::string_view value) {
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value));
  EID_RETURN_IF_ERROR(ParseWaitingKey(key).status());
  ByteReader number(key.substr(key.size() - kNumberBytes));
  ByteReader reader(body);
  WaitingTurn turn;
  uint8_t forgotten = 0;
  std::string content;
  if (!number.Big(&turn.turn) || turn.turn == 0 ||
      !reader.ShortString(kMaxTurnNameBytes, &turn.name) || !ReadTime(&reader, &turn.time) ||
      !reader.Little(&forgotten) || forgotten > 1 || !reader.Little(&turn.first.first) ||
      !reader.Little(&turn.first.second) || !ReadLong(&reader, &content) || !reader.done()) {
    return Refuse(key, "this is no valid record of a waiting turn");
  }
  turn.forgotten = forgotten == 1;
  EID_ASSIGN_OR_RETURN(turn.content, DecodeContent(key, content));
  if (turn.forgotten && (!turn.content.tokens.empty() || !turn.content.parts.empty())) {
    return Refuse(key, "a forgotten turn holds something");
  }
  return turn;
}

std::string EncodeRows(std::string_view key, const WindowRows& rows) {
  std::string value = Begin(8 + rows.bytes.size());
  ByteWriter writer(&value);
  writer.Little(static_cast<uint32_t>(rows.end - rows.begin));
  WriteLong(rows.bytes, &writer);
  return Seal(key, std::move(value));
}

Result<WindowRows> DecodeRows(std::string_view key, std::string_view value) {
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value));
  EID_ASSIGN_OR_RETURN(const TurnKeyParts parts, ParseTurnKey(key));
  ByteReader reader(body);
  WindowRows rows;
  uint32_t tokens = 0;
  if (!reader.Little(&tokens) || tokens == 0 || tokens > kRowTokens ||
      parts.number > UINT64_MAX - tokens || !ReadLong(&reader, &rows.bytes) || !reader.done()) {
    return Refuse(key, "these are no rows of a window");
  }
  rows.begin = parts.number;
  rows.end = parts.number + tokens;
  return rows;
}

}  // namespace eidetic::memory::format
