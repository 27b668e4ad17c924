#include "apps/eval/calibrate.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>
#include <vector>

#include "apps/eval/json_number.h"

namespace eidetic::eval {
namespace {

using nlohmann::json;

// Differences of text loss below this say nothing.
constexpr double kTextNoise = 0.01;
// Mean reciprocal ranks closer than this are equal but for the order of adding.
constexpr double kSameRank = 1e-9;
// Shares of the layers whose attention says that they are not needed, tried in this order.
// Layers that may share one choice of their own past.
constexpr int kGroups[] = {2, 3};
// Of what a smaller setting may cost, what sharing a choice may: it saves time, not room.
constexpr double kGroupShare = 0.25;
constexpr double kFirstDropped[] = {2.0 / 3, 1.0 / 2, 1.0 / 3};

std::vector<std::int32_t> without(const std::vector<std::int32_t>& layers,
                                  std::vector<std::int32_t> dropped) {
  std::sort(dropped.begin(), dropped.end());
  std::vector<std::int32_t> left;
  std::set_difference(layers.begin(), layers.end(), dropped.begin(), dropped.end(),
                      std::back_inserter(left));
  return left;
}

class Calibrator {
 public:
  Calibrator(const Engine& engine, const Corpus& corpus, const CalibrateOptions& options,
             const CalibrateProgress& progress)
      : options_(options), probe_(engine, corpus, options.probe, progress) {
    const json info = json::parse(engine.info());
    found_.all.span_layers = info.at("attention_layers").get<std::vector<std::int32_t>>();
  }

  Calibration run() {
    probe_.read_documents();
    found_.text_loss_without_memory = probe_.text_loss_without_memory("without memory");
    all_ = try_setting("all layers", found_.all);
    take(found_.all, all_);
    whole_ = all_;
    found_.looks = probe_.looks("attention of each layer", found_.all);
    choose_query_offset();
    whole_ = chosen_;
    drop_by_attention();
    choose_layers();
    choose_span_blocks();
    check_on_held_out();
    choose_layer_group();
    find_focus();
    judge();
    return found_;
  }

 private:
  // Nats per token of running text that a smaller setting may cost.
  double text_slack() const {
    return text_slack_of(options_.keep_text, found_.text_loss_without_memory - whole_.text_loss);
  }

  // Running text is allowed one standard error of the comparison, stretch by stretch, on top of
  // what may be lost: what a layer does for it is smaller than what a few texts can tell.
  bool keeps(const RecallScore& smaller) const {
    const PairedDifference text = paired_difference(whole_.text_losses, smaller.text_losses);
    return smaller.loss <= whole_.loss + options_.slack && text.mean <= text_slack() + text.error &&
           smaller.hits >= options_.keep * static_cast<double>(whole_.hits);
  }

  // Better than what was chosen until now by at least `gain` and by more than noise.
  bool gains(const RecallScore& other, double gain) const {
    const PairedDifference better = paired_difference(other.losses, chosen_.losses);
    return better.mean > std::max(gain, better.error) && other.hits >= chosen_.hits && keeps(other);
  }

  std::size_t least_layers() const {
    const double share = options_.least * static_cast<double>(found_.all.span_layers.size());
    return std::max<std::size_t>(1, static_cast<std::size_t>(std::ceil(share)));
  }

  struct Cost {
    std::int32_t layer = 0;
    double answer = 0, text = 0;  // nats per token
    double budgets = 0;           // both, in units of what may be lost
  };

  // What dropping each layer of the chosen setting costs, cheapest first.
  std::vector<Cost> costs(const std::string& stage) const {
    std::vector<Cost> costs;
    const RecallScore whole = probe_.score(stage, found_.chosen, Care::kOrder);
    const std::vector<std::int32_t>& layers = found_.chosen.span_layers;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      RecallSettings smaller = found_.chosen;
      smaller.span_layers = without(layers, {layers[i]});
      const RecallScore dropped = probe_.score(
          stage + ", layer " + std::to_string(i + 1) + " of " + std::to_string(layers.size()),
          smaller, Care::kOrder);
      Cost cost{layers[i], dropped.loss - whole.loss, dropped.text_loss - whole.text_loss};
      // What is better for the one does not make up for the other.
      cost.budgets = std::max(0.0, cost.answer) / options_.slack;
      if (cost.text > 0) cost.budgets += cost.text / text_slack();
      costs.push_back(cost);
    }
    std::stable_sort(costs.begin(), costs.end(), [&](const Cost& a, const Cost& b) {
      return std::pair(a.budgets, found_.looks.at(a.layer).share) <
             std::pair(b.budgets, found_.looks.at(b.layer).share);
    });
    return costs;
  }

