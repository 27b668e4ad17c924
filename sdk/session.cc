// A token's way through a session.
//
// It comes with a text (Append), a message of a conversation (AppendMessage) or is drawn from the
// logits behind the last one (Generate). Read looks up the words of a question, whose places are
// pinned into the span (session_pins.cc). AppendTokens cuts what is read into segments; Forward
// sends one through the model, whose attention layers ask Recall (memory_bridge.h) for a span of
// the blocks that their queries like best, out of all that session_sources.cc has attached. Tokens
// that leave the window there come back through the sink of MakeSink as blocks of the session's
// lineage, which the next token may recall. What was read becomes durable as a turn
// (session_turns.cc).
#include "sdk/session.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "sdk/chat_tokens.h"
#include "sdk/clock.h"
#include "sdk/error_wall.h"

namespace eidetic::sdk {

using memory::Code;
using memory::Result;
using memory::Status;

namespace {

// -log softmax(logits)[token]; the sum in double, whose rounding is far below fp32's.
float TokenLoss(const std::vector<float>& logits, int32_t token) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - top);
  return static_cast<float>(std::log(sum)) - (logits[static_cast<size_t>(token)] - top);
}

constexpr size_t kPenalisedTokens = 256;  // how far back the repetition penalty looks

}  // namespace

Status Session::Append(const std::vector<int32_t>& tokens, bool use_span,
                       const std::function<bool(const AppendProgress&)>& progress,
                       std::string_view words, std::vector<float>* losses, bool keep_beginning) {
  const Status read = Read(tokens, use_span, progress, words, losses, keep_beginning);
  log_.AddPart("", /*generated=*/false, UnloggedText());
  return read;
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
  const Status read = Read(tokens, use_span, progress, words.empty() ? text : words, nullptr,
                           /*keep_beginning=*/false);
  // Stopped in the middle, it was not the whole message.
  log_.AddPart(role, /*generated=*/false, read.ok() ? text : UnloggedText());
  if (tokens_.size() > before) turn_open_ = false;  // also when it was stopped further on
  return read;
}

Status Session::Read(const std::vector<int32_t>& tokens, bool use_span,
                     const std::function<bool(const AppendProgress&)>& progress,
                     std::string_view words, std::vector<float>* losses, bool keep_beginning) {
  return BehindWall([&]() -> Status {
    EID_RETURN_IF_ERROR(CheckUsable());
    EID_RETURN_IF_ERROR(CheckTokens(tokens));
    if (use_span && options_.policy != memory::RecallPolicy::kAttention) {
      EID_RETURN_IF_ERROR(
          PinPlacesOf(words.empty() ? engine_->tokenizer().Decode(tokens) : std::string(words)));
    }
    return AppendTokens(tokens, use_span, progress, losses, keep_beginning);
  });
}

