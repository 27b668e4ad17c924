#include "apps/eval/calibrate.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>
#include <set>
#include <utility>

#include "apps/common/temporary_directory.h"

namespace eidetic::eval {
namespace {

using nlohmann::json;

constexpr const char* kNeedles = "needles";
constexpr const char* kHeldOut = "held-out";
constexpr const char* kBeginnings = "beginnings";
constexpr std::size_t kHeldOutKeys = 4;
constexpr std::size_t kContinuations = 4;
// The span is chosen once a segment: several times in a text.
constexpr int kTextSegment = 64;
// Differences of text loss below this say nothing.
constexpr double kTextNoise = 0.002;
// Mean reciprocal ranks closer than this are equal but for the order of adding.
constexpr double kSameRank = 1e-9;

struct Question {
  std::string source;  // the document that holds the needle
  Needle needle;
};

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

std::vector<std::int32_t> without(const std::vector<std::int32_t>& layers,
                                  const std::vector<std::int32_t>& dropped) {
  std::vector<std::int32_t> left;
  std::set_difference(layers.begin(), layers.end(), dropped.begin(), dropped.end(),
                      std::back_inserter(left));
  return left;
}

class Calibrator {
 public:
  Calibrator(const Engine& engine, const Corpus& corpus, const CalibrateOptions& options,
             const CalibrateProgress& progress)
      : engine_(engine),
        corpus_(corpus),
        options_(options),
        progress_(progress),
        random_(options.seed * 0x100000001B3ull),
        directory_(options.work_dir),
        archive_({.path = directory_ / "archive", .create = true}),
        form_(question_form("protocol")) {}

  Calibration run() {
    Calibration result;
    const json info = json::parse(engine_.info());
    result.all.span_layers = info.at("attention_layers").get<std::vector<std::int32_t>>();
    read_needles(kNeedles, options_.samples, 1, &asked_);
    read_beginnings();
    result.text_loss_without_memory = text_loss("running text without memory", nullptr);
    result.all_score = score("all layers", result.all);
    result.chosen = result.all;
    result.chosen_score = result.all_score;
    choose_layers(result);
    choose_query_offset(result);
    choose_span_blocks(result);
    find_focus(result);
    check_held_out(result);
    return result;
  }

 private:
  void tell(const std::string& stage, std::uint64_t done, std::uint64_t total) const {
    if (progress_ && !progress_(stage, done, total)) {
      throw Error(EID_CANCELLED, "the calibration was stopped while it measured: " + stage);
    }
  }

  void ingest(const std::string& collection, const std::string& source, const std::string& text) {
    archive_.ingest(engine_, {.collection = collection, .source = source, .text = text});
  }

  void read_needles(const std::string& collection, std::size_t documents, std::size_t keys,
                    std::vector<Question>* questions) {
    for (std::size_t i = 0; i < documents; ++i) {
      tell("reading " + collection, i, documents);
      Haystack haystack = haystack_of_new_keys(keys);
      const std::string source = "text-" + std::to_string(i + 1);
      ingest(collection, source, haystack.text);
      for (Needle& needle : haystack.needles) questions->push_back({source, std::move(needle)});
    }
    tell("reading " + collection, documents, documents);
  }

  // No two documents of a calibration share a key: one question has one answer.
  Haystack haystack_of_new_keys(std::size_t keys) {
    HaystackOptions options;
    options.length = options_.tokens;
    options.needles = keys;
    for (;;) {
      Haystack haystack = build_haystack(engine_, corpus_, random_, options);
      const auto known = [&](const Needle& needle) { return keys_.count(needle.key) > 0; };
      if (std::any_of(haystack.needles.begin(), haystack.needles.end(), known)) continue;
      for (const Needle& needle : haystack.needles) keys_.insert(needle.key);
      return haystack;
    }
  }

  SessionOptions session_options(const RecallSettings& settings) const {
    SessionOptions options;
    options.span_layers = settings.span_layers;
    options.span_blocks = settings.span_blocks;
    options.candidate_blocks = settings.candidate_blocks;
    options.query_offset = settings.query_offset > 0 ? settings.query_offset : -1;
    return options;
  }

