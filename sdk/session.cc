#include "sdk/session.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "sdk/chat_tokens.h"
#include "sdk/clock.h"
#include "sdk/error_wall.h"
#include "sdk/reports.h"
#include "sdk/session_record.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;

namespace {

// -log softmax(logits)[token]; the sum in double, whose rounding is far below fp32's.
float TokenLoss(const float* logits, size_t vocabulary, int32_t token) {
  const float top = *std::max_element(logits, logits + vocabulary);
  double sum = 0;
  for (size_t i = 0; i < vocabulary; ++i) sum += std::exp(logits[i] - top);
  return static_cast<float>(std::log(sum)) - (logits[token] - top);
}

constexpr uint64_t kRamPoolBytes = 256u << 20;
constexpr int kVotes = 16;                // representatives each query token and head may vote for
constexpr size_t kPenalisedTokens = 256;  // how far back the repetition penalty looks

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

// As retrieval profiles and the archive's readers have them.
constexpr int kMostTokens = 1 << 24;
constexpr int kMostSinks = 65536;
constexpr int kMostSpanBlocks = 4096;
constexpr int kMostCandidates = 1 << 20;
constexpr int kMostWordPlaces = 1 << 20;

Status CheckRange(const char* what, int value, int least, int most) {
  if (value >= least && value <= most) return Status();
  return Status(Code::kInvalidArgument,
                std::string(what) + " is " + std::to_string(value) + ", must be " +
                    std::to_string(least) + " to " + std::to_string(most),
                "correct it, or leave it 0 for the default");
}

}  // namespace

const char* SessionModeName(SessionMode mode) {
  switch (mode) {
    case SessionMode::kStream:
      return "stream";
    case SessionMode::kWindow:
      return "window";
    case SessionMode::kFull:
      return "full";
    case SessionMode::kRandom:
      return "random";
  }
  return "unknown";
}

Status SessionOptions::Validate(const model::ModelConfig& config) const {
  EID_RETURN_IF_ERROR(CheckRange("window", window, 1, kMostTokens));
  EID_RETURN_IF_ERROR(CheckRange("sinks", sinks, 0, kMostSinks));
  EID_RETURN_IF_ERROR(CheckRange("segment", segment, 1, kMostTokens));
  EID_RETURN_IF_ERROR(CheckRange("span_blocks", span_blocks, 1, kMostSpanBlocks));
  EID_RETURN_IF_ERROR(CheckRange("candidate_blocks", candidate_blocks, 0, kMostCandidates));
  EID_RETURN_IF_ERROR(CheckRange("query_offset", query_offset, 0, kMostTokens));
  EID_RETURN_IF_ERROR(CheckRange("layer_group", layer_group, 1, kMostLayerGroup));
  if (candidate_blocks != 0 && candidate_blocks < span_blocks) {
    return Status(Code::kInvalidArgument,
                  "candidate_blocks is " + std::to_string(candidate_blocks) +
                      ", fewer than the span_blocks, " + std::to_string(span_blocks),
                  "raise candidate_blocks, or lower span_blocks");
  }
  EID_RETURN_IF_ERROR(CheckRange("word_places", words.places, 0, kMostWordPlaces));
  for (const double threshold : {words.place_threshold, words.attention_threshold}) {
    if (threshold >= 0 && threshold <= 1) continue;
    return Status(
        Code::kInvalidArgument,
        "a threshold of the words' share is " + std::to_string(threshold) + ", must be 0 to 1",
        "correct it, or leave it 0 for the default");
  }
  if (policy != memory::RecallPolicy::kAttention && mode != SessionMode::kStream) {
    return Status(Code::kInvalidArgument,
                  std::string("recall by '") + RecallPolicyName(policy) + "' in mode '" +
                      SessionModeName(mode) + "'",
                  "words are searched in mode 'stream' alone");
  }
  const std::vector<int> attention = config.AttentionLayers();
  for (int layer : span_layers) {
    if (std::binary_search(attention.begin(), attention.end(), layer)) continue;
    std::string known;
    for (int one : attention) known += (known.empty() ? "" : ", ") + std::to_string(one);
    return Status(Code::kInvalidArgument,
                  "a span layer is " + std::to_string(layer) + ", which is no attention layer",
                  "choose among the model's attention layers: " + known);
  }
  return Status();
}

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