Status Session::AppendTokens(const std::vector<int32_t>& tokens, bool use_span,
                             const std::function<bool(const AppendProgress&)>& progress,
                             std::vector<float>* losses, bool keep_beginning) {
  return BehindWall([&]() -> Status {
    EID_RETURN_IF_ERROR(RefreshSources());
    // One pass that hands over no block: its state is all that it leaves.
    const bool kept = keep_beginning && tokens_.empty() && !use_span && losses == nullptr &&
                      tokens.size() <= static_cast<size_t>(options_.segment) &&
                      tokens.size() <= static_cast<size_t>(options_.window);
    if (use_span && !record_open_) {
      recall_->ClearRecord();
      record_open_ = true;
    }
    const Clock::time_point start = Clock::now();
    for (size_t begin = 0; begin < tokens.size();) {
      const size_t end = std::min(tokens.size(), begin + static_cast<size_t>(options_.segment));
      Forward({tokens.begin() + static_cast<std::ptrdiff_t>(begin),
               tokens.begin() + static_cast<std::ptrdiff_t>(end)},
              use_span, /*answering=*/false, losses, kept);
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

// One segment through the model: the only place where a token meets the weights.
void Session::Forward(const std::vector<int32_t>& segment, bool use_span, bool answering,
                      std::vector<float>* losses, bool keep_beginning) {
  const Clock::time_point start = Clock::now();
  if (losses != nullptr)
    logits();  // the first loss is by those before; nothing is taken if it fails
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
  if (forward.span == nullptr || log_.view_changed()) recall_->ForgetLastChoice();
  forward.sink = sink_.get();
  forward.report_attention = true;
  forward.logit_rows = losses != nullptr ? 1 : 0;
  std::vector<float> last;    // the logits behind the segment, and
  std::vector<double> inner;  // the losses of its tokens but the first, when losses are wanted
  if (losses != nullptr) forward.losses = &inner;
  recall_->SetAnswering(answering);
  broken_ = true;  // until the pass is through
  const bool taken = keep_beginning && TakeKeptBeginning(segment);
  if (!taken) engine_->model().Forward(segment, state_.get(), forward, &last);
  logits_due_ = losses == nullptr;
  if (losses != nullptr) TakeLosses(segment[0], inner, std::move(last), losses);
  if (sink_ != nullptr) ThrowIfError(lineage_->Flush());
  broken_ = false;
  forward_seconds_ += SecondsSince(start);
  // Those of several rows at once need not have the bits of one row's.
  logits_apart_ = losses != nullptr;
  if (replayed_turn_ != 0) return;
  dirty_ = true;
  log_.AddPass(segment.size(), forward.span != nullptr);
  const bool foreign =
      std::any_of(attachments_.begin(), attachments_.end(),
                  [this](const Attachment& attached) { return attached.archive != archive_; });
  if (forward.span != nullptr && foreign) log_.MarkNotReplayable();
  // At last: where there is no memory for it, the tokens are read and logged all the same.
  if (keep_beginning && !taken) engine_->beginnings().Keep(engine_->model(), *state_, segment);
}

bool Session::TakeKeptBeginning(const std::vector<int32_t>& tokens) {
  auto kept = engine_->beginnings().Find(engine_->model(), state_->options(), tokens);
  if (kept == nullptr) return false;
  state_ = std::move(kept);
  return true;
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

Result<GenerateResult> Session::Generate(const GenerateOptions& options) {
  return BehindWall([&]() -> Result<GenerateResult> {
    EID_RETURN_IF_ERROR(CheckUsable());
    const Clock::time_point start = Clock::now();
    model::CheckSamplingOptions(options.sampling);  // before anything is read
    if (options.assistant_turn) {
      EID_RETURN_IF_ERROR(
          AppendTokens(AssistantHeaderTokens(engine_->tokenizer()), !options.memory_off, {}));
    }
    if (logits().empty()) {
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
      const int32_t token = sampler_.Sample(logits(), recent, options.sampling);
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

void Session::TakeTokens(const std::vector<int32_t>& tokens) {
  uint64_t text_end = text_ends_.empty() ? 0 : text_ends_.back();
  for (int32_t token : tokens) {
    text_end += engine_->tokenizer().TokenBytes(token).size();
    tokens_.push_back(token);
    text_ends_.push_back(text_end);
  }
}

void Session::TakeLosses(int32_t first, const std::vector<double>& inner, std::vector<float> last,
                         std::vector<float>* losses) {
  losses->push_back(logits_.empty() ? std::numeric_limits<float>::quiet_NaN()
                                    : TokenLoss(logits_, first));
  for (const double loss : inner) losses->push_back(static_cast<float>(loss));
  logits_ = std::move(last);
}

const std::vector<float>& Session::logits() const {
  if (logits_due_) engine_->model().Logits(*state_, &logits_);
  logits_due_ = false;
  return logits_;
}

std::string Session::TextOf(uint64_t token_begin, uint64_t token_end) const {
  std::string text;
  for (uint64_t i = token_begin; i < token_end; ++i) {
    text += engine_->tokenizer().TokenBytes(tokens_[i]);
  }
  return text;
}

Status Session::CheckUsable() const {
  if (!broken_) return Status();
  return Status(Code::kInvalidArgument,
                "this session was stopped by an error in the middle of a forward pass",
                "free it; if it was saved, open it again");
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

}  // namespace eidetic::sdk
