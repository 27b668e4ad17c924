// Records of the family `sessions` that keep sessions turn by turn: keys, values, limits. The page
// that explains them byte by byte is docs/formats/archive-v1.md; the rules are those of
// memory/format.h.
#ifndef EIDETIC_MEMORY_SESSION_FORMAT_H_
#define EIDETIC_MEMORY_SESSION_FORMAT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "memory/session_store.h"

namespace eidetic::memory::format {

inline constexpr size_t kMaxTurnNameBytes = 255;
inline constexpr size_t kMaxRoleBytes = 64;
inline constexpr uint64_t kMaxSettingsBytes = 1u << 20;
inline constexpr uint64_t kMaxTurnTokens = 1u << 28;
inline constexpr uint8_t kTurnOriginVersion = 2;  // of a turn that was read again, or forgotten

std::string HeadKey(std::string_view name);
// Keys of one turn, and of all turns of a lineage from `turn` on when used as the begin of a range.
std::string TurnKey(LineageId lineage, TurnNumber turn);
std::string ContentKey(LineageId lineage, TurnNumber turn);
std::string SnapshotPrefix(LineageId lineage, TurnNumber turn);  // of a blob
std::string RowsKey(LineageId lineage, uint64_t position);
// Keys of a session's waiting turns begin with it.
std::string WaitingPrefix(std::string_view name);
std::string WaitingKey(std::string_view name, TurnNumber turn);
// Ends the range of such keys of a lineage.
std::string LineageEnd(std::string key);

struct TurnKeyParts {
  LineageId lineage = 0;
  uint64_t number = 0;  // turn, or position of rows
};
// Of TurnKey, ContentKey and RowsKey; of SnapshotPrefix. kCorruption when the bytes are no such
// key.
Result<TurnKeyParts> ParseTurnKey(std::string_view key);
Result<std::string> ParseHeadKey(std::string_view key);
// The session's name in the key of a waiting turn.
Result<std::string> ParseWaitingKey(std::string_view key);

std::string EncodeHead(std::string_view key, const SessionHead& head);
Result<SessionHead> DecodeHead(std::string_view key, std::string_view value);

std::string EncodeTurn(std::string_view key, const TurnHeader& turn);
Result<TurnHeader> DecodeTurn(std::string_view key, std::string_view value);

std::string EncodeContent(std::string_view key, const TurnContent& content);
Result<TurnContent> DecodeContent(std::string_view key, std::string_view value);
// What the decoder demands beside the bytes: sums of passes and parts, numbers of views.
Status CheckContent(const TurnContent& content);

std::string EncodeWaiting(std::string_view key, const WaitingTurn& turn);
Result<WaitingTurn> DecodeWaiting(std::string_view key, std::string_view value);

std::string EncodeRows(std::string_view key, const WindowRows& rows);
Result<WindowRows> DecodeRows(std::string_view key, std::string_view value);

}  // namespace eidetic::memory::format

#endif  // EIDETIC_MEMORY_SESSION_FORMAT_H_
