#include "memory/word_index.h"

#include <sqlite3.h>

#include <algorithm>

#include <utility>

#include "memory/word_query.h"

namespace eidetic::memory {
namespace {

constexpr int kApplicationId = 0x65696477;  // "eidw"
constexpr int kVersion = 1;                 // of the tables below: another one is made anew
constexpr int kBusyMilliseconds = 2000;

constexpr char kSchema[] = R"sql(
CREATE TABLE lineages(lineage INTEGER PRIMARY KEY, tag TEXT NOT NULL);
CREATE TABLE places(id INTEGER PRIMARY KEY, lineage INTEGER NOT NULL, position INTEGER NOT NULL,
                    tokens INTEGER NOT NULL);
CREATE INDEX places_by_lineage ON places(lineage);
CREATE VIRTUAL TABLE words USING fts5(text, tokenize = "porter unicode61 remove_diacritics 2");
)sql";

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

bool Overlap(const WordHit& a, const WordHit& b) {
  return a.lineage == b.lineage && a.position < b.position + static_cast<uint64_t>(b.tokens) &&
         b.position < a.position + static_cast<uint64_t>(a.tokens);
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

Status WordIndex::AddPlace(LineageId lineage, const WordBlock* blocks, size_t count) {
  std::string text;
  uint64_t tokens = 0;
  for (size_t i = 0; i < count; ++i) {
    text += blocks[i].text;
    tokens += static_cast<uint64_t>(blocks[i].tokens);
  }
  Statement place(database_->connection,
                  "INSERT INTO places(lineage, position, tokens) VALUES(?, ?, ?)");
  place.Bind(lineage).Bind(blocks[0].position).Bind(tokens).Step();
  if (!place.done()) return database_->Error("adding to");
  const auto id = static_cast<uint64_t>(sqlite3_last_insert_rowid(database_->connection));
  Statement words(database_->connection, "INSERT INTO words(rowid, text) VALUES(?, ?)");
  words.Bind(id).Bind(text).Step();
  return words.done() ? Status() : database_->Error("adding to");
}

Status WordIndex::AddLineage(LineageId lineage, const std::string& tag,
                             const std::vector<WordBlock>& blocks) {
  Transaction transaction(database_->connection);
  if (!transaction.Begin()) return database_->Error("adding to");
  {
    Statement there(database_->connection, "SELECT 1 FROM lineages WHERE lineage = ?");
    if (there.Bind(lineage).Step()) {
      return Status(Code::kAlreadyExists,
                    "lineage " + std::to_string(lineage) + " is in " + database_->name);
    }
    Statement add(database_->connection, "INSERT INTO lineages(lineage, tag) VALUES(?, ?)");
    add.Bind(lineage).Bind(tag).Step();
    if (!add.done()) return database_->Error("adding to");
  }
  const size_t together = std::min<size_t>(kPlaceBlocks, blocks.size());
  for (size_t first = 0; together > 0 && first + together <= blocks.size(); ++first) {
    EID_RETURN_IF_ERROR(AddPlace(lineage, &blocks[first], together));
  }
  return transaction.Commit() ? Status() : database_->Error("adding to");
}

Status WordIndex::Append(LineageId lineage, const WordBlock& block) {
  std::vector<WordBlock>& last = growing_[lineage];
  last.push_back(block);
  if (last.size() < static_cast<size_t>(kPlaceBlocks)) return {};
  const Status status = AddPlace(lineage, last.data(), last.size());
  last.erase(last.begin());
  return status;
}

Status WordIndex::RemoveLineages(const std::vector<LineageId>& lineages) {
  Transaction transaction(database_->connection);
  if (!transaction.Begin()) return database_->Error("removing from");
  for (const LineageId lineage : lineages) {
    growing_.erase(lineage);
    for (const char* sql :
         {"DELETE FROM words WHERE rowid IN (SELECT id FROM places WHERE lineage = ?)",
          "DELETE FROM places WHERE lineage = ?", "DELETE FROM lineages WHERE lineage = ?"}) {
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

Result<std::vector<WordHit>> WordIndex::Search(std::string_view text, size_t limit,
                                               const std::function<bool(LineageId)>& admits) const {
  std::vector<WordHit> hits;
  const std::string query = AnyOfWords(QueryWords(text));
  if (query.empty() || limit == 0) return hits;
  Statement ask(database_->connection,
                "SELECT lineage, position, tokens, rank FROM words JOIN places ON id = words.rowid "
                "WHERE words MATCH ? ORDER BY rank, lineage, position");
  ask.Bind(query);
  while (hits.size() < limit && ask.Step()) {
    const WordHit hit{ask.Number(0), ask.Number(1), static_cast<int>(ask.Number(2)), -ask.Real(3)};
    if (admits && !admits(hit.lineage)) continue;
    const bool overlaps = std::any_of(hits.begin(), hits.end(),
                                      [&](const WordHit& other) { return Overlap(hit, other); });
    if (!overlaps) hits.push_back(hit);
  }
  if (hits.size() < limit && !ask.done()) return database_->Error("searching");
  return hits;
}

}  // namespace eidetic::memory
