// Random interleavings of append, fork, rewind, forget, ingest, search and loss of power, with a
// model of what must be visible as the oracle: what was forgotten is in no record any more.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "memory/archive.h"
#include "memory/forgotten_bytes.h"
#include "memory/hash.h"
#include "memory/retriever.h"
#include "tests/memory/fault_record_store.h"
#include "tests/memory/session_turns.h"
#include "tests/seed.h"

namespace eidetic::memory {
namespace {

using testing::ExpectClean;
using testing::ExpectSession;
using testing::FaultRecordStore;
using testing::Plan;
using testing::RandomBlock;
using testing::SmallLayout;
using testing::TurnPlan;
using testing::TurnWriter;

constexpr uint64_t kSteps = 2000;
constexpr size_t kMostSessions = 5;
constexpr uint64_t kBlock = 32;  // tokens, and bytes, of a document's block
constexpr char kSources[][8] = {"a", "b", "c"};

struct BookPlan {
  uint64_t seed = 0;
  std::vector<uint64_t> blocks;  // numbers of those that are left
  uint64_t count = 0;            // before any was forgotten
};

struct World {
  std::map<std::string, Plan> sessions;
  std::map<std::string, BookPlan> books;
};

// Words and sentence of one block of a document, as long as the block.
std::string BlockText(uint64_t seed, uint64_t number) {
  std::string text = "fact s" + std::to_string(seed) + "n" + std::to_string(number) + " lies here ";
  text.resize(kBlock, ' ');
  return text;
}

std::string BookText(const BookPlan& book) {
  std::string text(book.count * kBlock, ' ');
  for (uint64_t number : book.blocks) {
    text.replace(number * kBlock, kBlock, BlockText(book.seed, number));
  }
  return text;
}

class ForgetProperty : public ::testing::Test {
 protected:
  void Open(std::shared_ptr<FaultRecordStore> records) {
    index_.reset();
    archive_.reset();
    records_ = std::move(records);
    ArchiveOptions options;
    options.path = "in RAM";
    options.create = true;
    options.pool_bytes = 256u << 10;
    EID_ASSERT_RESULT(archive_, Archive::OpenOver(records_, options));
    CollectionRecord collection;
    collection.name = "books";
    collection.layout = SmallLayout();
    EID_ASSERT_OK(archive_->EnsureCollection(collection).status());
  }

  uint64_t Draw(uint64_t below) { return random_() % below; }

  // One step: what it does to the world, and to the archive.
  struct Step {
    std::string what;
    std::function<void(World*)> apply;
    std::function<Status()> run;
  };

  Step NextStep(uint64_t number) {
    const uint64_t action = Draw(20);
    if (action < 3) return Ingest(number);
    if (action == 3 && !world_.books.empty()) return ForgetBook();
    if (action == 4 && !world_.books.empty()) return ForgetRange();
    if (world_.sessions.empty() || (action == 5 && world_.sessions.size() < kMostSessions)) {
      return Turn("s" + std::to_string(number), number);
    }
    const auto session = std::next(world_.sessions.begin(),
                                   static_cast<std::ptrdiff_t>(Draw(world_.sessions.size())));
    const auto& [name, plan] = *session;
    const size_t turn = 1 + Draw(plan.size());
    if (action == 6 && !plan[turn - 1].forgotten) return ForgetTurn(name, turn);
    if (action == 7 && Draw(3) == 0) return ForgetSession(name);
    if (plan.back().waiting) return ReadAgain(name);
    if (action == 8 && world_.sessions.size() < kMostSessions) {
      return Fork(name, turn, "s" + std::to_string(number));
    }
    if (action == 9) return Rewind(name, turn);
    if (action == 10 && world_.sessions.size() > 2) return Remove(name);
    return Turn(name, number);
  }

  Step Turn(const std::string& name, uint64_t number) {
    TurnPlan turn{number + 1, 1 + Draw(120), "", true};
    return {"turn of " + name, [=](World* world) { world->sessions[name].push_back(turn); },
            [=, this]() -> Status {
              const auto found = world_.sessions.find(name);
              EID_ASSIGN_OR_RETURN(
                  TurnWriter writer,
                  TurnWriter::Open(archive_.get(), name,
                                   found == world_.sessions.end() ? Plan() : found->second));
              return writer.Commit(turn).status();
            }};
  }

