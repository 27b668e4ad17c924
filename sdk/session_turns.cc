// Session's turns: committing them, and going on from one.
#include <algorithm>
#include <utility>

#include "memory/hash.h"
#include "model/packed_floats.h"
#include "sdk/clock.h"
#include "sdk/error_wall.h"
#include "sdk/session.h"
#include "sdk/turn_record.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;

namespace {

// What reading a turn again must lead to.
uint64_t StateChecksum(const std::string& recurrent) {
  return memory::RecordChecksum("state", recurrent);
}

// Four more save 0.5 % of a turn, for a millisecond of its commit.
constexpr size_t kStateTerms = 4;

// The state ends with the SSM states, one matrix a head, and those of the convolutions.
model::PackedShape ShapeOfState(const model::ModelConfig& config, size_t bytes) {
  const model::MambaConfig& mamba = config.mamba;
  const int64_t of_layer = int64_t{mamba.heads} * mamba.head_dim * mamba.state +
                           int64_t{mamba.conv_width - 1} * mamba.ConvChannels();
  const size_t numbers = config.MambaLayers().size() * static_cast<size_t>(of_layer);
  return {.rows = static_cast<uint32_t>(mamba.head_dim),
          .columns = static_cast<uint32_t>(mamba.state),
          .begin = bytes - std::min(bytes, numbers * sizeof(float)),
          .terms = kStateTerms};
}

std::string PackState(const model::ModelConfig& config, const std::string& recurrent) {
  return model::PackFloats(recurrent, ShapeOfState(config, recurrent.size()));
}

std::vector<model::StateRows> RowsOf(memory::Snapshot* snapshot) {
  std::vector<model::StateRows> rows;
  for (memory::WindowRows& piece : snapshot->rows) {
    rows.push_back({piece.begin, piece.end, model::UnpackFloats(std::move(piece.bytes))});
  }
  return rows;
}

}  // namespace

// --- committing ---------------------------------------------------------------------------------

Status Session::CheckCanCommit() const {
  EID_RETURN_IF_ERROR(CheckUsable());
  if (archive_ == nullptr) {
    return Status(Code::kInvalidArgument, "this session lives in RAM and cannot be saved",
                  "make it with an archive and a name");
  }
  if (archive_->read_only()) {
    return Status(Code::kInvalidArgument,
                  "session '" + options_.name + "' is of the archive at '" + archive_->path() +
                      "', which was opened read-only: it cannot be saved",
                  "open the archive without read_only, and the session in it");
  }
  return Status();
}

std::string Session::UnloggedText() const {
  const auto count = static_cast<std::ptrdiff_t>(log_.tokens_without_part());
  return engine_->tokenizer().Decode({tokens_.end() - count, tokens_.end()});
}

memory::RecallView Session::CurrentView() const {
  memory::RecallView view;
  for (const Attachment& attached : attachments_) {
    if (attached.archive != archive_) continue;  // such a turn is not replayed
    view.collections.push_back(memory::ViewOf(attached.collection, attached.index->lineages()));
  }
  view.choice = EncodePins(SavedPins());
  return view;
}

memory::TurnContent Session::ContentSinceCommit(const std::string& recurrent) const {
  memory::TurnContent content;
  content.tokens.assign(tokens_.end() - static_cast<std::ptrdiff_t>(log_.tokens()), tokens_.end());
  content.passes = log_.passes();
  content.views = log_.views();
  content.parts = log_.parts();
  // What was read before a call failed.
  if (log_.tokens_without_part() > 0) {
    content.parts.push_back(
        {"", false, static_cast<uint32_t>(log_.tokens_without_part()), UnloggedText()});
  }
  TurnResume resume;
  resume.sampler = sampler_.Serialize();
  resume.sampler_seeded = sampler_seeded_;
  resume.recall_random = recall_->random_state();
  resume.turn_open = turn_open_;
  for (const Attachment& attached : attachments_) {
    if (attached.archive == archive_) resume.collections.push_back(attached.collection);
  }
  resume.pins = SavedPins();
  resume.state_checksum = StateChecksum(recurrent);
  if (logits_apart_ || !engine_->model().Logits(*state_, nullptr)) resume.logits = logits();
  content.resume = EncodeResume(resume);
  return content;
}