  // A fresh session that has read the question and recalls from `collection`.
  Session ask(const RecallSettings& settings, const std::string& collection,
              const Question& question) const {
    Session session(engine_, session_options(settings));
    session.attach(archive_, collection);
    session.append(std::string(needle_preface()) + "\n\n", {.use_span = false});
    session.append(form_.ask_for(question.needle.key), {.use_span = true});
    return session;
  }

  // The right answer is fed token by token: its loss moves long before an answer changes.
  RecallScore score(const std::string& stage, const RecallSettings& settings,
                    const std::string& collection, const std::vector<Question>& questions) const {
    RecallScore result;
    for (const Question& question : questions) {
      tell(stage, static_cast<std::uint64_t>(result.samples), questions.size());
      Session session = ask(settings, collection, question);
      const std::vector<std::int32_t> answer = engine_.tokenize(" " + question.needle.number);
      double loss = 0;
      bool greedy = true;
      for (std::size_t i = 0; i < answer.size(); ++i) {
        if (i > 0) session.append(std::vector<std::int32_t>{answer[i - 1]}, {.use_span = true});
        const std::vector<float> logits = session.logits();
        loss += loss_of(logits, answer[i]);
        greedy &= is_greedy(logits, answer[i]);
      }
      result.loss += loss / static_cast<double>(answer.size());
      result.hits += greedy ? 1 : 0;
      ++result.samples;
    }
    result.loss /= std::max(1, result.samples);
    return result;
  }
  // Of the needles that settings are chosen by, and of running text.
  RecallScore score(const std::string& stage, const RecallSettings& settings) const {
    RecallScore result = score(stage, settings, kNeedles, asked_);
    result.text_loss = text_loss(stage, &settings);
    return result;
  }

  // Nats per token of running text that a smaller setting may cost.
  double text_slack(const Calibration& result) const {
    const double gain = result.text_loss_without_memory - result.all_score.text_loss;
    return std::max((1 - options_.keep_text) * gain, kTextNoise);
  }

  bool keeps(const RecallScore& smaller, const Calibration& result) const {
    const RecallScore& all = result.all_score;
    // Not measured: NaN, which is not above anything.
    const bool loses_text = smaller.text_loss > all.text_loss + text_slack(result);
    return smaller.loss <= all.loss + options_.slack &&
           smaller.hits >= options_.keep * static_cast<double>(all.hits) && !loses_text;
  }

  struct Cost {
    std::int32_t layer = 0;
    double answer = 0, text = 0;  // nats per token
    double budgets = 0;           // both, in units of what may be lost
  };

  // What dropping each layer of the chosen setting costs, cheapest first.
  std::vector<Cost> costs(const std::string& stage, const Calibration& result) const {
    std::vector<Cost> costs;
    const std::vector<std::int32_t>& layers = result.chosen.span_layers;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      RecallSettings smaller = result.chosen;
      smaller.span_layers = without(layers, {layers[i]});
      const RecallScore dropped =
          score(stage + ", layer " + std::to_string(i + 1) + " of " + std::to_string(layers.size()),
                smaller);
      Cost cost{layers[i], dropped.loss - result.chosen_score.loss,
                dropped.text_loss - result.chosen_score.text_loss};
      cost.budgets = cost.answer / options_.slack;
      if (std::isfinite(cost.text)) cost.budgets += cost.text / text_slack(result);
      costs.push_back(cost);
    }
    std::stable_sort(costs.begin(), costs.end(),
                     [](const Cost& a, const Cost& b) { return a.budgets < b.budgets; });
    return costs;
  }

  // Backward elimination: drop the third of the layers that are missed least, as long as needles
  // and text keep what they must; fewer when they do not; measure again.
  void choose_layers(Calibration& result) const {
    for (int round = 1; result.chosen.span_layers.size() > 1; ++round) {
      const std::vector<Cost> dropping = costs("round " + std::to_string(round), result);
      for (const Cost& cost : dropping) {
        if (round > 1) break;
        result.cost[cost.layer] = cost.answer;
        result.text_cost[cost.layer] = cost.text;
      }
      bool smaller_found = false;
      for (std::size_t count = std::max<std::size_t>(1, dropping.size() / 3);
           count > 0 && !smaller_found; count /= 2) {
        std::vector<std::int32_t> dropped;
        for (std::size_t i = 0; i < count; ++i) dropped.push_back(dropping[i].layer);
        std::sort(dropped.begin(), dropped.end());
        RecallSettings smaller = result.chosen;
        smaller.span_layers = without(result.chosen.span_layers, dropped);
        if (smaller.span_layers.empty()) continue;
        smaller_found = take_if_kept("round " + std::to_string(round), smaller, result);
      }
      if (!smaller_found) return;
    }
  }