  // A first cut without measuring layer after layer: those whose attention hardly reached the right
  // passages go together, when that costs no more than may be lost.
  void drop_by_attention() {
    std::vector<std::int32_t> by_share = found_.all.span_layers;
    std::stable_sort(by_share.begin(), by_share.end(), [&](std::int32_t a, std::int32_t b) {
      return found_.looks.at(a).share < found_.looks.at(b).share;
    });
    for (const double share : kFirstDropped) {
      const auto count =
          std::min(static_cast<std::ptrdiff_t>(share * static_cast<double>(by_share.size())),
                   static_cast<std::ptrdiff_t>(by_share.size() - least_layers()));
      RecallSettings smaller = found_.chosen;
      smaller.span_layers =
          without(found_.all.span_layers, {by_share.begin(), by_share.begin() + count});
      if (count > 0 &&
          take_if_kept(std::to_string(count) + " with little attention dropped", smaller)) {
        return;
      }
    }
  }

  // Backward elimination: drop the half of the layers that are missed least, as long as needles
  // and text keep what they must; fewer when they do not; measure again.
  void choose_layers() {
    const std::size_t least = least_layers();
    for (int round = 1; found_.chosen.span_layers.size() > least; ++round) {
      const std::string stage = "round " + std::to_string(round);
      const std::vector<Cost> dropping = costs(stage);
      if (round == 1) {
        for (const Cost& cost : dropping) {
          found_.cost[cost.layer] = cost.answer;
          found_.text_cost[cost.layer] = cost.text;
        }
      }
      bool smaller_found = false;
      for (std::size_t count =
               std::clamp<std::size_t>(dropping.size() / 2, 1, dropping.size() - least);
           count > 0 && !smaller_found; count = count * 2 / 3) {
        std::vector<std::int32_t> dropped;
        for (std::size_t i = 0; i < count; ++i) dropped.push_back(dropping[i].layer);
        RecallSettings smaller = found_.chosen;
        smaller.span_layers = without(found_.chosen.span_layers, dropped);
        smaller_found = take_if_kept(stage + ", " + std::to_string(count) + " dropped", smaller);
      }
      if (!smaller_found) return;
    }
  }

  bool take_if_kept(const std::string& stage, const RecallSettings& settings) {
    const RecallScore score = try_setting(stage, settings);
    if (!keeps(score)) return false;
    take(settings, score);
    return true;
  }

  RecallScore try_setting(const std::string& what, const RecallSettings& settings) {
    const RecallScore score = probe_.score(what, settings, Care::kChoose);
    found_.trials.push_back({what, settings, score});
    return score;
  }

  void take(const RecallSettings& settings, const RecallScore& score) {
    found_.trials.back().taken = true;
    found_.chosen = settings;
    chosen_ = score;
  }

  void take_again(const Trial& trial) {
    found_.chosen = trial.settings;
    chosen_ = trial.score;
  }

  // Another distance must be better by more than noise: the default is known to be good.
  void choose_query_offset() {
    for (const int offset : {0, 512, 2048}) {
      RecallSettings other = found_.chosen;
      other.query_offset = offset;
      const RecallScore score = try_setting("query offset " + std::to_string(offset), other);
      if (gains(score, options_.slack / 2)) take(other, score);
    }
  }

  // The smallest span that keeps the needles; a larger one when it is better by more than noise.
  void choose_span_blocks() {
    RecallSettings other = found_.chosen;
    other.span_blocks = 32;
    const RecallScore larger = try_setting("span of 32 blocks", other);
    if (gains(larger, options_.slack)) {
      take(other, larger);
      return;
    }
    other.span_blocks = 8;
    take_if_kept("span of 8 blocks", other);
  }

  // The largest group that answers as well from a session's own past, in less time. Asking a
  // collection, layers always choose for themselves (docs/decisions/097).
  void choose_layer_group() {
    const auto layers = static_cast<int>(found_.chosen.span_layers.size());
    if (options_.group_tokens == 0 || layers < 2) return;
    const auto measure = [&](int group) {
      RecallSettings settings = found_.chosen;
      settings.layer_group = group;
      const std::string stage =
          group == 1 ? "own past" : "own past, groups of " + std::to_string(group);
      found_.groups.push_back({group, probe_.own_past(stage, settings, options_.group_tokens)});
    };
    measure(1);
    const RecallScore apart = found_.groups[0].score;
    std::size_t taken = 0;
    for (const int group : kGroups) {
      if (group > layers) break;
      measure(group);
      const RecallScore& shared = found_.groups.back().score;
      const double cost = paired_difference(apart.losses, shared.losses).mean;
      const bool faster = shared.recall_seconds < apart.recall_seconds;
      if (cost > kGroupShare * options_.slack || shared.hits < apart.hits || !faster) continue;
      taken = found_.groups.size() - 1;
    }
    found_.groups[taken].taken = true;
    found_.chosen.layer_group = found_.groups[taken].layers;
  }