// Evicted tokens become blocks of the session's lineage and are searchable at once. The sinks stay
// in attention for good, so their block is kept but not searched.
void Session::MakeSink() {
  auto text_offset = [this](uint64_t position) {
    return position == 0 ? 0 : text_ends_[position - 1];
  };
  auto append = [this](memory::Block block) -> Status {
    if (replayed_turn_ != 0) return ReplayBlock(block);
    memory::BlockHeader header = block.header;
    const std::vector<uint16_t> representatives = block.representatives;
    EID_RETURN_IF_ERROR(lineage_->Append(std::move(block), &header.id));
    if (header.position < static_cast<uint64_t>(options_.sinks)) return Status();
    header.lineage = lineage_->lineage();
    return past_.back().index->Add(header, representatives);
  };
  sink_ = std::make_unique<BlockWriter>(lineage_->layout(), text_offset, append);
}

Status Session::Attach(std::shared_ptr<memory::Archive> archive, const std::string& collection) {
  return BehindWall([&]() -> Status {
    if (!options_.HasSpan()) {
      return Status(Code::kInvalidArgument,
                    std::string("a session in mode '") + SessionModeName(options_.mode) +
                        "' has no span to recall into",
                    "make the session in mode 'stream'");
    }
    EID_ASSIGN_OR_RETURN(memory::CollectionRecord record, archive->Collection(collection));
    if (record.layout.fingerprint != engine_->fingerprint()) {
      return Status(Code::kFingerprintMismatch,
                    "collection '" + collection + "' was made by a model with fingerprint " +
                        record.layout.fingerprint.substr(0, 12) + "..., this model has " +
                        engine_->fingerprint().substr(0, 12) + "...",
                    "use the model that made it, or have this one read it again: `eidetic archive "
                    "migrate`");
    }
    for (int layer : options_.span_layers) {
      if (record.layout.LayerIndex(layer) < 0) {
        return Status(Code::kInvalidArgument,
                      "span layer " + std::to_string(layer) + " was not stored in collection '" +
                          collection + "'",
                      "choose span layers among the stored ones, or ingest again");
      }
    }
    for (const Attachment& attached : attachments_) {
      if (attached.archive == archive && attached.collection == collection) return Status();
    }
    EID_ASSIGN_OR_RETURN(std::shared_ptr<const memory::RepresentativeIndex> index,
                         archive->Index(collection, memory::IndexKind::kInt8, engine_->threads()));
    attachments_.push_back({std::move(archive), collection, std::move(index)});
    dirty_ = true;
    return Status();
  });
}

// Own past first, then the collections in order of attachment, each with its newest index: what was
// removed meanwhile is gone from it (rule 4).
Status Session::RefreshSources() {
  if (replayed_turn_ != 0) {
    return Status(Code::kNotFound,
                  "a document was removed while session '" + options_.name +
                      "' was read again to turn " + std::to_string(replayed_turn_),
                  "open the session once more");
  }
  if (broken_) log_.MarkNotReplayable();  // in the middle of a pass
  std::vector<memory::RetrievalSource> sources;
  for (const OwnPast& past : past_) sources.push_back({past.index.get(), past.store});
  std::vector<std::shared_ptr<const memory::RepresentativeIndex>> newest;
  EID_RETURN_IF_ERROR(DropForgottenCollections());
  for (const Attachment& attached : attachments_) {
    EID_ASSIGN_OR_RETURN(
        auto index,
        attached.archive->Index(attached.collection, memory::IndexKind::kInt8, engine_->threads()));
    sources.push_back({index.get(), &attached.archive->store()});
    newest.push_back(std::move(index));
  }
  recall_->SetSources(std::move(sources));
  ShareChoices(/*own_past_alone=*/attachments_.empty());
  // Only now may the old ones go.
  for (size_t i = 0; i < newest.size(); ++i) attachments_[i].index = std::move(newest[i]);
  EID_RETURN_IF_ERROR(DropRemovedPins());
  log_.BeginView(CurrentView());
  return Status();
}

