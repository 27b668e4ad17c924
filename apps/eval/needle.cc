#include "apps/eval/needle.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "apps/common/ingest_settings.h"
#include "apps/common/temporary_directory.h"

namespace eidetic::eval {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

constexpr const char* kHaystack = "haystack";
constexpr int kDefaultSinks = 32;
// Tokens leave the window in blocks: up to two blocks of tokens stay a little longer.
constexpr std::uint64_t kBlockSlack = 64;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

bool is_recallable(const NeedleOptions& options, const std::string& mode,
                   const Haystack& haystack) {
  if (reads_a_sequence(mode)) return false;  // nothing leaves a window there
  if (options.via == Via::kArchive) return true;
  const auto& session = options.session;
  const std::uint64_t window = session.window > 0 ? session.window : kDefaultWindow;
  const std::uint64_t sinks =
      session.sinks > 0 ? session.sinks : (session.sinks < 0 ? 0 : kDefaultSinks);
  const Range& number = haystack.needles[0].tokens;
  return number.begin >= sinks && number.end + window + kBlockSlack <= haystack.tokens.size();
}

// How many of the numbers stand in the answer.
std::size_t count_numbers(const NeedleSample& sample) {
  return static_cast<std::size_t>(std::count_if(
      sample.numbers.begin(), sample.numbers.end(),
      [&](const std::string& number) { return sample.answer.find(number) != std::string::npos; }));
}

// The token of the greatest logit in each row.
std::vector<std::int32_t> likeliest(const std::vector<float>& logits, std::size_t rows) {
  const auto width = static_cast<std::ptrdiff_t>(logits.size() / rows);
  std::vector<std::int32_t> tokens;
  for (auto row = logits.begin(); row != logits.end(); row += width) {
    tokens.push_back(static_cast<std::int32_t>(std::max_element(row, row + width) - row));
  }
  return tokens;
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
  // Nothing after the last number can change the outcome.
  const Answer answer = session.generate(generate, [&](std::string_view piece) {
    sample.answer += piece;
    return count_numbers(sample) < sample.numbers.size();
  });
  sample.answer = answer.text;
  sample.found = count_numbers(sample);
  sample.hit = sample.found == sample.numbers.size();
  sample.answer_seconds = seconds_since(begin);

  const Needle& needle = haystack.needles[0];
  for (const Passage& passage : session.sources()) {
    const bool found =
        options.via == Via::kArchive
            ? passage.collection == kHaystack &&
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
        on_read_(std::move(on_read)),
        vocabulary_(json::parse(engine.info()).at("vocabulary")) {}

  NeedleSample run(const std::string& mode) {
    NeedleSample sample = base_;
    sample.mode = mode;
    sample.recallable = is_recallable(options_, mode, haystack_);
    try {
      if (reads_a_sequence(mode)) {
        ask_in_a_sequence(mode, sample);
      } else {
        ask_a_session(mode, sample);
      }
    } catch (const Error& error) {
      if (error.status() != EID_OUT_OF_MEMORY || recalls(mode)) throw;
      sample.fits = false;
    }
    return sample;
  }

 private:
  void ask_a_session(const std::string& mode, NeedleSample& sample) {
    SessionOptions session_options = session_of(mode, options_.session, engine_);
    session_options.seed = options_.seed + sample.index;
    Session session(engine_, session_options);
    const std::uint64_t text_begin = read_preface(session);
    if (options_.via == Via::kArchive) {
      sample.read_seconds = read_into_archive();
      // Mode window has no span; it shows what the question alone brings.
      if (recalls(mode)) session.attach(*archive_, kHaystack);
    } else {
      const auto begin = Clock::now();
      session.append(haystack_.tokens, {.use_span = false}, on_read_);
      sample.read_seconds = seconds_since(begin);
    }
    ask_for_needle(session, options_, haystack_, text_begin, sample);
  }

  void ask_in_a_sequence(const std::string& mode, NeedleSample& sample) const {
    std::vector<std::int32_t> tokens = preface();
    const auto append = [&](const std::vector<std::int32_t>& more) {
      tokens.insert(tokens.end(), more.begin(), more.end());
    };
    append(haystack_.tokens);
    append(engine_.tokenize(options_.form.ask_for(sample.key)));
    const std::vector<std::int32_t> answer = engine_.tokenize(" " + sample.numbers[0]);
    append(answer);
    const auto begin = Clock::now();
    SequenceOptions sequence = sequence_of(mode, options_.sequence);
    sequence.losses = false;
    sequence.logit_rows = answer.size() + 1;
    sequence.seed = options_.seed + sample.index;
    const std::vector<float> logits = engine_.read_sequence(tokens, sequence, vocabulary_).logits;
    sample.read_seconds = seconds_since(begin);
    std::vector<std::int32_t> said = likeliest(logits, sequence.logit_rows);
    said.pop_back();  // what would follow the answer
    sample.answer = engine_.detokenize(said);
    sample.hit = said == answer;
    sample.found = sample.hit ? 1 : 0;
  }

  std::vector<std::int32_t> preface() const {
    if (options_.form.chat) return {};
    return engine_.tokenize(std::string(needle_preface()) + "\n\n");
  }

  // The task's own preface, unless the chat template has one; gives its tokens.
  std::uint64_t read_preface(Session& session) const {
    const std::vector<std::int32_t> tokens = preface();
    if (!tokens.empty()) session.append(tokens, {.use_span = false});
    return tokens.size();
  }

  // The archive serves all modes; only the first fills it.
  double read_into_archive() {
    if (archive_) return archive_seconds_;
    directory_ = std::make_unique<apps::TemporaryDirectory>(options_.work_dir);
    archive_ = std::make_unique<Archive>(ArchiveOptions{*directory_ / "archive", true});
    archive_seconds_ =
        archive_
            ->ingest(engine_, apps::ingest_as(options_.session, kHaystack, "text", haystack_.text),
                     on_read_)
            .seconds;
    return archive_seconds_;
  }

  const Engine& engine_;
  const NeedleOptions& options_;
  const Haystack& haystack_;
  NeedleSample base_;
  Progress on_read_;
  std::size_t vocabulary_;
  std::unique_ptr<apps::TemporaryDirectory> directory_;
  std::unique_ptr<Archive> archive_;
  double archive_seconds_ = 0;
};

NeedleSample sample_of(const NeedleOptions& options, const Haystack& haystack, std::uint64_t length,
                       std::uint64_t index) {
  NeedleSample sample;
  sample.length = length;
  sample.index = index;
  sample.tokens = haystack.tokens.size();
  sample.depth_part = index % options.depths;
  sample.depth = haystack.depth;
  sample.key = haystack.needles[0].key;
  for (std::size_t v = 0; v < options.values; ++v) {
    sample.numbers.push_back(haystack.needles[v].number);
  }
  return sample;
}

}  // namespace

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
  haystack.values = options.values;
  haystack.depth_from = static_cast<double>(part) / static_cast<double>(options.depths);
  haystack.depth_to = static_cast<double>(part + 1) / static_cast<double>(options.depths);
  return build_haystack(engine, corpus, random, haystack);
}

