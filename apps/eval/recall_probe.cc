#include "apps/eval/recall_probe.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <functional>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <thread>
#include <utility>

namespace eidetic::eval {
namespace {

constexpr const char* kNeedles = "needles";
constexpr const char* kHeldOut = "held-out-";
constexpr std::size_t kHeldOutKeys = 4;
constexpr std::size_t kMostTexts = 4;
// The span is chosen once a segment: several times in a text.
constexpr int kTextSegment = 64;
// Read without memory before a text goes on with it, as a question's preface is: a span before the
// first tokens of a session, which attention leans on, disturbs a model.
constexpr std::ptrdiff_t kTextLead = 64;
constexpr int kLookTokens = 8;
// Of a session that recalls its own past: nearly all that it reads is past.
constexpr int kOwnWindow = 256;

// -log softmax(logits)[token], summed in double.
double loss_of(const std::vector<float>& logits, std::int32_t token) {
  const float top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - top);
  return std::log(sum) - (static_cast<double>(logits[static_cast<std::size_t>(token)]) - top);
}

bool is_greedy(const std::vector<float>& logits, std::int32_t token) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin() == token;
}

// NaN of nothing.
double mean(const std::vector<double>& values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double share_of(const Passage& passage, std::int32_t layer) {
  for (const eid_layer_share& share : passage.layers) {
    if (share.layer == layer) return share.attention;
  }
  return 0;
}

}  // namespace

PairedDifference paired_difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.empty()) return {};
  const auto count = static_cast<double>(a.size());
  std::vector<double> differences(a.size());
  std::transform(b.begin(), b.end(), a.begin(), differences.begin(), std::minus<>());
  PairedDifference result{mean(differences), 0};
  double squares = 0;
  for (const double difference : differences) {
    squares += (difference - result.mean) * (difference - result.mean);
  }
  if (count > 1) result.error = std::sqrt(squares / (count - 1) / count);
  return result;
}

RecallProbe::RecallProbe(const Engine& engine, const Corpus& corpus, const ProbeOptions& options,
                         const CalibrateProgress& progress)
    : engine_(engine),
      corpus_(corpus),
      options_(options),
      progress_(progress),
      random_(options.seed * 0x100000001B3ull),
      directory_(options.work_dir),
      archive_({.path = directory_ / "archive", .create = true}),
      form_(question_form("protocol")) {}

void RecallProbe::tell(const std::string& stage, std::uint64_t done, std::uint64_t total) const {
  if (progress_ && !progress_(stage, done, total)) {
    throw Error(EID_CANCELLED, "the calibration was stopped while it measured: " + stage);
  }
}