  bool take_if_kept(const std::string& stage, const RecallSettings& settings,
                    Calibration& result) const {
    const RecallScore found = score(stage, settings);
    if (!keeps(found, result)) return false;
    result.chosen = settings;
    result.chosen_score = found;
    return true;
  }

  // Another distance must be better by more than noise: the default is known to be good.
  void choose_query_offset(Calibration& result) const {
    const double least_gain = options_.slack / 2;
    for (const int offset : {0, 512, 2048}) {
      RecallSettings other = result.chosen;
      other.query_offset = offset;
      const RecallScore found = score("query offset " + std::to_string(offset), other);
      if (found.loss + least_gain < result.chosen_score.loss &&
          found.hits >= result.chosen_score.hits && keeps(found, result)) {
        result.chosen = other;
        result.chosen_score = found;
      }
    }
  }

  // The smallest span that keeps the needles; a larger one when it is better by more than noise.
  void choose_span_blocks(Calibration& result) const {
    RecallSettings other = result.chosen;
    other.span_blocks = 32;
    const RecallScore larger = score("span of 32 blocks", other);
    if (larger.loss + options_.slack < result.chosen_score.loss &&
        larger.hits >= result.chosen_score.hits) {
      result.chosen = other;
      result.chosen_score = larger;
      return;
    }
    other.span_blocks = 8;
    take_if_kept("span of 8 blocks", other, result);
  }

  // The layer in whose attention the right passage stands first most often; of several such, the
  // one that pays it most attention.
  void find_focus(Calibration& result) const {
    std::map<std::int32_t, double> rank, attention;
    std::uint64_t done = 0;
    for (const Question& question : asked_) {
      tell("the layer that looks things up", done++, asked_.size());
      Session session = ask(result.chosen, kNeedles, question);
      session.generate({.max_tokens = 8});
      const std::vector<Passage> passages = session.sources();
      for (const std::int32_t layer : result.chosen.span_layers) {
        const Standing standing = standing_of(passages, question, layer);
        rank[layer] += standing.reciprocal_rank / static_cast<double>(asked_.size());
        attention[layer] += standing.attention;
      }
    }
    result.rank = rank;
    double best = 0.5;
    for (const auto& [layer, mean] : rank) {
      const bool leads_tie = result.focus_layer >= 0 && std::abs(mean - best) < kSameRank &&
                             attention[layer] > attention[result.focus_layer];
      if (mean < best + kSameRank && !leads_tie) continue;
      best = mean;
      result.focus_layer = layer;
    }
  }

  // How the passage that holds the needle stands among those that served an answer.
  struct Standing {
    double reciprocal_rank = 0;  // 1: no passage has more of the layer's attention; 0: it has none
    double attention = 0;        // its share
  };

  static Standing standing_of(const std::vector<Passage>& passages, const Question& question,
                              std::int32_t layer) {
    const auto share = [&](const Passage& passage) {
      for (const eid_layer_share& s : passage.layers) {
        if (s.layer == layer) return s.attention;
      }
      return 0.0;
    };
    double right = 0;
    for (const Passage& passage : passages) {
      if (passage.source == question.source &&
          question.needle.bytes.overlaps(passage.byte_begin, passage.byte_end)) {
        right = std::max(right, share(passage));
      }
    }
    if (right <= 0) return {};
    const auto before = std::count_if(passages.begin(), passages.end(),
                                      [&](const Passage& p) { return share(p) > right; });
    return {1.0 / (static_cast<double>(before) + 1), right};
  }

  void check_held_out(Calibration& result) {
    if (options_.held_out == 0) return;
    std::vector<Question> questions;
    read_needles(kHeldOut, options_.held_out, kHeldOutKeys, &questions);
    result.all_held_out = score("held out, all layers", result.all, kHeldOut, questions);
    result.chosen_held_out = score("held out, as found", result.chosen, kHeldOut, questions);
  }