  Step ReadAgain(const std::string& name) {
    return {"reading " + name + " again",
            [=](World* world) {
              for (TurnPlan& turn : world->sessions[name]) turn.waiting = false;
            },
            [=, this]() -> Status {
              Plan plan = world_.sessions.at(name);
              EID_ASSIGN_OR_RETURN(const SessionHead head, archive_->sessions().Find(name));
              for (size_t i = 0; i < head.turns(); ++i) plan[i].waiting = false;
              EID_ASSIGN_OR_RETURN(TurnWriter writer, TurnWriter::Open(archive_.get(), name,
                                                                       testing::ReadTurns(plan)));
              return writer.ReadAgain(plan);
            }};
  }

  Step Fork(const std::string& name, size_t turn, const std::string& to) {
    return {"fork of " + name,
            [=](World* world) {
              world->sessions[to] = testing::FirstTurns(world->sessions.at(name), turn);
            },
            [=, this] { return archive_->sessions().Fork(name, turn, to, 1); }};
  }

  Step Rewind(const std::string& name, size_t turn) {
    return {"rewind of " + name,
            [=](World* world) {
              world->sessions[name] = testing::FirstTurns(world->sessions.at(name), turn);
            },
            [=, this] { return archive_->sessions().Rewind(name, turn, 1); }};
  }

  Step Remove(const std::string& name) {
    return {"removal of " + name, [=](World* world) { world->sessions.erase(name); },
            [=, this] { return archive_->sessions().Remove(name); }};
  }

  Step ForgetTurns(const std::string& what, const std::set<uint64_t>& seeds,
                   const ForgetRequest& request) {
    return {what,
            [=, this](World* world) {
              for (auto at = world->sessions.begin(); at != world->sessions.end();) {
                for (const TurnPlan& turn : at->second) {
                  if (!turn.forgotten && seeds.contains(turn.seed)) Gone(turn);
                }
                at->second = testing::WithoutTurns(std::move(at->second), seeds);
                at = at->second.empty() ? world->sessions.erase(at) : std::next(at);
              }
            },
            [=, this] { return archive_->Forget(request).status(); }};
  }

  Step ForgetTurn(const std::string& name, size_t turn) {
    ForgetRequest request;
    request.session = name;
    request.turn = turn;
    return ForgetTurns("forgetting turn " + std::to_string(turn) + " of " + name,
                       {world_.sessions.at(name)[turn - 1].seed}, request);
  }

  Step ForgetSession(const std::string& name) {
    std::set<uint64_t> seeds;
    for (const TurnPlan& turn : world_.sessions.at(name)) {
      if (!turn.forgotten) seeds.insert(turn.seed);
    }
    ForgetRequest request;
    request.session = name;
    return ForgetTurns("forgetting " + name, seeds, request);
  }

  Step Ingest(uint64_t number) {
    const std::string source = kSources[Draw(std::size(kSources))];
    BookPlan book;
    book.seed = 1000000 + number;  // no turn's: equal seeds make equal blocks
    book.count = 1 + Draw(8);
    for (uint64_t i = 0; i < book.count; ++i) book.blocks.push_back(i);
    const bool stays_unfinished = Draw(5) == 0;
    return {"ingest of " + source,
            [=, this](World* world) {
              if (stays_unfinished) return;
              if (const auto old = world->books.find(source); old != world->books.end()) {
                for (uint64_t block : old->second.blocks) Gone(old->second, block);
              }
              world->books[source] = book;
            },
            [=, this]() -> Status {
              const std::string text = BookText(book);
              EID_ASSIGN_OR_RETURN(
                  auto writer,
                  archive_->BeginDocument("books", source, Sha256Hex(text), text, text.size()));
              for (uint64_t block : book.blocks) {
                EID_RETURN_IF_ERROR(
                    writer->Append(RandomBlock(SmallLayout(), block * kBlock, kBlock, book.seed)));
                if (block == 2) EID_RETURN_IF_ERROR(writer->Commit("a reader's state"));
              }
              return stays_unfinished ? Status() : writer->Finish();
            }};
  }

  Step ForgetBook() {
    const auto book =
        std::next(world_.books.begin(), static_cast<std::ptrdiff_t>(Draw(world_.books.size())));
    ForgetRequest request;
    request.collection = "books";
    request.source = book->first;
    return {"forgetting " + book->first,
            [=, this, source = book->first](World* world) {
              for (uint64_t block : world->books.at(source).blocks) {
                Gone(world->books.at(source), block);
              }
              world->books.erase(source);
            },
            [=, this] { return archive_->Forget(request).status(); }};
  }

