#include "memory/word_index.h"

#include <sqlite3.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <tuple>
#include <utility>

#include "memory/word_query.h"

namespace eidetic::memory {
namespace {

constexpr int kApplicationId = 0x65696477;  // "eidw"
constexpr int kVersion = 1;                 // of the tables below: another one is made anew
constexpr int kBusyMilliseconds = 2000;

// A lineage's blocks have ids that follow on each other, by position.
constexpr char kSchema[] = R"sql(
CREATE TABLE lineages(lineage INTEGER PRIMARY KEY, tag TEXT NOT NULL, first INTEGER NOT NULL,
                      blocks INTEGER NOT NULL);
CREATE TABLE blocks(id INTEGER PRIMARY KEY, position INTEGER NOT NULL, tokens INTEGER NOT NULL);
CREATE VIRTUAL TABLE words USING fts5(text, tokenize = "porter unicode61 remove_diacritics 2");
)sql";

// How much a block counts as a holder of a word that stands so many blocks away; and BM25's k1, how
// soon more of a word counts no more. Blocks are of one length: b is 0. Measured on the questions
// of `eval questions`.
constexpr double kNearness[] = {1.0, 0.8, 0.5, 0.3, 0.2};
constexpr double kSaturation = 0.5;
// Longest end of a word that is taken from the next block.
constexpr size_t kMostMovedBytes = 64;

// Ids are 64-bit without a sign, SQLite's integers have one: the same bits.
sqlite3_int64 ToColumn(uint64_t id) {
  return static_cast<sqlite3_int64>(id);
}

}  // namespace

// A connection, and what is done over and over with it.
struct WordIndex::Database {
  sqlite3* connection = nullptr;
  std::string name;  // for messages

  ~Database() { sqlite3_close_v2(connection); }

  Status Error(const std::string& doing) const {
    const int code = sqlite3_errcode(connection) & 0xff;
    const std::string what = doing + " " + name + ": " + sqlite3_errmsg(connection);
    switch (code) {
      case SQLITE_FULL:
        return Status(Code::kNoSpace, what, "free space and run again");
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
        return Status(Code::kCorruption, what, "remove it: it is made again from the archive");
      case SQLITE_NOMEM:
        return Status(Code::kOutOfMemory, what);
      default:
        return Status(Code::kIoError, what);
    }
  }
  Status Execute(const std::string& sql) const {
    if (sqlite3_exec(connection, sql.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK) return {};
    return Error("changing");
  }
};

namespace {

// One statement: bound from left to right, then stepped.
class Statement {
 public:
  Statement(sqlite3* connection, const char* sql) {
    status_ = sqlite3_prepare_v2(connection, sql, -1, &statement_, nullptr);
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(uint64_t number) {
    if (status_ == SQLITE_OK) status_ = sqlite3_bind_int64(statement_, ++bound_, ToColumn(number));
    return *this;
  }
  // `text` must outlive the steps.
  Statement& Bind(std::string_view text) {
    if (status_ == SQLITE_OK) {
      status_ = sqlite3_bind_text64(statement_, ++bound_, text.data(), text.size(), SQLITE_STATIC,
                                    SQLITE_UTF8);
    }
    return *this;
  }
  // Whether there is a row; false also after an error.
  bool Step() {
    if (status_ == SQLITE_OK || status_ == SQLITE_ROW) status_ = sqlite3_step(statement_);
    return status_ == SQLITE_ROW;
  }
  bool done() const { return status_ == SQLITE_DONE; }
  uint64_t Number(int column) const {
    return static_cast<uint64_t>(sqlite3_column_int64(statement_, column));
  }
  double Real(int column) const { return sqlite3_column_double(statement_, column); }
  std::string Text(int column) const {
    const auto* text = sqlite3_column_text(statement_, column);
    return text == nullptr ? "" : reinterpret_cast<const char*>(text);
  }

 private:
  sqlite3_stmt* statement_ = nullptr;
  int status_ = SQLITE_OK;
  int bound_ = 0;
};

// All or nothing: rolled back unless committed.
class Transaction {
 public:
  explicit Transaction(sqlite3* connection) : connection_(connection) {}
  ~Transaction() {
    if (open_) sqlite3_exec(connection_, "ROLLBACK", nullptr, nullptr, nullptr);
  }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  bool Begin() { return open_ = Run("BEGIN IMMEDIATE"); }
  bool Commit() {
    if (!Run("COMMIT")) return false;
    open_ = false;
    return true;
  }

