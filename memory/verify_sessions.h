// The part of verification that reads sessions kept turn by turn, out of one scan over the family
// `sessions`, and compares them with each other and with their lineages.
#ifndef EIDETIC_MEMORY_VERIFY_SESSIONS_H_
#define EIDETIC_MEMORY_VERIFY_SESSIONS_H_

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "memory/session_catalog.h"
#include "memory/verify_log.h"

namespace eidetic::memory {

class SessionVerifier {
 public:
  SessionVerifier(const RecordStore& records, VerifyLog* log) : records_(records), log_(log) {}

  // Whether the key is one of a session's head, turn, content or rows; snapshots are blobs.
  static bool Knows(std::string_view key);
  // One such record, in the order of keys. kCorruption says what is wrong with it.
  Status Read(std::string_view key, std::string_view value);
  // A whole snapshot was there.
  void SawSnapshot(std::string_view prefix);
  // A record of this family could not be read: what is missing may be what it held.
  void SawDamage() { damaged_ = true; }

  // After the scan: everything that sessions see is there, and nothing else. `lineages`: as they
  // were before the scan began.
  Status Check(const std::map<LineageId, LineageRecord>& lineages);
  bool Sees(LineageId lineage) const { return seen_.contains(lineage); }

 private:
  using TurnId = std::pair<LineageId, TurnNumber>;
  void CheckSession(const SessionHead& head);
  void CheckWaiting(const SessionHead& head);
  void CheckRows(const SessionHead& head, const TurnHeader& turn);
  Status CheckLineage(LineageId id, const TurnHeader& last,
                      const std::map<LineageId, LineageRecord>& lineages);
  void CheckStrays();
  void Damaged(const std::string& session, TurnNumber turn, const std::string& what);

  const RecordStore& records_;
  VerifyLog* log_;
  SessionCatalog catalog_;
  std::map<TurnId, uint64_t> content_tokens_;
  std::map<LineageId, std::map<uint64_t, uint64_t>> rows_;  // by lineage: begin, end
  std::set<TurnId> snapshots_;
  std::map<LineageId, TurnNumber> seen_;
  std::set<TurnId> checked_;  // turns that several sessions see are told of once
  bool damaged_ = false;
};

}  // namespace eidetic::memory

#endif  // EIDETIC_MEMORY_VERIFY_SESSIONS_H_