// A choice for several layers is as good in a running session, and loses where a fresh one asks a
// collection (docs/decisions/097).
void Session::ShareChoices(bool own_past_alone) {
  recall_->ShareChoices(options_.span_layers, own_past_alone ? options_.layer_group : 1);
}

// Collections that were forgotten as a whole, or that another model has read since (rule 4). Their
// pins, and what the record says of them, go with them.
Status Session::DropForgottenCollections() {
  for (size_t i = 0; i < attachments_.size();) {
    EID_ASSIGN_OR_RETURN(const bool there,
                         IsOfThisModel(*attachments_[i].archive, attachments_[i].collection));
    if (there) {
      ++i;
      continue;
    }
    recall_->DropSource(FirstAttachment() + static_cast<int>(i));
    attachments_.erase(attachments_.begin() + static_cast<std::ptrdiff_t>(i));
    dirty_ = true;
  }
  return Status();
}

Result<bool> Session::IsOfThisModel(const memory::Archive& archive,
                                    const std::string& collection) const {
  const Result<memory::CollectionRecord> there = archive.Collection(collection);
  if (there.ok()) return there->layout.fingerprint == engine_->fingerprint();
  if (there.status().code() != Code::kNotFound) return there.status();
  return false;
}

Status Session::DropRemovedPins() {
  std::vector<memory::PinnedBlock> kept;
  for (const memory::PinnedBlock& pin : recall_->pinned()) {
    if (pin.source >= FirstAttachment()) {
      const Attachment& attached =
          attachments_[static_cast<size_t>(pin.source - FirstAttachment())];
      EID_ASSIGN_OR_RETURN(const std::optional<memory::DocumentRecord> document,
                           attached.archive->DocumentOfLineage(pin.block.lineage));
      if (!document) continue;
    }
    kept.push_back(pin);
  }
  recall_->SetPinned(std::move(kept));
  return Status();
}

std::string Session::TextOf(uint64_t token_begin, uint64_t token_end) const {
  std::string text;
  for (uint64_t i = token_begin; i < token_end; ++i) {
    text += engine_->tokenizer().TokenBytes(tokens_[i]);
  }
  return text;
}

Status Session::PinPlacesOf(std::string_view words) {
  const auto limit = static_cast<size_t>(options_.words.places);
  std::vector<memory::FoundPlace> found;
  for (size_t i = 0; i < past_.size(); ++i) {
    EID_ASSIGN_OR_RETURN(
        std::vector<memory::FoundPlace> places,
        past_[i].words.Search(
            *past_[i].index, [this](uint64_t begin, uint64_t end) { return TextOf(begin, end); },
            words, limit));
    for (memory::FoundPlace& place : places) {
      place.source = static_cast<int>(i);
      found.push_back(std::move(place));
    }
  }
  for (size_t i = 0; i < attachments_.size(); ++i) {
    EID_ASSIGN_OR_RETURN(
        std::vector<memory::WordPlace> places,
        attachments_[i].archive->SearchWords(attachments_[i].collection, words, limit));
    for (memory::WordPlace& place : places) {
      found.push_back(
          {FirstAttachment() + static_cast<int>(i), std::move(place.blocks), place.score});
    }
  }
  recall_->SetPinned(memory::PinPlaces(std::move(found), options_.words));
  return Status();
}

Status Session::CheckUsable() const {
  if (!broken_) return Status();
  return Status(Code::kInvalidArgument,
                "this session was stopped by an error in the middle of a forward pass",
                "free it; if it was saved, open it again");
}

void Session::TakeTokens(const std::vector<int32_t>& tokens) {
  uint64_t text_end = text_ends_.empty() ? 0 : text_ends_.back();
  for (int32_t token : tokens) {
    text_end += engine_->tokenizer().TokenBytes(token).size();
    tokens_.push_back(token);
    text_ends_.push_back(text_end);
  }
}