 private:
  bool Run(const char* sql) {
    return sqlite3_exec(connection_, sql, nullptr, nullptr, nullptr) == SQLITE_OK;
  }
  sqlite3* connection_;
  bool open_ = false;
};

bool MayBeInWord(char byte) {
  return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') ||
         (byte >= 'A' && byte <= 'Z') || (byte & 0x80) != 0;
}

// A word that was cut between two blocks belongs to the first.
void JoinWords(WordBlock* before, WordBlock* after) {
  if (before->text.empty() || !MayBeInWord(before->text.back())) return;
  size_t moved = 0;
  while (moved < after->text.size() && moved < kMostMovedBytes && MayBeInWord(after->text[moved])) {
    ++moved;
  }
  before->text += after->text.substr(0, moved);
  after->text.erase(0, moved);
}

}  // namespace

WordIndex::WordIndex(std::unique_ptr<Database> database) : database_(std::move(database)) {}
WordIndex::~WordIndex() = default;

Result<std::unique_ptr<WordIndex>> WordIndex::Open(const std::string& path, bool read_only) {
  auto database = std::make_unique<Database>();
  database->name = path.empty() ? "a word index in RAM" : "the word index " + path;
  const int flags = SQLITE_OPEN_NOMUTEX |
                    (read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
  const std::string where = path.empty() ? ":memory:" : path;
  if (sqlite3_open_v2(where.c_str(), &database->connection, flags, nullptr) != SQLITE_OK) {
    return database->Error("opening");
  }
  sqlite3_extended_result_codes(database->connection, 0);
  sqlite3_busy_timeout(database->connection, kBusyMilliseconds);

  uint64_t application = 0, version = 0, tables = 0;
  {
    Statement ask(database->connection,
                  "SELECT (SELECT * FROM pragma_application_id()), "
                  "(SELECT * FROM pragma_user_version()), (SELECT count(*) FROM sqlite_schema)");
    if (!ask.Step()) return database->Error("opening");
    application = ask.Number(0), version = ask.Number(1), tables = ask.Number(2);
  }
  if (tables == 0 && !read_only) {
    EID_RETURN_IF_ERROR(
        database->Execute("PRAGMA application_id = " + std::to_string(kApplicationId) +
                          "; PRAGMA user_version = " + std::to_string(kVersion) + ";" + kSchema));
  } else if (application != kApplicationId || version != kVersion) {
    return Status(Code::kCorruption,
                  database->name + " has the mark " + std::to_string(application) +
                      " and the version " + std::to_string(version) + ", not " +
                      std::to_string(kApplicationId) + " and " + std::to_string(kVersion),
                  "remove it: it is made again from the archive");
  }
  if (!read_only) {
    EID_RETURN_IF_ERROR(database->Execute(
        "PRAGMA journal_mode = MEMORY; PRAGMA synchronous = OFF; PRAGMA secure_delete = ON;"));
  }
  return std::unique_ptr<WordIndex>(new WordIndex(std::move(database)));
}

// The ids of one lineage's blocks: first..end.
struct WordIndex::Extent {
  LineageId lineage = 0;
  uint64_t first = 0;
  uint64_t end = 0;
};

// All of them, in the order of ids.
class WordIndex::Extents {
 public:
  void Add(const Extent& extent) {
    extents_.push_back(extent);
    blocks_ += extent.end - extent.first;
  }
  uint64_t blocks() const { return blocks_; }
  // Null when no lineage has that block.
  const Extent* Of(uint64_t id) const {
    const auto after =
        std::upper_bound(extents_.begin(), extents_.end(), id,
                         [](uint64_t at, const Extent& extent) { return at < extent.first; });
    if (after == extents_.begin() || id >= std::prev(after)->end) return nullptr;
    return &*std::prev(after);
  }

 private:
  std::vector<Extent> extents_;
  uint64_t blocks_ = 0;
};

namespace {

// A block that a search found.
struct Candidate {
  double score;
  LineageId lineage;
  uint64_t id;
  bool operator<(const Candidate& other) const {
    return std::tie(other.score, lineage, id) < std::tie(score, other.lineage, other.id);
  }
  // Whether their places have a block in common.
  bool Overlaps(const Candidate& other) const {
    return lineage == other.lineage &&
           std::max(id, other.id) - std::min(id, other.id) < kMostPlaceBlocks;
  }
};

}  // namespace

Status WordIndex::AddBlock(const WordBlock& block, uint64_t* id) {
  Statement add(database_->connection, "INSERT INTO blocks(position, tokens) VALUES(?, ?)");
  add.Bind(block.position).Bind(static_cast<uint64_t>(block.tokens)).Step();
  if (!add.done()) return database_->Error("adding to");
  *id = static_cast<uint64_t>(sqlite3_last_insert_rowid(database_->connection));
  Statement words(database_->connection, "INSERT INTO words(rowid, text) VALUES(?, ?)");
  words.Bind(*id).Bind(block.text).Step();
  return words.done() ? Status() : database_->Error("adding to");
}

Status WordIndex::AddLineage(LineageId lineage, const std::string& tag,
                             std::vector<WordBlock> blocks) {
  for (size_t i = 1; i < blocks.size(); ++i) JoinWords(&blocks[i - 1], &blocks[i]);
  Transaction transaction(database_->connection);
  if (!transaction.Begin()) return database_->Error("adding to");
  Statement there(database_->connection, "SELECT 1 FROM lineages WHERE lineage = ?");
  if (there.Bind(lineage).Step()) {
    return Status(Code::kAlreadyExists,
                  "lineage " + std::to_string(lineage) + " is in " + database_->name);
  }
  uint64_t first = 0;
  for (size_t i = 0; i < blocks.size(); ++i) {
    uint64_t id = 0;
    EID_RETURN_IF_ERROR(AddBlock(blocks[i], &id));
    if (i == 0) first = id;
  }
  Statement add(database_->connection,
                "INSERT INTO lineages(lineage, tag, first, blocks) VALUES(?, ?, ?, ?)");
  add.Bind(lineage).Bind(tag).Bind(first).Bind(blocks.size()).Step();
  if (!add.done() || !transaction.Commit()) return database_->Error("adding to");
  return {};
}

Status WordIndex::Append(LineageId lineage, WordBlock block) {
  if (newest_) JoinWords(&*newest_, &block);
  std::optional<WordBlock> complete = std::exchange(newest_, std::move(block));
  if (!complete) return {};
  uint64_t id = 0;
  EID_RETURN_IF_ERROR(AddBlock(*complete, &id));
  Statement grow(database_->connection,
                 "INSERT INTO lineages(lineage, tag, first, blocks) VALUES(?, '', ?, 1) "
                 "ON CONFLICT DO UPDATE SET blocks = blocks + 1");
  grow.Bind(lineage).Bind(id).Step();
  return grow.done() ? Status() : database_->Error("adding to");
}

Status WordIndex::RemoveLineages(const std::vector<LineageId>& lineages) {
  Transaction transaction(database_->connection);
  if (!transaction.Begin()) return database_->Error("removing from");
  for (const LineageId lineage : lineages) {
    for (const char* sql : {"DELETE FROM words WHERE rowid IN (SELECT id FROM blocks, lineages "
                            "WHERE lineage = ? AND id >= first AND id < first + blocks)",
                            "DELETE FROM blocks WHERE id IN (SELECT id FROM blocks, lineages "
                            "WHERE lineage = ? AND id >= first AND id < first + blocks)",
                            "DELETE FROM lineages WHERE lineage = ?"}) {
      Statement remove(database_->connection, sql);
      remove.Bind(lineage).Step();
      if (!remove.done()) return database_->Error("removing from");
    }
  }
  // FTS5 only marks words as removed; merging all of it leaves them out.
  if (!lineages.empty()) {
    EID_RETURN_IF_ERROR(database_->Execute("INSERT INTO words(words) VALUES('optimize')"));
  }
  return transaction.Commit() ? Status() : database_->Error("removing from");
}

Result<std::map<LineageId, std::string>> WordIndex::Lineages() const {
  std::map<LineageId, std::string> lineages;
  Statement ask(database_->connection, "SELECT lineage, tag FROM lineages");
  while (ask.Step()) lineages[ask.Number(0)] = ask.Text(1);
  if (!ask.done()) return database_->Error("reading");
  return lineages;
}

Result<WordIndex::Extents> WordIndex::ReadExtents() const {
  Extents extents;
  Statement ask(database_->connection,
                "SELECT lineage, first, first + blocks FROM lineages WHERE blocks > 0 "
                "ORDER BY first");
  while (ask.Step()) extents.Add({ask.Number(0), ask.Number(1), ask.Number(2)});
  if (!ask.done()) return database_->Error("reading");
  return extents;
}

Result<WordHit> WordIndex::HitAround(const Extent& extent, uint64_t id, double score) const {
  const uint64_t first = std::max(extent.first, id - std::min<uint64_t>(id, kPlaceNeighbours));
  const uint64_t end = std::min(extent.end, id + kPlaceNeighbours + 1);
  WordHit hit{extent.lineage, 0, 0, score};
  Statement ask(database_->connection,
                "SELECT position, tokens FROM blocks WHERE id >= ? AND id < ? ORDER BY id");
  ask.Bind(first).Bind(end);
  while (ask.Step()) {
    if (hit.tokens == 0) hit.position = ask.Number(0);
    hit.tokens += static_cast<int>(ask.Number(1));
  }
  if (!ask.done()) return database_->Error("reading");
  return hit;
}

Status WordIndex::AddScores(const std::string& word, const Extents& extents, Scores* scores) const {
  Statement ask(database_->connection,
                "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid");
  const std::string query = QuotedWord(word);
  ask.Bind(query);
  struct Count {
    double holders = 0;  // weighted by nearness
    bool in_place = false;
  };
  std::unordered_map<uint64_t, Count> counts;
  auto count_at = [&](uint64_t id, size_t away) {
    Count& count = counts[id];
    count.holders += kNearness[away];
    count.in_place |= away <= kPlaceNeighbours;
  };
  uint64_t holders = 0;
  while (ask.Step()) {
    const uint64_t id = ask.Number(0);
    const Extent* extent = extents.Of(id);
    if (extent == nullptr) continue;
    ++holders;
    for (size_t away = 0; away < std::size(kNearness); ++away) {
      if (id + away < extent->end) count_at(id + away, away);
      if (away > 0 && id >= extent->first + away) count_at(id - away, away);
    }
  }
  if (!ask.done()) return database_->Error("searching");
  const double rarity = std::log(1 + (static_cast<double>(extents.blocks() - holders) + 0.5) /
                                         (static_cast<double>(holders) + 0.5));
  for (const auto& [id, count] : counts) {
    Score& score = (*scores)[id];
    score.value += rarity * count.holders * (kSaturation + 1) / (count.holders + kSaturation);
    score.in_place |= count.in_place;
  }
  return {};
}

Result<std::vector<WordHit>> WordIndex::Search(std::string_view text, size_t limit,
                                               const std::function<bool(LineageId)>& admits) const {
  EID_ASSIGN_OR_RETURN(const Extents extents, ReadExtents());
  Scores scores;
  for (const std::string& word : QueryWords(text)) {
    EID_RETURN_IF_ERROR(AddScores(word, extents, &scores));
  }
  std::vector<Candidate> candidates;
  for (const auto& [id, score] : scores) {
    const LineageId lineage = extents.Of(id)->lineage;
    if (score.in_place && (!admits || admits(lineage))) {
      candidates.push_back({score.value, lineage, id});
    }
  }
  std::sort(candidates.begin(), candidates.end());
  std::vector<Candidate> taken;
  for (const Candidate& candidate : candidates) {
    if (taken.size() >= limit) break;
    const bool overlaps = std::any_of(taken.begin(), taken.end(), [&](const Candidate& other) {
      return candidate.Overlaps(other);
    });
    if (!overlaps) taken.push_back(candidate);
  }
  std::vector<WordHit> hits;
  for (const Candidate& one : taken) {
    EID_ASSIGN_OR_RETURN(WordHit hit, HitAround(*extents.Of(one.id), one.id, one.score));
    hits.push_back(hit);
  }
  return hits;
}

}  // namespace eidetic::memory