void RecallProbe::each(const std::string& stage, std::size_t count,
                       const std::function<void(std::size_t)>& one) const {
  std::atomic<std::size_t> next{0}, done{0};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto work = [&] {
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        one(i);
        const std::lock_guard lock(mutex);
        if (failure) return;
        tell(stage, ++done, count);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  tell(stage, 0, count);
  std::vector<std::thread> helpers;
  for (std::size_t i = 1; i < std::min(options_.jobs, count); ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

// No two documents of a calibration share a key: one question has one answer. The needles stand
// before the last `continuation` tokens.
Haystack RecallProbe::haystack_of_new_keys(std::size_t keys, std::uint64_t continuation) {
  HaystackOptions options;
  options.length = options_.tokens + continuation;
  options.needles = keys;
  options.depth_to = static_cast<double>(options_.tokens) / static_cast<double>(options.length);
  for (;;) {
    Haystack haystack = build_haystack(engine_, corpus_, random_, options);
    const auto unfit = [&](const Needle& needle) {
      return keys_.count(needle.key) > 0 ||
             needle.tokens.end + continuation >= haystack.tokens.size();
    };
    if (std::any_of(haystack.needles.begin(), haystack.needles.end(), unfit)) continue;
    for (const Needle& needle : haystack.needles) keys_.insert(needle.key);
    return haystack;
  }
}

void RecallProbe::read_document(const std::string& collection, const std::string& source,
                                std::size_t keys, std::uint64_t continuation,
                                std::vector<Question>& questions) {
  if (continuation > 0) continuation += kTextLead;
  Haystack haystack = haystack_of_new_keys(keys, continuation);
  const auto cut = haystack.tokens.end() - static_cast<std::ptrdiff_t>(continuation);
  const std::string text =
      continuation > 0 ? engine_.detokenize({haystack.tokens.begin(), cut}) : haystack.text;
  if (&questions == &asked_) texts_.push_back(text);
  archive_.ingest(engine_, {.collection = collection, .source = source, .text = text});
  if (continuation > 0) ends_.emplace_back(cut, haystack.tokens.end());
  for (Needle& needle : haystack.needles) {
    questions.push_back({collection, source, std::move(needle)});
  }
}

void RecallProbe::hold(const std::string& collection) {
  Session holder(engine_, {.forget_own_past = true});
  holder.attach(archive_, collection);
  holders_.push_back(std::move(holder));
}

void RecallProbe::read_documents() {
  for (std::size_t i = 0; i < options_.samples; ++i) {
    tell("reading needles", i, options_.samples);
    const bool goes_on = i < kMostTexts && options_.continuation > 0;
    read_document(kNeedles, "text-" + std::to_string(i + 1), 1, goes_on ? options_.continuation : 0,
                  asked_);
  }
  tell("reading needles", options_.samples, options_.samples);
  hold(kNeedles);
}

void RecallProbe::read_held_out() {
  for (std::size_t i = 0; i < options_.held_out; ++i) {
    tell("reading held-out needles", i, options_.held_out);
    const std::string collection = kHeldOut + std::to_string(i + 1);
    read_document(collection, "text", kHeldOutKeys, 0, held_out_);
    hold(collection);
  }
  tell("reading held-out needles", options_.held_out, options_.held_out);
}

SessionOptions RecallProbe::session_options(const RecallSettings& settings) const {
  SessionOptions options;
  options.span_layers = settings.span_layers;
  options.span_blocks = settings.span_blocks;
  options.candidate_blocks = settings.candidate_blocks;
  // A quarter of the span's, as of a profile that names none, whatever the engine's own says.
  options.successor_blocks = settings.span_blocks >= 4 ? settings.span_blocks / 4 : -1;
  options.linger = settings.span_blocks >= 4 ? .5 : -1;
  options.query_offset = settings.query_offset > 0 ? settings.query_offset : -1;
  options.layer_group = settings.layer_group;
  return options;
}

// A fresh session that has read the question.
Session RecallProbe::ask(const RecallSettings& settings, const Question& question) const {
  Session session(engine_, session_options(settings));
  session.attach(archive_, question.collection);
  session.append(std::string(needle_preface()) + "\n\n", {.use_span = false});
  session.append(form_.ask_for(question.needle.key), {.use_span = true});
  return session;
}

RecallProbe::AnswerScore RecallProbe::answer_in_one_pass(Session& session,
                                                         const Question& question) const {
  const std::vector<float> losses =
      session.losses(engine_.tokenize(" " + question.needle.number), {.use_span = true});
  AnswerScore result;
  result.loss =
      std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(losses.size());
  result.hit = *std::max_element(losses.begin(), losses.end()) < std::log(2.0);
  return result;
}

// The right answer is fed token by token: its loss moves long before an answer changes.
RecallProbe::AnswerScore RecallProbe::answer_token_by_token(Session& session,
                                                            const Question& question) const {
  const std::vector<std::int32_t> answer = engine_.tokenize(" " + question.needle.number);
  AnswerScore result{0, true};
  for (std::size_t i = 0; i < answer.size(); ++i) {
    if (i > 0) session.append(std::vector<std::int32_t>{answer[i - 1]}, {.use_span = true});
    const std::vector<float> logits = session.logits();
    result.loss += loss_of(logits, answer[i]);
    result.hit &= is_greedy(logits, answer[i]);
  }
  result.loss /= static_cast<double>(answer.size());
  return result;
}

RecallScore RecallProbe::score_needles(const std::string& stage, const RecallSettings& settings,
                                       Care care, const std::vector<Question>& questions) const {
  const std::size_t count = care == Care::kOrder ? (questions.size() + 1) / 2 : questions.size();
  std::vector<AnswerScore> scores(count);
  each(stage, count, [&](std::size_t i) {
    Session session = ask(settings, questions[i]);
    scores[i] = care == Care::kJudge ? answer_token_by_token(session, questions[i])
                                     : answer_in_one_pass(session, questions[i]);
  });
  return score_of(scores);
}

RecallScore RecallProbe::score_of(const std::vector<AnswerScore>& answers) {
  RecallScore result;
  for (const AnswerScore& answer : answers) {
    result.losses.push_back(answer.loss);
    result.answered.push_back(answer.hit);
    result.hits += answer.hit ? 1 : 0;
    ++result.samples;
  }
  result.loss = answers.empty() ? 0 : mean(result.losses);
  return result;
}

RecallScore RecallProbe::own_past(const std::string& stage, const RecallSettings& settings,
                                  std::uint64_t tokens) {
  const auto wanted = static_cast<std::size_t>((tokens + options_.tokens - 1) / options_.tokens);
  const std::size_t count = std::min(wanted, asked_.size());
  const std::string name = "own-" + std::to_string(++own_sessions_);
  std::uint64_t turn = 0;
  {
    SessionOptions options = session_options(settings);
    options.window = kOwnWindow;
    Session session(engine_, options, archive_, name);
    for (std::size_t i = 0; i < count; ++i) {
      tell(stage + ", reading", i, count);
      session.append(texts_[i] + "\n\n", {.use_span = false});
    }
    tell(stage + ", reading", count, count);
    turn = session.commit().turn;
  }
  std::vector<AnswerScore> scores(count);
  std::vector<double> seconds(count);
  each(stage, count, [&](std::size_t i) {
    const std::string fork = name + "-" + std::to_string(i + 1);
    archive_.fork_session(name, turn, fork);
    Session session = Session::open(engine_, archive_, fork);
    session.append(form_.ask_for(asked_[i].needle.key), {.use_span = true});
    scores[i] = answer_in_one_pass(session, asked_[i]);
    seconds[i] = nlohmann::json::parse(session.info()).at("last_answer").at("recall_seconds");
  });
  RecallScore result = score_of(scores);
  for (const double one : seconds) result.recall_seconds += one;
  return result;
}

RecallScore RecallProbe::score(const std::string& stage, const RecallSettings& settings,
                               Care care) const {
  RecallScore result = score_needles(stage, settings, care, asked_);
  if (care != Care::kJudge) {
    result.text_losses = text_losses(stage, &settings, care);
    result.text_loss = mean(result.text_losses);
  }
  return result;
}

RecallScore RecallProbe::held_out(const std::string& stage, const RecallSettings& settings) {
  if (options_.held_out == 0) return {};
  if (held_out_.empty()) read_held_out();
  return score_needles(stage, settings, Care::kJudge, held_out_);
}

double RecallProbe::text_loss_without_memory(const std::string& stage) const {
  return mean(text_losses(stage, nullptr, Care::kChoose));
}

// What stands behind the lead, cut as the session cuts it into segments; a last short stretch
// counts with the one before it, so that all weigh about the same.
std::vector<double> RecallProbe::text_losses(const std::string& stage,
                                             const RecallSettings* settings, Care care) const {
  const std::size_t count = care == Care::kOrder ? (ends_.size() + 1) / 2 : ends_.size();
  std::vector<std::vector<double>> stretches(count);
  each(stage + ", text", count, [&](std::size_t i) {
    SessionOptions options = settings != nullptr ? session_options(*settings) : SessionOptions();
    options.segment = kTextSegment;
    Session session(engine_, options);
    if (settings != nullptr) session.attach(archive_, kNeedles);
    const auto cut = ends_[i].begin() + kTextLead;
    session.append(std::vector<std::int32_t>(ends_[i].begin(), cut), {.use_span = false});
    const std::vector<float> losses =
        session.losses({cut, ends_[i].end()}, {.use_span = settings != nullptr});
    const std::size_t parts = std::max<std::size_t>(1, losses.size() / kTextSegment);
    for (std::size_t part = 0; part < parts; ++part) {
      const auto begin = losses.begin() + static_cast<std::ptrdiff_t>(part * kTextSegment);
      const auto end = part + 1 < parts ? begin + kTextSegment : losses.end();
      stretches[i].push_back(mean({begin, end}));
    }
  });
  std::vector<double> all;
  for (const auto& of_one : stretches) all.insert(all.end(), of_one.begin(), of_one.end());
  return all;
}

std::map<std::int32_t, LayerLook> RecallProbe::looks(const std::string& stage,
                                                     const RecallSettings& settings) const {
  std::vector<std::map<std::int32_t, LayerLook>> each_look(asked_.size());
  each(stage, asked_.size(), [&](std::size_t i) {
    Session session = ask(settings, asked_[i]);
    session.generate({.max_tokens = kLookTokens});
    const std::vector<Passage> passages = session.sources();
    const auto is_right = [&](const Passage& passage) {
      return passage.source == asked_[i].source &&
             asked_[i].needle.bytes.overlaps(passage.byte_begin, passage.byte_end);
    };
    for (const std::int32_t layer : settings.span_layers) {
      LayerLook& look = each_look[i][layer];
      for (const Passage& passage : passages) {
        if (is_right(passage)) look.share = std::max(look.share, share_of(passage, layer));
      }
      if (look.share <= 0) continue;
      const auto before = std::count_if(passages.begin(), passages.end(), [&](const Passage& p) {
        return share_of(p, layer) > look.share;
      });
      look.rank = 1.0 / (static_cast<double>(before) + 1);
    }
  });
  std::map<std::int32_t, LayerLook> result;
  for (const auto& one : each_look) {
    for (const auto& [layer, look] : one) {
      result[layer].rank += look.rank / static_cast<double>(asked_.size());
      result[layer].share += look.share / static_cast<double>(asked_.size());
    }
  }
  return result;
}

}  // namespace eidetic::eval
