#include "apps/eval/needle.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "apps/common/attention_mode.h"
#include "apps/common/temporary_directory.h"

namespace eidetic::eval {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr const char* kCollection = "haystack";
constexpr int kDefaultWindow = 1024, kDefaultSinks = 32;
// Tokens leave the window in blocks: up to two blocks of tokens stay a little longer.
constexpr std::uint64_t kBlockSlack = 64;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

SessionOptions session_options(const NeedleOptions& options, const std::string& mode,
                               std::uint64_t index) {
  SessionOptions result = options.session;
  result.mode = apps::parse_mode(mode);
  result.seed = options.seed + index;
  if (result.mode != EID_ATTENTION_STREAM) result.policy = EID_RECALL_ATTENTION;
  // The baselines keep no memory: their speed is that of the plain model.
  result.forget_own_past = result.mode == EID_ATTENTION_WINDOW || result.mode == EID_ATTENTION_FULL;
  return result;
}

bool is_recallable(const NeedleOptions& options, const Haystack& haystack) {
  if (options.via == Via::kArchive) return true;
  const auto& session = options.session;
  const std::uint64_t window = session.window > 0 ? session.window : kDefaultWindow;
  const std::uint64_t sinks =
      session.sinks > 0 ? session.sinks : (session.sinks < 0 ? 0 : kDefaultSinks);
  const Range& number = haystack.needles[0].tokens;
  return number.begin >= sinks && number.end + window + kBlockSlack <= haystack.tokens.size();
}

// Asks `session` and fills in the answer's part of the sample. `text_begin`: the session's token at
// which the haystack begins, when it read that itself.
void ask_for_needle(Session& session, const NeedleOptions& options, const Haystack& haystack,
                    std::uint64_t text_begin, NeedleSample& sample) {
  const auto begin = Clock::now();
  const std::string question = options.form.ask_for(sample.key);
  session.append(question, {.use_span = true, .role = options.form.chat ? "user" : ""});
  GenerateOptions generate;
  generate.max_tokens = options.answer_tokens;
  generate.assistant_turn = options.form.chat;
  // Nothing after the number can change the outcome.
  const Answer answer = session.generate(generate, [&](std::string_view piece) {
    sample.answer += piece;
    return sample.answer.find(sample.number) == std::string::npos;
  });
  sample.answer = answer.text;
  sample.hit = sample.answer.find(sample.number) != std::string::npos;
  sample.answer_seconds = seconds_since(begin);

  const Needle& needle = haystack.needles[0];
  for (const Passage& passage : session.sources()) {
    const bool found =
        options.via == Via::kArchive
            ? passage.collection == kCollection &&
                  needle.bytes.overlaps(passage.byte_begin, passage.byte_end)
            : passage.collection.empty() && needle.tokens.overlaps(passage.token_begin - text_begin,
                                                                   passage.token_end - text_begin);
    if (found) sample.presence = std::max(sample.presence, passage.presence);
  }
  if (!sample.recallable) sample.presence = 0;
}

// One prompt of one length, asked in every mode.
class SampleRun {
 public:
  SampleRun(const Engine& engine, const NeedleOptions& options, const Haystack& haystack,
            NeedleSample base, Progress on_read)
      : engine_(engine),
        options_(options),
        haystack_(haystack),
        base_(std::move(base)),
        on_read_(std::move(on_read)) {}

  NeedleSample run(const std::string& mode) {
    NeedleSample sample = base_;
    sample.mode = mode;
    Session session(engine_, session_options(options_, mode, sample.index));
    const std::uint64_t text_begin = read_preface(session);
    if (options_.via == Via::kArchive) {
      sample.read_seconds = read_into_archive();
      // Mode window has no span; it shows what the question alone brings.
      if (mode != "window") session.attach(*archive_, kCollection);
    } else {
      const auto begin = Clock::now();
      session.append(haystack_.tokens, {.use_span = false}, on_read_);
      sample.read_seconds = seconds_since(begin);
    }
    ask_for_needle(session, options_, haystack_, text_begin, sample);
    return sample;
  }

 private:
  // The task's own preface, unless the chat template has one; gives its tokens.
  std::uint64_t read_preface(Session& session) const {
    if (options_.form.chat) return 0;
    const std::vector<std::int32_t> preface =
        engine_.tokenize(std::string(needle_preface()) + "\n\n");
    session.append(preface, {.use_span = false});
    return preface.size();
  }