  Step ForgetRange() {
    const auto book =
        std::next(world_.books.begin(), static_cast<std::ptrdiff_t>(Draw(world_.books.size())));
    ForgetRequest request;
    request.collection = "books";
    request.source = book->first;
    request.has_range = true;
    const uint64_t bytes = book->second.count * kBlock;
    request.byte_begin = Draw(bytes);
    request.byte_end =
        request.byte_begin + 1 + Draw(std::min<uint64_t>(70, bytes - request.byte_begin));
    return {"forgetting a range of " + book->first,
            [=, this, source = book->first](World* world) {
              BookPlan& plan = world->books.at(source);
              std::vector<uint64_t> left;
              for (uint64_t block : plan.blocks) {
                const bool goes =
                    block * kBlock < request.byte_end && (block + 1) * kBlock > request.byte_begin;
                if (goes) Gone(plan, block);
                if (!goes) left.push_back(block);
              }
              plan.blocks = left;
              if (left.empty()) world->books.erase(source);
            },
            [=, this] { return archive_->Forget(request).status(); }};
  }

  // The step is done: what it forgot is looked for from now on.
  void Accept(const Step& step) {
    accepting_ = true;
    step.apply(&world_);
    accepting_ = false;
  }

  void Gone(const TurnPlan& turn) {
    if (!accepting_) return;
    gone_.Add(testing::TurnText(turn.seed));
    const TurnContent content = testing::TestContent(turn);
    gone_.Add({reinterpret_cast<const char*>(content.tokens.data()), 4 * content.tokens.size()},
              1u << 20);
  }
  void Gone(const BookPlan& book, uint64_t block) {
    if (!accepting_) return;
    gone_.Add(BlockText(book.seed, block).substr(0, 16), 1u << 20);
    const Block was = RandomBlock(SmallLayout(), block * kBlock, kBlock, book.seed);
    gone_.Add({reinterpret_cast<const char*>(was.header.tokens.data()), 16}, 1u << 20);
    gone_.Add(std::string_view(was.keys[0]).substr(0, 16), 1u << 20);
    words_.push_back("s" + std::to_string(book.seed) + "n" + std::to_string(block));
  }

  bool Matches(const World& world) {
    const auto heads = archive_->sessions().List();
    EXPECT_TRUE(heads.ok()) << testing::Explain(heads.status());
    why_ = "the sessions";
    for (const SessionHead& head : *heads) why_ += " " + head.name;
    why_ += ", not";
    for (const auto& [name, plan] : world.sessions) why_ += " " + name;
    if (heads->size() != world.sessions.size()) return false;
    for (const SessionHead& head : *heads) {
      const auto found = world.sessions.find(head.name);
      if (found == world.sessions.end()) return false;
      const auto waiting = archive_->sessions().Waiting(head.name);
      EXPECT_TRUE(waiting.ok()) << testing::Explain(waiting.status());
      const Plan& plan = found->second;
      why_ = "session " + head.name + " at turn " + std::to_string(head.turns()) + ", " +
             std::to_string(waiting->size()) + " waiting";
      if (head.turns() + waiting->size() != plan.size() ||
          head.turns() < testing::ReadTurns(plan).size() ||
          head.tokens() != testing::PlanTokens(testing::FirstTurns(plan, head.turns()))) {
        return false;
      }
    }
    for (const char* source : kSources) {
      const auto document = archive_->FindDocument("books", source);
      EXPECT_TRUE(document.ok()) << testing::Explain(document.status());
      const auto book = world.books.find(source);
      why_ = std::string("document ") + source;
      if (document->has_value() != (book != world.books.end())) return false;
      if (!document->has_value()) continue;
      if ((*document)->committed_blocks != book->second.blocks.size() ||
          archive_->Text((*document)->id, 0, (*document)->bytes).value() !=
              BookText(book->second)) {
        return false;
      }
    }
    return true;
  }