// A head's keys, or values, of a piece are one matrix.
memory::RowsOf Session::WindowRows() const {
  return [this](uint64_t begin, uint64_t end) {
    return BehindWall([&]() -> Result<std::string> {
      return model::PackFloats(
          state_->SerializeRows(begin, end),
          {.rows = static_cast<uint32_t>(end - begin),
           .columns = static_cast<uint32_t>(engine_->model().config().head_dim)});
    });
  };
}

Result<CommittedTurn> Session::CommitTurn(const std::string& name) {
  return BehindWall([&]() -> Result<CommittedTurn> {
    EID_RETURN_IF_ERROR(CheckCanCommit());
    CommittedTurn told;
    told.turn = committed_turns_;
    if (!dirty_ && name.empty() && committed_turns_ > 0) return told;
    return CommitLogged(name, /*waiting=*/false);
  });
}

Result<CommittedTurn> Session::CommitLogged(const std::string& name, bool waiting) {
  return BehindWall([&]() -> Result<CommittedTurn> {
    CommittedTurn told;
    const Clock::time_point start = Clock::now();
    memory::TurnCommit commit;
    commit.settings = EncodeSettings({engine_->fingerprint(), options_});
    commit.name = name;
    commit.time = MillisecondsSince1970();
    {
      const std::string recurrent = state_->SerializeRecurrent();
      commit.content = ContentSinceCommit(recurrent);
      commit.state = PackState(engine_->model().config(), recurrent);
    }
    commit.window_begin = state_->window_begin();
    commit.sinks = state_->sink_count();
    commit.replayable = log_.replayable();
    commit.waiting = waiting;
    commit.rows = WindowRows();
    EID_ASSIGN_OR_RETURN(
        const memory::TurnReceipt receipt,
        archive_->sessions().CommitTurn(options_.name, lineage_.get(), std::move(commit)));
    told.turn = committed_turns_ = receipt.turn.turn;
    told.tokens = receipt.turn.token_end - receipt.turn.token_begin;
    told.bytes = receipt.bytes + lineage_->bytes_appended() - committed_blocks_bytes_;
    told.seconds = SecondsSince(start);
    committed_blocks_bytes_ = lineage_->bytes_appended();
    log_.Clear();
    recall_->ForgetLastChoice();  // who opens the turn later does not have it either
    dirty_ = false;
    return told;
  });
}

// --- opening ------------------------------------------------------------------------------------

Status Session::ApplyResume(const TurnResume& resume) {
  sampler_.Restore(resume.sampler);
  sampler_seeded_ = resume.sampler_seeded;
  turn_open_ = resume.turn_open;
  recall_->SetRandomState(resume.recall_random);
  if (resume.logits.empty()) return Status();
  if (resume.logits.size() != static_cast<size_t>(engine_->model().config().vocabulary)) {
    return DamagedRecord("a turn has " + std::to_string(resume.logits.size()) + " logits");
  }
  logits_ = resume.logits;
  logits_due_ = false;
  logits_apart_ = true;
  return Status();
}