  // The archive serves all modes; only the first fills it.
  double read_into_archive() {
    if (archive_) return archive_seconds_;
    directory_ = std::make_unique<apps::TemporaryDirectory>(options_.work_dir);
    archive_ = std::make_unique<Archive>(ArchiveOptions{*directory_ / "archive", true});
    IngestOptions ingest{.collection = kCollection, .source = "text", .text = haystack_.text};
    ingest.codec = options_.session.codec;
    ingest.window = options_.session.window;
    ingest.sinks = std::max(0, options_.session.sinks);
    ingest.segment = options_.session.segment;
    archive_seconds_ = archive_->ingest(engine_, ingest, on_read_).seconds;
    return archive_seconds_;
  }

  const Engine& engine_;
  const NeedleOptions& options_;
  const Haystack& haystack_;
  NeedleSample base_;
  Progress on_read_;
  std::unique_ptr<apps::TemporaryDirectory> directory_;
  std::unique_ptr<Archive> archive_;
  double archive_seconds_ = 0;
};

}  // namespace

std::string length_name(std::uint64_t length) {
  if (length >= (1u << 20) && length % (1u << 20) == 0) return std::to_string(length >> 20) + "M";
  if (length >= 1024 && length % 1024 == 0) return std::to_string(length >> 10) + "K";
  return std::to_string(length);
}

Haystack needle_prompt(const Engine& engine, const Corpus& corpus, const NeedleOptions& options,
                       std::uint64_t length, std::uint64_t index) {
  Random random(options.seed * 0x100000001B3ull + length * 1000003ull + index);
  const std::size_t part = index % options.depths;
  // The question is as long for one key as for another, give or take a token or two.
  const std::uint64_t question = engine.tokenize(options.form.ask_for("ancient-dragon")).size();
  if (length <= question) {
    throw Error(EID_INVALID_ARGUMENT,
                "a length of " + std::to_string(length) + " tokens holds no more than the question",
                "ask for a greater length");
  }
  HaystackOptions haystack;
  haystack.length = length - question;
  haystack.needles = options.keys;
  haystack.depth_from = static_cast<double>(part) / static_cast<double>(options.depths);
  haystack.depth_to = static_cast<double>(part + 1) / static_cast<double>(options.depths);
  return build_haystack(engine, corpus, random, haystack);
}

std::vector<NeedleSample> run_needle(const Engine& engine, const Corpus& corpus,
                                     const NeedleOptions& options, const NeedleProgress& progress) {
  // Modes that share one archived text count it once.
  const std::uint64_t reads = options.via == Via::kArchive ? 1 : options.modes.size();
  std::uint64_t total = 0, done = 0;
  for (const std::uint64_t length : options.lengths) total += length * options.samples * reads;

  std::vector<NeedleSample> samples;
  for (const std::uint64_t length : options.lengths) {
    for (std::uint64_t index = 0; index < options.samples; ++index) {
      const Haystack haystack = needle_prompt(engine, corpus, options, length, index);
      NeedleSample base;
      base.length = length;
      base.index = index;
      base.tokens = haystack.tokens.size();
      base.depth_part = index % options.depths;
      base.depth = haystack.depth;
      base.key = haystack.needles[0].key;
      base.number = haystack.needles[0].number;
      base.recallable = is_recallable(options, haystack);
      const Progress on_read = [&](const eid_progress& read) {
        return !progress || progress(base, done + std::min(read.done, length), total);
      };
      SampleRun run(engine, options, haystack, base, on_read);
      for (const std::string& mode : options.modes) {
        base.mode = mode;
        samples.push_back(run.run(mode));
        if (options.via == Via::kSession || mode == options.modes.back()) done += length;
        if (progress && !progress(samples.back(), done, total)) {
          throw Error(EID_CANCELLED, "the evaluation was stopped after " +
                                         std::to_string(samples.size()) + " answers");
        }
      }
    }
  }
  return samples;
}

