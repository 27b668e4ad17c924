// A session begins, or goes on from where its archive has it.
#include <algorithm>
#include <utility>

#include "sdk/error_wall.h"
#include "sdk/session.h"
#include "sdk/session_record.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;

namespace {

constexpr uint64_t kRamPoolBytes = 256u << 20;
constexpr int kVotes = 16;  // representatives each query token and head may vote for

model::AttentionMode ModelMode(SessionMode mode) {
  switch (mode) {
    case SessionMode::kFull:
      return model::AttentionMode::kFull;
    case SessionMode::kWindow:
      return model::AttentionMode::kWindow;
    case SessionMode::kStream:
    case SessionMode::kRandom:
      break;
  }
  return model::AttentionMode::kStream;
}

}  // namespace

Session::Session(std::shared_ptr<const Engine> engine, SessionOptions options,
                 std::shared_ptr<memory::Archive> archive)
    : engine_(std::move(engine)),
      options_(std::move(options)),
      archive_(std::move(archive)),
      sampler_(options_.seed) {}

Session::~Session() = default;

Result<std::unique_ptr<Session>> Session::Create(std::shared_ptr<const Engine> engine,
                                                 const SessionOptions& options,
                                                 std::shared_ptr<memory::Archive> archive) {
  return BehindWall([&]() -> Result<std::unique_ptr<Session>> {
    EID_RETURN_IF_ERROR(options.Validate(engine->model().config()));
    if (archive != nullptr) {
      if (options.name.empty()) {
        return Status(Code::kInvalidArgument, "a session in an archive needs a name",
                      "set a name, or make a session without an archive");
      }
      if (archive->read_only()) {
        return Status(Code::kInvalidArgument,
                      "the archive at '" + archive->path() +
                          "' was opened read-only: no session can be begun in it",
                      "open it without read_only, or make a session without an archive");
      }
      for (const Status& there : {archive->sessions().Find(options.name).status(),
                                  archive->SessionRecord(options.name).status()}) {
        // A damaged one is not overwritten.
        if (there.code() == Code::kNotFound) continue;
        EID_RETURN_IF_ERROR(there);
        return Status(Code::kAlreadyExists,
                      "a session named '" + options.name + "' is in '" + archive->path() + "'",
                      "open it, or choose another name");
      }
    }
    std::unique_ptr<Session> session(new Session(std::move(engine), options, std::move(archive)));
    EID_RETURN_IF_ERROR(session->Begin());
    return session;
  });
}

Result<std::unique_ptr<Session>> Session::Open(
    std::shared_ptr<const Engine> engine, std::shared_ptr<memory::Archive> archive,
    const std::string& name, std::function<bool(const AppendProgress&)> progress) {
  return BehindWall([&]() -> Result<std::unique_ptr<Session>> {
    SessionOptions options;
    options.name = name;
    std::unique_ptr<Session> session(new Session(std::move(engine), options, archive));
    if (progress) session->TellOpeningTo(std::move(progress));
    const Result<memory::SessionHead> head = archive->sessions().Find(name);
    if (head.status().code() == Code::kNotFound) {
      EID_ASSIGN_OR_RETURN(const std::string record, archive->SessionRecord(name));
      EID_RETURN_IF_ERROR(session->Restore(record));
    } else {
      EID_RETURN_IF_ERROR(head.status());
      EID_RETURN_IF_ERROR(session->RestoreTurns(head.value()));
    }
    session->TellOpeningTo({});
    return session;
  });
}

// A fresh state at position 0.
Status Session::Begin() {
  if (options_.span_layers.empty()) {
    options_.span_layers = engine_->model().config().AttentionLayers();
  }
  std::sort(options_.span_layers.begin(), options_.span_layers.end());
  state_ = NewState();
  return OpenOwnMemory({});
}

std::unique_ptr<model::ModelState> Session::NewState() const {
  model::AttentionOptions attention;
  attention.mode = ModelMode(options_.mode);
  attention.window = options_.window;
  attention.sinks = options_.sinks;
  attention.query_offset = options_.query_offset;
  attention.span_layers = options_.span_layers;
  return engine_->model().NewState(attention);
}

Status Session::OpenOwnMemory(const SavedPast& saved) {
  past_path_ = saved.path;
  memory::RetrievalOptions retrieval;
  retrieval.k = options_.span_blocks;
  retrieval.candidates = options_.candidate_blocks;
  retrieval.successors = options_.successor_blocks;
  retrieval.linger = options_.linger;
  retrieval.votes = kVotes;
  retrieval.scale = engine_->model().config().attention_scale;
  retrieval.threads = engine_->threads();
  recall_ = std::make_unique<Recall>(
      retrieval,
      options_.mode == SessionMode::kRandom ? RecallChoice::kRandom : RecallChoice::kAttention,
      options_.seed);
  recall_->SetRefresh([this] { return RefreshSources(); });
  recall_->SetPolicy(options_.policy, options_.words);

  const bool keeps_past = options_.HasSpan() && !options_.forget_own_past;
  const bool in_ram = archive_ == nullptr || archive_->read_only();
  if (in_ram && !keeps_past) return Status();
  if (in_ram) {
    EID_ASSIGN_OR_RETURN(ram_store_,
                         memory::BlockStore::Open(memory::NewRamRecordStore(), kRamPoolBytes,
                                                  /*read_only=*/false));
  }
  store_ = in_ram ? ram_store_.get() : &archive_->store();
  const memory::Layout layout = engine_->LayoutOf(options_.span_layers, options_.codec);
  EID_RETURN_IF_ERROR(OpenLineage(layout, saved));
  if (!keeps_past) return Status();

  const auto add_past = [&](const memory::BlockStore* store) {
    past_.push_back({std::make_unique<memory::RepresentativeIndex>(layout, memory::IndexKind::kInt8,
                                                                   engine_->threads()),
                     store});
  };
  if (!saved.path.empty()) {
    add_past(&archive_->store());
    EID_RETURN_IF_ERROR(ReadSavedPast(saved));
  }
  if (past_.empty() || in_ram) add_past(store_);
  MakeSink();
  return Status();
}