// From the last turn that has a snapshot; the turns behind it are read again.
Status Session::RestoreTurns(const memory::SessionHead& head) {
  EID_ASSIGN_OR_RETURN(const SessionSettings settings, DecodeSettings(head.settings, head.name));
  EID_RETURN_IF_ERROR(CheckFingerprint(settings.fingerprint));
  EID_RETURN_IF_ERROR(CheckSaved(settings.options, {}));
  EID_RETURN_IF_ERROR(CheckPath(head, settings.options));
  options_ = settings.options;
  const memory::SessionStore& store = archive_->sessions();
  EID_ASSIGN_OR_RETURN(const std::vector<memory::TurnHeader> turns, store.Turns(head.name));
  size_t from = turns.size();
  while (from > 0 && !turns[from - 1].has_snapshot()) --from;

  std::vector<memory::TurnContent> to_read;
  TurnResume resume;
  for (size_t i = 0; i < turns.size(); ++i) {
    EID_ASSIGN_OR_RETURN(memory::TurnContent content, store.Content(turns[i]));
    EID_RETURN_IF_ERROR(CheckSaved(options_, content.tokens));
    if (i < from) TakeTokens(content.tokens);
    if (i + 1 == from) {
      EID_ASSIGN_OR_RETURN(resume, DecodeResume(content.resume, head.name));
    }
    if (i >= from) to_read.push_back(std::move(content));
  }
  EID_RETURN_IF_ERROR(CountOpening(to_read));
  if (from == 0) {
    state_ = NewState();
  } else {
    EID_ASSIGN_OR_RETURN(memory::Snapshot snapshot, store.ReadSnapshot(head, turns[from - 1]));
    state_ = engine_->model().RestoreState(model::UnpackFloats(std::move(snapshot.state)),
                                           RowsOf(&snapshot));
    engine_->model().Logits(*state_, &logits_);
  }
  if (state_->position() != tokens_.size()) {
    return Status(Code::kCorruption,
                  "session '" + head.name + "': its state stands at token " +
                      std::to_string(state_->position()) + ", its text at " +
                      std::to_string(tokens_.size()),
                  "restore the archive from a backup");
  }
  SavedPast saved;
  saved.path = head.path;
  saved.writes = head.writes;
  saved.indexed = from == 0 ? 0 : turns[from - 1].blocks;
  EID_RETURN_IF_ERROR(OpenOwnMemory(saved));
  if (from > 0) EID_RETURN_IF_ERROR(ApplyResume(resume));

  path_ = head.path;
  for (size_t i = from; i < turns.size(); ++i) {
    if (const Status read = Replay(turns[i], to_read[i - from]); !read.ok()) {
      // The session is there, so this is not for the caller to take as "begin it".
      return read.code() == Code::kNotFound
                 ? Status(Code::kUnsupported,
                          "session '" + head.name + "' cannot be read again to turn " +
                              std::to_string(turns[i].turn) + ": " + read.message(),
                          "rewind it to a turn that has a snapshot: `eidetic sessions show` marks "
                          "them")
                 : read;
    }
    EID_ASSIGN_OR_RETURN(resume, DecodeResume(to_read[i - from].resume, head.name));
    if (StateChecksum(state_->SerializeRecurrent()) != resume.state_checksum) {
      return ReadDifferently(turns[i].turn);
    }
    EID_RETURN_IF_ERROR(ApplyResume(resume));
  }
  path_.clear();
  recall_->SetSources({});
  replay_indexes_.clear();
  recall_->ClearRecord();
  committed_turns_ = turns.size();
  EID_RETURN_IF_ERROR(AttachThere(resume.collections));
  EID_RETURN_IF_ERROR(RestorePins(resume.pins));
  dirty_ = false;
  if (from < turns.size() && !archive_->read_only()) {
    // So that the next opening need not read again.
    EID_RETURN_IF_ERROR(archive_->sessions().PutSnapshot(
        head.name, PackState(engine_->model().config(), state_->SerializeRecurrent()),
        WindowRows()));
  }
  return ReadWaitingTurns();
}

Status Session::CheckPath(const memory::SessionHead& head, const SessionOptions& options) const {
  for (const memory::PathEntry& entry : head.path) {
    const Result<memory::LineageRecord> lineage = archive_->store().Lineage(entry.lineage);
    if (!lineage.ok()) return DamagedRecord(lineage.status().message());
    if (lineage->layout == engine_->LayoutOf(options.span_layers, options.codec)) continue;
    return DamagedRecord("its lineage " + std::to_string(entry.lineage) + " has another layout");
  }
  return Status();
}

Status Session::Replay(const memory::TurnHeader& turn, const memory::TurnContent& content) {
  if (!turn.replayable) {
    return Status(Code::kCorruption,
                  "session '" + options_.name + "': turn " + std::to_string(turn.turn) +
                      " cannot be read again, and its state is missing",
                  "rewind the session to an earlier turn");
  }
  replayed_turn_ = turn.turn;
  auto at = content.tokens.begin();
  uint16_t view = 0;  // of the last pass
  for (const memory::PassRun& run : content.passes) {
    if (std::exchange(view, run.view) != run.view) recall_->ForgetLastChoice();
    if (run.use_span) EID_RETURN_IF_ERROR(ReplaySources(content.views[run.view]));
    for (uint32_t i = 0; i < run.times; ++i) {
      const auto end = at + static_cast<std::ptrdiff_t>(run.tokens);
      Forward({at, end}, run.use_span, /*answering=*/false);
      EID_RETURN_IF_ERROR(TellOpening(run.tokens));
      at = end;
    }
  }
  recall_->ForgetLastChoice();  // as when it was committed
  replayed_turn_ = 0;
  return Status();
}