// The losses of a segment's tokens, and the logits behind its last one.
void Session::TakeLosses(const std::vector<int32_t>& segment, const std::vector<float>& logits,
                         std::vector<float>* losses) {
  const size_t vocabulary = logits.size() / segment.size();
  losses->push_back(logits_.empty() ? std::numeric_limits<float>::quiet_NaN()
                                    : TokenLoss(logits_.data(), vocabulary, segment[0]));
  for (size_t i = 1; i < segment.size(); ++i) {
    losses->push_back(TokenLoss(logits.data() + (i - 1) * vocabulary, vocabulary, segment[i]));
  }
  logits_.assign(logits.end() - static_cast<std::ptrdiff_t>(vocabulary), logits.end());
}

// One segment through the model: the only place where a token meets the weights.
void Session::Forward(const std::vector<int32_t>& segment, bool use_span, bool answering,
                      std::vector<float>* losses) {
  const Clock::time_point start = Clock::now();
  TakeTokens(segment);
  const auto& sources = recall_->sources();
  const bool anything_to_recall =
      options_.policy == memory::RecallPolicy::kWords
          ? !recall_->pinned().empty()
          : std::any_of(sources.begin(), sources.end(), [](const memory::RetrievalSource& source) {
              return source.index->size() > 0;
            });
  model::ForwardOptions forward;
  if (use_span && options_.HasSpan() && anything_to_recall) forward.span = recall_.get();
  forward.sink = sink_.get();
  forward.report_attention = true;
  forward.logits = losses != nullptr ? model::WantLogits::kAll : model::WantLogits::kLast;
  std::vector<float> logits;  // of the whole segment, when losses are wanted
  recall_->SetAnswering(answering);
  broken_ = true;  // until the pass is through
  engine_->model().Forward(segment, state_.get(), forward, losses != nullptr ? &logits : &logits_);
  if (losses != nullptr) TakeLosses(segment, logits, losses);
  if (sink_ != nullptr) ThrowIfError(lineage_->Flush());
  broken_ = false;
  forward_seconds_ += SecondsSince(start);
  // Those of all rows at once need not have the bits of one row's.
  logits_apart_ = losses != nullptr;
  if (replayed_turn_ != 0) return;
  dirty_ = true;
  log_.AddPass(segment.size(), forward.span != nullptr);
  const bool foreign =
      std::any_of(attachments_.begin(), attachments_.end(),
                  [this](const Attachment& attached) { return attached.archive != archive_; });
  if (forward.span != nullptr && foreign) log_.MarkNotReplayable();
}

Status Session::CheckTokens(const std::vector<int32_t>& tokens) const {
  if (tokens.empty()) {
    return Status(Code::kInvalidArgument, "there are no tokens to read",
                  "pass a text with at least one token");
  }
  const int vocabulary = engine_->tokenizer().vocabulary();
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocabulary) continue;
    return Status(Code::kInvalidArgument,
                  "token " + std::to_string(i) + " has id " + std::to_string(tokens[i]) +
                      ", the vocabulary has 0.." + std::to_string(vocabulary - 1),
                  "pass tokens of this model's own tokenizer");
  }
  return Status();
}

Status Session::Append(const std::vector<int32_t>& tokens, bool use_span,
                       const std::function<bool(const AppendProgress&)>& progress,
                       std::string_view words, std::vector<float>* losses) {
  const Status read = Read(tokens, use_span, progress, words, losses);
  log_.AddPart("", /*generated=*/false, UnloggedText());
  return read;
}

Status Session::Read(const std::vector<int32_t>& tokens, bool use_span,
                     const std::function<bool(const AppendProgress&)>& progress,
                     std::string_view words, std::vector<float>* losses) {
  return BehindWall([&]() -> Status {
    EID_RETURN_IF_ERROR(CheckUsable());
    EID_RETURN_IF_ERROR(CheckTokens(tokens));
    if (use_span && options_.policy != memory::RecallPolicy::kAttention) {
      EID_RETURN_IF_ERROR(
          PinPlacesOf(words.empty() ? engine_->tokenizer().Decode(tokens) : std::string(words)));
    }
    return AppendTokens(tokens, use_span, progress, losses);
  });
}