  // Texts whose beginnings are archived; their ends are read by fresh sessions.
  void read_beginnings() {
    for (std::size_t i = 0; i < kContinuations && options_.continuation >= 2; ++i) {
      tell("reading beginnings", i, kContinuations);
      HaystackOptions options;
      options.length = options_.tokens + options_.continuation;
      options.needles = 0;
      const Haystack text = build_haystack(engine_, corpus_, random_, options);
      const auto cut = text.tokens.end() - static_cast<std::ptrdiff_t>(options_.continuation);
      ingest(kBeginnings, "text-" + std::to_string(i + 1),
             engine_.detokenize({text.tokens.begin(), cut}));
      ends_.emplace_back(cut, text.tokens.end());
    }
  }

  // Nats per token, without the first of each text; NaN without texts. No settings: no memory.
  double text_loss(const std::string& stage, const RecallSettings* settings) const {
    double sum = 0;
    std::size_t counted = 0;
    for (std::size_t i = 0; i < ends_.size(); ++i) {
      tell(stage, i, ends_.size());
      SessionOptions options = settings != nullptr ? session_options(*settings) : SessionOptions();
      options.segment = kTextSegment;
      Session session(engine_, options);
      if (settings != nullptr) session.attach(archive_, kBeginnings);
      const std::vector<float> losses = session.losses(ends_[i], {.use_span = settings != nullptr});
      sum = std::accumulate(losses.begin() + 1, losses.end(), sum);
      counted += losses.size() - 1;
    }
    return counted > 0 ? sum / static_cast<double>(counted)
                       : std::numeric_limits<double>::quiet_NaN();
  }

  const Engine& engine_;
  const Corpus& corpus_;
  const CalibrateOptions& options_;
  const CalibrateProgress& progress_;
  Random random_;
  apps::TemporaryDirectory directory_;
  Archive archive_;
  QuestionForm form_;
  std::vector<Question> asked_;
  std::vector<std::vector<std::int32_t>> ends_;  // of the texts whose beginnings are archived
  std::set<std::string> keys_;
};

// JSON has no NaN.
json number(double value) {
  return std::isfinite(value) ? json(value) : json(nullptr);
}

json settings_json(const RecallSettings& settings) {
  return {{"span_layers", settings.span_layers},
          {"span_blocks", settings.span_blocks},
          {"candidate_blocks", settings.candidate_blocks},
          {"query_offset", settings.query_offset}};
}

json score_json(const RecallScore& score) {
  return {{"loss", score.loss},
          {"hits", score.hits},
          {"samples", score.samples},
          {"text_loss", number(score.text_loss)}};
}

}  // namespace

Calibration calibrate(const Engine& engine, const Corpus& corpus, const CalibrateOptions& options,
                      const CalibrateProgress& progress) {
  return Calibrator(engine, corpus, options, progress).run();
}

json profile_of(const Calibration& calibration, const std::string& fingerprint) {
  json profile = settings_json(calibration.chosen);
  profile["eidetic_retrieval_profile"] = 1;
  profile["fingerprint"] = fingerprint;
  profile["representative_tokens"] = 8;
  if (calibration.focus_layer >= 0) profile["focus_layer"] = calibration.focus_layer;
  return profile;
}

json calibration_report(const Calibration& c) {
  json layers = json::array();
  for (const auto& [layer, cost] : c.cost) {
    const auto rank = c.rank.find(layer);
    layers.push_back({{"layer", layer},
                      {"cost_of_dropping", cost},
                      {"text_cost_of_dropping", number(c.text_cost.at(layer))},
                      {"kept", rank != c.rank.end()},
                      {"reciprocal_rank", rank != c.rank.end() ? json(rank->second) : json()}});
  }
  return {
      {"all", {{"settings", settings_json(c.all)}, {"score", score_json(c.all_score)}}},
      {"chosen", {{"settings", settings_json(c.chosen)}, {"score", score_json(c.chosen_score)}}},
      {"focus_layer", c.focus_layer},
      {"layers", layers},
      {"held_out",
       {{"all", score_json(c.all_held_out)}, {"chosen", score_json(c.chosen_held_out)}}},
      {"text_loss_without_memory", number(c.text_loss_without_memory)}};
}

}  // namespace eidetic::eval