Status Session::OpenLineage(const memory::Layout& layout, const SavedPast& saved) {
  const std::string owner = "session/" + options_.name;
  if (saved.writes == 0) {
    const uint64_t begin = saved.path.empty() ? 0 : saved.path.back().blocks;
    EID_ASSIGN_OR_RETURN(lineage_, store_->NewLineage(layout, owner, begin));
  } else if (store_ == ram_store_.get()) {
    EID_ASSIGN_OR_RETURN(const memory::LineageRecord record,
                         archive_->store().Lineage(saved.writes));
    EID_ASSIGN_OR_RETURN(lineage_, store_->NewLineage(layout, owner, record.committed_tokens));
  } else {
    EID_ASSIGN_OR_RETURN(lineage_, store_->ResumeLineage(saved.writes));
  }
  return Status();
}

Status Session::ReadSavedPast(const SavedPast& saved) {
  for (const memory::PathEntry& entry : saved.path) {
    EID_RETURN_IF_ERROR(archive_->store().ScanBlocks(
        entry.lineage,
        [this](const memory::BlockHeader& header, const std::vector<uint16_t>& representatives) {
          if (header.position < static_cast<uint64_t>(options_.sinks)) return Status();
          return past_.back().index->Add(header, representatives);
        },
        std::min(entry.blocks, saved.indexed)));
  }
  return Status();
}

Status Session::CheckFingerprint(const std::string& fingerprint) const {
  if (fingerprint == engine_->fingerprint()) return Status();
  return Status(Code::kFingerprintMismatch,
                "session '" + options_.name + "' was made by a model with fingerprint " +
                    fingerprint.substr(0, 12) + "..., this model has " +
                    engine_->fingerprint().substr(0, 12) + "...",
                "open it with the model that made it");
}

Status Session::DamagedRecord(const std::string& what) const {
  return Status(Code::kCorruption, "the record of session '" + options_.name + "': " + what,
                "restore the archive from a backup");
}

Status Session::CheckSaved(const SessionOptions& options,
                           const std::vector<int32_t>& tokens) const {
  const Status valid = options.Validate(engine_->model().config());
  if (!valid.ok()) return DamagedRecord(valid.message());
  if (options.HasSpan() && options.span_layers.empty()) {
    return DamagedRecord("it names no span layers");
  }
  const auto vocabulary = static_cast<size_t>(engine_->tokenizer().vocabulary());
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && static_cast<size_t>(tokens[i]) < vocabulary) continue;
    return DamagedRecord("token " + std::to_string(i) + " has id " + std::to_string(tokens[i]) +
                         ", the vocabulary has " + std::to_string(vocabulary));
  }
  return Status();
}

// But for the model's state, which checks itself.
Status Session::CheckRecord(const SessionRecord& record) const {
  EID_RETURN_IF_ERROR(CheckSaved(record.options, record.tokens));
  const size_t logits = record.tokens.empty() ? 0 : engine_->model().config().vocabulary;
  if (record.logits.size() != logits) {
    return DamagedRecord("it has " + std::to_string(record.logits.size()) + " logits, not " +
                         std::to_string(logits));
  }
  const Result<memory::LineageRecord> lineage = archive_->store().Lineage(record.lineage);
  if (!lineage.ok()) return DamagedRecord(lineage.status().message());
  if (lineage->owner != "session/" + options_.name ||
      !(lineage->layout == engine_->LayoutOf(record.options.span_layers, record.options.codec))) {
    return DamagedRecord("its lineage " + std::to_string(record.lineage) + " belongs to " +
                         lineage->owner + ", or has another layout");
  }
  return Status();
}

Status Session::Restore(const std::string& bytes) {
  EID_ASSIGN_OR_RETURN(SessionRecord record, DecodeSessionRecord(bytes, options_.name));
  EID_RETURN_IF_ERROR(CheckFingerprint(record.fingerprint));
  EID_RETURN_IF_ERROR(CheckRecord(record));
  options_ = record.options;
  TakeTokens(record.tokens);
  logits_ = std::move(record.logits);
  sampler_.Restore(record.sampler);
  sampler_seeded_ = record.sampler_seeded;
  turn_open_ = record.turn_open;
  state_ = engine_->model().RestoreState(record.model_state);
  if (state_->position() != tokens_.size()) {
    return Status(Code::kCorruption,
                  "session '" + options_.name + "': its state stands at token " +
                      std::to_string(state_->position()) + ", its text at " +
                      std::to_string(tokens_.size()),
                  "restore the archive from a backup");
  }
  SavedPast saved;
  saved.path = {{record.lineage, 0, tokens_.size(), UINT64_MAX}};
  saved.writes = record.lineage;
  EID_RETURN_IF_ERROR(OpenOwnMemory(saved));
  recall_->SetRandomState(record.recall_random);
  EID_RETURN_IF_ERROR(AttachThere(record.collections));
  // All of it goes into the next turn; in which passes it was read is not known.
  if (!tokens_.empty()) {
    log_.AddPass(tokens_.size(), /*use_span=*/false);
    log_.MarkNotReplayable();
    log_.AddPart("", /*generated=*/false, UnloggedText());
  }
  dirty_ = true;
  return RestorePins(record.pins);
}

}  // namespace eidetic::sdk