Status Session::AppendTokens(const std::vector<int32_t>& tokens, bool use_span,
                             const std::function<bool(const AppendProgress&)>& progress,
                             std::vector<float>* losses) {
  return BehindWall([&]() -> Status {
    EID_RETURN_IF_ERROR(RefreshSources());
    if (use_span && !record_open_) {
      recall_->ClearRecord();
      record_open_ = true;
    }
    const Clock::time_point start = Clock::now();
    for (size_t begin = 0; begin < tokens.size();) {
      const size_t end = std::min(tokens.size(), begin + static_cast<size_t>(options_.segment));
      Forward({tokens.begin() + static_cast<std::ptrdiff_t>(begin),
               tokens.begin() + static_cast<std::ptrdiff_t>(end)},
              use_span, /*answering=*/false, losses);
      begin = end;
      if (progress && !progress({begin, tokens.size(), SecondsSince(start)})) {
        return Status(Code::kCancelled,
                      "reading was stopped after " + std::to_string(begin) + " of " +
                          std::to_string(tokens.size()) + " tokens",
                      "the session holds what was read; append the rest to go on");
      }
    }
    return Status();
  });
}

Status Session::AppendMessage(const std::string& role, const std::string& text, bool use_span,
                              const std::function<bool(const AppendProgress&)>& progress,
                              std::string_view words) {
  std::vector<int32_t> tokens;
  Status rendered = BehindWall([&]() -> Status {
    tokens = MessageTokens(engine_->tokenizer(), role, text, tokens_.empty(), turn_open_);
    return Status();
  });
  EID_RETURN_IF_ERROR(rendered);
  const size_t before = tokens_.size();
  const Status read = Read(tokens, use_span, progress, words.empty() ? text : words, nullptr);
  // Stopped in the middle, it was not the whole message.
  log_.AddPart(role, /*generated=*/false, read.ok() ? text : UnloggedText());
  if (tokens_.size() > before) turn_open_ = false;  // also when it was stopped further on
  return read;
}