  // The layer in whose attention the right passage stands first most often; of equal ones that
  // which pays it most.
  void find_focus() {
    LayerLook best{0.5, 1};
    for (const auto& [layer, look] :
         probe_.looks("the layer that looks things up", found_.chosen)) {
      found_.looks[layer] = look;
      const bool leads_tie = std::abs(look.rank - best.rank) < kSameRank && look.share > best.share;
      if (look.rank < best.rank + kSameRank && !leads_tie) continue;
      best = look;
      found_.focus_layer = layer;
    }
  }

  // What is reported: token by token, as answers are given, and on other needles.
  void judge() {
    const auto judged = [&](const std::string& stage, const RecallSettings& settings,
                            const RecallScore& chosen_by) {
      RecallScore score = probe_.score(stage, settings, Care::kJudge);
      score.text_loss = chosen_by.text_loss;
      return score;
    };
    found_.all_score = judged("all layers, token by token", found_.all, all_);
    found_.chosen_score = judged("as found, token by token", found_.chosen, chosen_);
  }

  // More needles lost against all layers than may be lost, beyond one standard error of the count
  // of those that only one of the two answers.
  bool loses_held_out(const RecallScore& smaller) const {
    const std::vector<bool>& all = found_.all_held_out.answered;
    int differing = 0;
    for (std::size_t i = 0; i < all.size(); ++i) differing += all[i] != smaller.answered[i];
    const double lost = options_.keep * found_.all_held_out.hits - smaller.hits;
    return lost > std::sqrt(static_cast<double>(differing));
  }

  // From what was taken last back to all layers, until the held-out needles bear it out.
  void check_on_held_out() {
    found_.all_held_out = probe_.held_out("held out, all layers", found_.all);
    for (std::size_t i = found_.trials.size(); i-- > 0;) {
      Trial& trial = found_.trials[i];
      if (!trial.taken) continue;
      take_again(trial);
      if (i == 0) {
        found_.chosen_held_out = found_.all_held_out;
        return;
      }
      found_.chosen_held_out = probe_.held_out("held out, " + trial.what, trial.settings);
      if (!loses_held_out(found_.chosen_held_out)) return;
      trial.refused_held_out = true;
    }
  }

  const CalibrateOptions& options_;
  RecallProbe probe_;
  Calibration found_;
  // By which settings are chosen: the defaults, every layer with the query offset that was found,
  // and what was taken last.
  RecallScore all_, whole_, chosen_;
};

json settings_json(const RecallSettings& settings) {
  return {{"span_layers", settings.span_layers},
          {"span_blocks", settings.span_blocks},
          {"candidate_blocks", settings.candidate_blocks},
          {"query_offset", settings.query_offset},
          {"layer_group", settings.layer_group}};
}

json score_json(const RecallScore& score) {
  return {{"loss", score.loss},
          {"hits", score.hits},
          {"samples", score.samples},
          {"text_loss", json_number(score.text_loss)}};
}

}  // namespace

double text_slack_of(double keep_text, double gain) {
  return std::isnan(gain) ? kTextNoise : std::max((1 - keep_text) * gain, kTextNoise);
}

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
  const auto& chosen = c.chosen.span_layers;
  for (const auto& [layer, look] : c.looks) {
    const bool measured = c.cost.count(layer) > 0;
    layers.push_back(
        {{"layer", layer},
         {"cost_of_dropping", measured ? json(c.cost.at(layer)) : json()},
         {"text_cost_of_dropping", measured ? json_number(c.text_cost.at(layer)) : json()},
         {"kept", std::find(chosen.begin(), chosen.end(), layer) != chosen.end()},
         {"reciprocal_rank", look.rank},
         {"attention", look.share}});
  }
  json trials = json::array();
  for (const Trial& trial : c.trials) {
    trials.push_back({{"what", trial.what},
                      {"settings", settings_json(trial.settings)},
                      {"score", score_json(trial.score)},
                      {"taken", trial.taken},
                      {"refused_held_out", trial.refused_held_out}});
  }
  json groups = json::array();
  for (const GroupTrial& trial : c.groups) {
    groups.push_back({{"layers", trial.layers},
                      {"loss", trial.score.loss},
                      {"hits", trial.score.hits},
                      {"samples", trial.score.samples},
                      {"recall_seconds", trial.score.recall_seconds},
                      {"taken", trial.taken}});
  }
  return {
      {"trials", trials},
      {"groups", groups},
      {"all", {{"settings", settings_json(c.all)}, {"score", score_json(c.all_score)}}},
      {"chosen", {{"settings", settings_json(c.chosen)}, {"score", score_json(c.chosen_score)}}},
      {"focus_layer", c.focus_layer},
      {"layers", layers},
      {"held_out",
       {{"all", score_json(c.all_held_out)}, {"chosen", score_json(c.chosen_held_out)}}},
      {"text_loss_without_memory", json_number(c.text_loss_without_memory)}};
}

}  // namespace eidetic::eval