std::vector<NeedleCell> needle_cells(const NeedleOptions& options,
                                     const std::vector<NeedleSample>& samples) {
  std::vector<NeedleCell> cells;
  for (const std::string& mode : options.modes) {
    for (const std::uint64_t length : options.lengths) {
      NeedleCell cell{mode, length};
      cell.by_depth.resize(options.depths);
      double tokens = 0, seconds = 0;
      for (const NeedleSample& s : samples) {
        if (s.mode != mode || s.length != length) continue;
        ++cell.samples;
        cell.hits += s.hit;
        cell.recallable += s.recallable;
        cell.presence += s.presence;
        ++cell.by_depth[s.depth_part].samples;
        cell.by_depth[s.depth_part].hits += s.hit;
        tokens += static_cast<double>(s.tokens);
        seconds += s.read_seconds;
      }
      cell.tokens_per_second = seconds > 0 ? tokens / seconds : 0;
      cells.push_back(cell);
    }
  }
  return cells;
}

json needle_report(const NeedleOptions& options, const std::vector<NeedleSample>& samples) {
  const auto share = [](int part, int whole) -> json {
    return whole > 0 ? json(static_cast<double>(part) / whole) : json(nullptr);
  };
  json cells = json::array();
  for (const NeedleCell& cell : needle_cells(options, samples)) {
    json depths = json::array();
    for (std::size_t d = 0; d < cell.by_depth.size(); ++d) {
      const double parts = static_cast<double>(options.depths);
      depths.push_back({{"from", static_cast<double>(d) / parts},
                        {"to", static_cast<double>(d + 1) / parts},
                        {"samples", cell.by_depth[d].samples},
                        {"hits", cell.by_depth[d].hits}});
    }
    const bool has_span = cell.mode == "stream" || cell.mode == "random";
    cells.push_back(
        {{"mode", cell.mode},
         {"length", cell.length},
         {"samples", cell.samples},
         {"hits", cell.hits},
         {"accuracy", share(cell.hits, cell.samples)},
         {"recallable", cell.recallable},
         {"span_recall",
          has_span && cell.recallable > 0 ? json(cell.presence / cell.recallable) : json()},
         {"tokens_per_second", cell.tokens_per_second},
         {"by_depth", depths}});
  }
  json all = json::array();
  for (const NeedleSample& s : samples) {
    all.push_back({{"mode", s.mode},
                   {"length", s.length},
                   {"index", s.index},
                   {"tokens", s.tokens},
                   {"depth", s.depth},
                   {"key", s.key},
                   {"number", s.number},
                   {"answer", s.answer},
                   {"hit", s.hit},
                   {"recallable", s.recallable},
                   {"presence", s.presence},
                   {"read_seconds", s.read_seconds},
                   {"answer_seconds", s.answer_seconds}});
  }
  return {{"parameters",
           {{"lengths", options.lengths},
            {"modes", options.modes},
            {"samples", options.samples},
            {"keys", options.keys},
            {"seed", options.seed},
            {"via", options.via == Via::kSession ? "session" : "archive"},
            {"question_form", options.form.name},
            {"question", options.form.text},
            {"answer_tokens", options.answer_tokens},
            {"window", options.session.window},
            {"sinks", options.session.sinks},
            {"segment", options.session.segment},
            {"span_blocks", options.session.span_blocks},
            {"candidates", options.session.candidate_blocks},
            {"query_offset", options.session.query_offset},
            {"span_layers", options.session.span_layers},
            {"codec", options.session.codec}}},
          {"cells", cells},
          {"samples", all}};
}

HeatMap needle_heat_map(const NeedleOptions& options, const std::vector<NeedleCell>& cells,
                        const std::string& model) {
  HeatMap map;
  map.title = options.keys == 1 ? "Needle in a haystack"
                                : std::to_string(options.keys) + " needles in a haystack";
  map.subtitle = model + ", text read " +
                 (options.via == Via::kSession ? "in the session that is asked"
                                               : "into an archive, asked by a fresh session") +
                 ", seed " + std::to_string(options.seed);
  for (const std::uint64_t length : options.lengths) map.columns.push_back(length_name(length));
  for (std::size_t d = 0; d < options.depths; ++d) {
    map.rows.push_back(std::to_string(100 * d / options.depths) + "-" +
                       std::to_string(100 * (d + 1) / options.depths) + " %");
  }
  for (std::size_t m = 0; m < options.modes.size(); ++m) {
    HeatPanel panel{options.modes[m], {}};
    panel.cells.resize(options.depths);
    for (std::size_t l = 0; l < options.lengths.size(); ++l) {
      const NeedleCell& cell = cells[m * options.lengths.size() + l];
      for (std::size_t d = 0; d < options.depths; ++d) panel.cells[d].push_back(cell.by_depth[d]);
    }
    map.panels.push_back(panel);
  }
  return map;
}

}  // namespace eidetic::eval