std::vector<NeedleSample> run_needle(const Engine& engine, const Corpus& corpus,
                                     const NeedleOptions& options, const NeedleCalls& calls) {
  // Modes that share one archived text count it once.
  const auto reads_of = [&](const std::vector<std::string>& modes) {
    return options.via == Via::kArchive ? std::min<std::size_t>(1, modes.size()) : modes.size();
  };
  std::uint64_t total = 0, done = 0;
  for (const std::uint64_t length : options.lengths) {
    total += length * options.samples * reads_of(options.modes_within(length));
  }
  std::vector<NeedleSample> samples;
  for (const std::uint64_t length : options.lengths) {
    const std::vector<std::string> modes = options.modes_within(length);
    for (std::uint64_t i = 0; i < options.samples; ++i) {
      const std::uint64_t index = options.first_sample + i;
      std::optional<Haystack> haystack;  // built when it is needed
      std::unique_ptr<SampleRun> run;
      NeedleSample base;
      const Progress on_read = [&](const eid_progress& read) {
        return !calls.progress || calls.progress(base, done + std::min(read.done, length), total);
      };
      for (const std::string& mode : modes) {
        const NeedleSample* known = calls.known ? calls.known(mode, length, index) : nullptr;
        if (known != nullptr) {
          samples.push_back(*known);
        } else if (!options.only_known) {
          if (!run) {
            haystack = needle_prompt(engine, corpus, options, length, index);
            base = sample_of(options, *haystack, length, index);
            run = std::make_unique<SampleRun>(engine, options, *haystack, base, on_read);
          }
          base.mode = mode;
          samples.push_back(run->run(mode));
          if (calls.done) calls.done(samples.back());
        }
        if (options.via == Via::kSession || mode == modes.back()) done += length;
        base.mode = mode;
        if (calls.progress && !calls.progress(base, done, total)) {
          throw Error(EID_CANCELLED, "the evaluation was stopped after " +
                                         std::to_string(samples.size()) + " answers");
        }
      }
    }
  }
  return samples;
}

json to_json(const NeedleSample& s) {
  return {{"mode", s.mode},
          {"length", s.length},
          {"index", s.index},
          {"tokens", s.tokens},
          {"depth", s.depth},
          {"depth_part", s.depth_part},
          {"key", s.key},
          {"number", s.numbers.at(0)},
          {"numbers", s.numbers},
          {"answer", s.answer},
          {"found", s.found},
          {"hit", s.hit},
          {"fits", s.fits},
          {"recallable", s.recallable},
          {"presence", s.presence},
          {"read_seconds", s.read_seconds},
          {"answer_seconds", s.answer_seconds}};
}

NeedleSample needle_sample_from_json(const json& json) {
  NeedleSample s;
  s.mode = json.at("mode");
  s.length = json.at("length");
  s.index = json.at("index");
  s.tokens = json.at("tokens");
  s.depth = json.at("depth");
  s.depth_part = json.at("depth_part");
  s.key = json.at("key");
  s.numbers = json.at("numbers").get<std::vector<std::string>>();
  if (s.numbers.empty()) s.numbers.push_back(json.at("number"));
  s.answer = json.at("answer");
  s.found = json.at("found");
  s.hit = json.at("hit");
  s.fits = json.at("fits");
  s.recallable = json.at("recallable");
  s.presence = json.at("presence");
  s.read_seconds = json.at("read_seconds");
  s.answer_seconds = json.at("answer_seconds");
  return s;
}

}  // namespace eidetic::eval