  void CheckAll() {
    ASSERT_TRUE(Matches(world_)) << why_;
    FileScan scan;
    EID_ASSERT_OK(records_->SearchFiles(gone_, &scan));
    for (const std::string& found : scan.found) ADD_FAILURE() << "not forgotten: " << found;
    for (size_t i = 0; i < 3 && !words_.empty(); ++i) {
      const std::string& word = words_[Draw(words_.size())];
      EXPECT_TRUE(archive_->SearchWords("books", word, 2)->empty()) << word;
    }
    for (const auto& [source, book] : world_.books) {
      const std::string word =
          "s" + std::to_string(book.seed) + "n" + std::to_string(book.blocks.back());
      EXPECT_EQ(archive_->SearchWords("books", word, 2)->size(), 1u) << word;
    }
    for (const auto& [name, plan] : world_.sessions) {
      EID_ASSERT_RESULT(const SessionHead head, archive_->sessions().Find(name));
      ExpectSession(*archive_, name, testing::FirstTurns(plan, head.turns()));
    }
    ASSERT_NO_FATAL_FAILURE(CheckSpan());
    ExpectClean(*archive_);
  }

  // What attention may find is what is left, in an index that is kept and brought up to date.
  void CheckSpan() {
    EID_ASSERT_RESULT(index_, archive_->Index("books", IndexKind::kInt8, 1));
    size_t blocks = 0;
    for (const auto& [source, book] : world_.books) blocks += book.blocks.size();
    EXPECT_EQ(index_->size(), blocks);
    std::normal_distribution<float> normal;
    std::vector<float> queries(4 * 8);  // [1 token, heads, head_dim]
    for (float& number : queries) number = normal(random_);
    RetrievalOptions options;
    options.k = 8;
    options.candidates = options.votes = 16;
    options.scale = 0.35f;
    options.threads = 1;
    std::vector<ChosenBlock> chosen;
    EID_ASSERT_OK(ChooseBlocks({{index_.get(), &archive_->store()}}, options,
                               {Draw(2) == 0 ? 3 : 7, queries.data(), 1, 4}, &chosen));
    EXPECT_EQ(chosen.empty(), blocks == 0);
    for (const ChosenBlock& choice : chosen) {
      EID_ASSERT_RESULT(const auto document, archive_->DocumentOfLineage(choice.block.lineage));
      ASSERT_TRUE(document);
      const auto book = world_.books.find(document->source);
      ASSERT_TRUE(book != world_.books.end()) << document->source;
      const std::vector<uint64_t>& left = book->second.blocks;
      EXPECT_NE(std::find(left.begin(), left.end(), choice.block.text_begin / kBlock), left.end());
    }
  }

  std::mt19937_64 random_{tests::Seed(20261126)};
  std::shared_ptr<FaultRecordStore> records_;
  std::shared_ptr<Archive> archive_;
  std::shared_ptr<const RepresentativeIndex> index_;  // as it was last looked into
  World world_;
  bool accepting_ = false;
  std::string why_;  // Matches() was false, the thing that it looked at
  ForgottenBytes gone_;
  std::vector<std::string> words_;
};

TEST_F(ForgetProperty, WhatIsForgottenIsSeenNowhereWhateverHappensAroundIt) {
  Open(std::make_shared<FaultRecordStore>());
  int lost = 0, forgotten = 0;
  for (uint64_t number = 0; number < kSteps; ++number) {
    const Step step = NextStep(number);
    SCOPED_TRACE("step " + std::to_string(number) + ", " + step.what);
    forgotten += step.what.starts_with("forgetting") ? 1 : 0;
    const bool power_fails = Draw(12) == 0;
    if (power_fails) {
      records_->FailWrite(1 + Draw(5), Status(Code::kIoError, "the power failed"), true);
    }
    const Status status = step.run();
    World after = world_;
    step.apply(&after);
    if (!power_fails) {
      EID_ASSERT_OK(status);
      Accept(step);
    } else {
      // Everything that was acknowledged, or nothing of it.
      Open(records_->AfterPowerLoss(Draw(records_->unsynced() + 1)));
      ++lost;
      const bool done = Matches(after);
      ASSERT_TRUE(done || (!status.ok() && Matches(world_)))
          << why_ << "; " << testing::Explain(status);
      if (done) Accept(step);
    }
    if (power_fails || number % 20 == 0) CheckAll();
    ASSERT_FALSE(HasFailure());
  }
  CheckAll();
  EXPECT_GT(lost, 100);
  EXPECT_GT(forgotten, 150);
  EXPECT_GT(gone_.size(), 1000u);
}

}  // namespace
}  // namespace eidetic::memory