// The collections as they were: documents that came since are left out.
Status Session::ReplaySources(const memory::RecallView& view) {
  std::vector<std::string> collections;
  std::vector<memory::RetrievalSource> sources;
  if (!past_.empty()) {
    sources.push_back({past_.front().index.get(), past_.front().store, /*is_one_text=*/true});
  }
  for (const memory::CollectionView& wanted : view.collections) {
    collections.push_back(wanted.collection);
    const auto known = std::find_if(replay_indexes_.begin(), replay_indexes_.end(),
                                    [&](const auto& one) { return one.first == wanted; });
    if (known != replay_indexes_.end()) {
      sources.push_back({known->second.get(), &archive_->store()});
      continue;
    }
    EID_ASSIGN_OR_RETURN(std::shared_ptr<const memory::RepresentativeIndex> index,
                         IndexOfView(wanted));
    sources.push_back({index.get(), &archive_->store()});
    replay_indexes_.emplace_back(wanted, std::move(index));
  }
  EID_ASSIGN_OR_RETURN(const std::vector<SavedPin> pins, DecodePins(view.choice, options_.name));
  EID_ASSIGN_OR_RETURN(std::vector<memory::PinnedBlock> pinned,
                       PinnedBlocksOf(pins, past_.empty() ? 0 : 1, collections, Missing::kRefused));
  recall_->SetSources(std::move(sources));
  ShareChoices(/*own_past_alone=*/view.collections.empty());
  recall_->SetPinned(std::move(pinned));
  return Status();
}

Result<std::shared_ptr<const memory::RepresentativeIndex>> Session::IndexOfView(
    const memory::CollectionView& view) const {
  EID_ASSIGN_OR_RETURN(
      std::shared_ptr<const memory::RepresentativeIndex> now,
      archive_->Index(view.collection, memory::IndexKind::kInt8, engine_->threads()));
  if (memory::ViewOf(view.collection, now->lineages()) == view) return now;
  EID_ASSIGN_OR_RETURN(const std::vector<memory::LineageId> lineages,
                       memory::LineagesOfView(view, now->lineages()));
  EID_ASSIGN_OR_RETURN(const std::vector<memory::DocumentRecord> documents,
                       archive_->Documents(view.collection));
  auto index = std::make_shared<memory::RepresentativeIndex>(
      now->layout(), memory::IndexKind::kInt8, engine_->threads());
  // In the order in which the archive adds them: equal scores are told apart by it.
  for (const memory::DocumentRecord& document : documents) {
    if (!std::binary_search(lineages.begin(), lineages.end(), document.lineage)) continue;
    EID_RETURN_IF_ERROR(
        index->AddLineage(archive_->store(), document.lineage, memory::IndexedBlocks::kWithText));
  }
  return std::shared_ptr<const memory::RepresentativeIndex>(std::move(index));
}

// What leaves the window while turns are read again is stored already.
Status Session::ReplayBlock(const memory::Block& block) {
  const uint64_t position = block.header.position;
  const auto entry = std::find_if(path_.begin(), path_.end(), [&](const memory::PathEntry& one) {
    return position < one.blocks;
  });
  if (entry == path_.end()) return ReadDifferently(replayed_turn_);
  memory::BlockHeader header;
  std::vector<uint16_t> representatives;
  OwnPast& past = past_.front();
  EID_RETURN_IF_ERROR(past.store->ReadBlock(entry->lineage, position, &header, &representatives));
  if (header.tokens != block.header.tokens || representatives != block.representatives) {
    return ReadDifferently(replayed_turn_);
  }
  if (position < static_cast<uint64_t>(options_.sinks)) return Status();
  return past.index->Add(header, representatives);
}

Status Session::ReadDifferently(uint64_t turn) const {
  return Status(Code::kUnsupported,
                "session '" + options_.name + "': reading turn " + std::to_string(turn) +
                    " again leads to another state than it left: the model is computed "
                    "differently here",
                "use the device, the number of threads and the version of eidetic that made it, or "
                "rewind the session to a turn that has a snapshot");
}

}  // namespace eidetic::sdk