Result<GenerateResult> Session::Generate(const GenerateOptions& options) {
  return BehindWall([&]() -> Result<GenerateResult> {
    EID_RETURN_IF_ERROR(CheckUsable());
    const Clock::time_point start = Clock::now();
    model::CheckSamplingOptions(options.sampling);  // before anything is read
    if (options.assistant_turn) {
      EID_RETURN_IF_ERROR(
          AppendTokens(AssistantHeaderTokens(engine_->tokenizer()), !options.memory_off, {}));
    }
    if (logits_.empty()) {
      return Status(Code::kInvalidArgument, "the session has read nothing to go on from",
                    "append a prompt first");
    }
    EID_RETURN_IF_ERROR(RefreshSources());
    if (!record_open_) recall_->ClearRecord();
    record_open_ = false;
    // Greedy answers draw nothing: the seed of the first that does counts.
    if (!sampler_seeded_ && options.sampling.temperature != 0) {
      sampler_ = model::Sampler(options.seed);
      sampler_seeded_ = true;
    }
    dirty_ = true;

    GenerateResult result;
    model::StreamingDetokenizer detokenizer(engine_->shared_tokenizer());
    StopTextFilter filter(options.stop);
    auto emit = [&](const std::string& piece) {
      result.text += piece;
      return piece.empty() || !options.on_text || options.on_text(piece);
    };
    bool go_on = true;
    bool ended = false;
    while (go_on && !ended && result.tokens < static_cast<size_t>(options.max_tokens)) {
      const size_t looked_at = std::min(tokens_.size(), kPenalisedTokens);
      const std::vector<int32_t> recent(tokens_.end() - static_cast<std::ptrdiff_t>(looked_at),
                                        tokens_.end());
      const int32_t token = sampler_.Sample(logits_, recent, options.sampling);
      ended = engine_->tokenizer().IsEnd(token);
      if (ended) break;
      ++result.tokens;
      if (result.tokens == 1) result.first_token_seconds = SecondsSince(start);
      go_on = emit(filter.Push(detokenizer.Push(token)));
      Forward({token}, !options.memory_off, /*answering=*/true);
      if (filter.stopped()) break;
    }
    if (!filter.stopped() && go_on) go_on = emit(filter.Push(detokenizer.Finish()));
    if (!filter.stopped() && go_on) go_on = emit(filter.Finish());
    result.reason = ended              ? StopReason::kEnd
                    : filter.stopped() ? StopReason::kText
                    : !go_on           ? StopReason::kCaller
                                       : StopReason::kLimit;
    if (options.assistant_turn) {
      turn_open_ = !ended;
      if (ended) {
        Forward(TurnEndTokens(engine_->tokenizer()), /*use_span=*/false, /*answering=*/false);
      }
    }
    log_.AddPart(options.assistant_turn ? "assistant" : "", /*generated=*/true, result.text);
    result.seconds = SecondsSince(start);
    return result;
  });
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

std::vector<PassageSource> Session::PassageSources() const {
  std::vector<PassageSource> sources;
  for (size_t i = 0; i < past_.size(); ++i) {
    PassageSource own;
    own.session = options_.name;
    own.text = [this](uint64_t begin, uint64_t end) {
      return engine_->tokenizer().Decode({tokens_.begin() + static_cast<std::ptrdiff_t>(begin),
                                          tokens_.begin() + static_cast<std::ptrdiff_t>(end)});
    };
    sources.push_back(std::move(own));
  }
  for (const Attachment& attached : attachments_) {
    PassageSource source;
    source.collection = attached.collection;
    source.archive = attached.archive.get();
    sources.push_back(std::move(source));
  }
  return sources;
}

Result<std::vector<Passage>> Session::Sources(size_t limit, PassageOrder order) const {
  return BehindWall([&]() -> Result<std::vector<Passage>> {
    return PassagesOf(recall_->record(), PassageSources(), limit, order,
                      engine_->profile().focus_layer);
  });
}

std::string Session::InfoJson() const {
  const RecallRecord& record = recall_->record();
  int64_t memory_blocks = 0;
  for (const OwnPast& past : past_) memory_blocks += past.index->size();
  nlohmann::json info = {
      {"name", options_.name},
      {"mode", SessionModeName(options_.mode)},
      {"policy", RecallPolicyName(options_.policy)},
      {"options",
       {{"window", options_.window},
        {"sinks", options_.sinks},
        {"segment", options_.segment},
        {"span_blocks", options_.span_blocks},
        {"candidate_blocks", options_.candidate_blocks},
        {"query_offset", options_.query_offset},
        {"layer_group", options_.layer_group},
        {"codec", kernels::CodecName(options_.codec)},
        {"forget_own_past", options_.forget_own_past},
        {"span_layers", options_.span_layers},
        {"word_places", options_.words.places},
        {"seed", options_.seed}}},
      {"archive", archive_ != nullptr ? nlohmann::json(archive_->path()) : nlohmann::json()},
      {"position", tokens_.size()},
      {"turns", committed_turns_},
      {"window_begin", state_->window_begin()},
      {"state_bytes", state_->bytes()},
      {"memory_blocks", memory_blocks},
      {"collections", nlohmann::json::array()},
      {"last_answer",
       {{"selections", record.selections},
        {"recall_seconds", record.seconds},
        {"pinned_blocks", recall_->pinned().size()}}},
      {"forward_seconds", forward_seconds_}};
  for (const Attachment& attached : attachments_) {
    info["collections"].push_back({{"name", attached.collection},
                                   {"archive", attached.archive->path()},
                                   {"blocks", attached.index->size()},
                                   {"index_bytes", attached.index->bytes()},
                                   {"pool", PoolJson(attached.archive->store().pool_stats())}});
  }
  if (store_ != nullptr) info["pool"] = PoolJson(store_->pool_stats());
  return info.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace eidetic::sdk
