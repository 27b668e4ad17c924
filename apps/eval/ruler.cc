#include "apps/eval/ruler.h"

#include <algorithm>
#include <chrono>
#include <initializer_list>

#include "apps/eval/chat_turn.h"
#include "apps/eval/reading_mode.h"

namespace eidetic::eval {
namespace {

using nlohmann::json;

using RulerClock = std::chrono::steady_clock;

double seconds_from(RulerClock::time_point begin) {
  return std::chrono::duration<double>(RulerClock::now() - begin).count();
}

std::vector<std::int32_t> joined_tokens(
    std::initializer_list<const std::vector<std::int32_t>*> parts) {
  std::vector<std::int32_t> tokens;
  for (const std::vector<std::int32_t>* part : parts) {
    tokens.insert(tokens.end(), part->begin(), part->end());
  }
  return tokens;
}

// Reads the prompt and fills in the answer's part of the sample. `turn`: empty without a chat
// template.
void ask_for_sample(const Engine& engine, const RulerOptions& options, const RulerTask& task,
                    const RulerPrompt& prompt, const ChatTurn& turn, const Progress& on_read,
                    RulerSample& sample) {
  SessionOptions session_options = session_of(sample.mode, options.session, engine);
  session_options.seed = options.seed + sample.index;
  Session session(engine, session_options);
  auto begin = RulerClock::now();
  const std::vector<std::int32_t> text = engine.tokenize(prompt.text);
  session.append(joined_tokens({&turn.opening, &text}), {.use_span = false}, on_read);
  sample.read_seconds = seconds_from(begin);

  begin = RulerClock::now();
  if (options.chat) {
    const auto asked = engine.tokenize(prompt.asked()),
               lead = engine.tokenize(prompt.answer_lead());
    session.append(joined_tokens({&asked, &turn.answering, &lead}),
                   {.use_span = true, .words = prompt.asked()});
  } else {
    session.append(prompt.question, {.use_span = true});
  }
  GenerateOptions generate;
  generate.max_tokens = task.answer_tokens;
  std::string said;
  // Nothing after the last reference can change the score.
  const Answer answer = session.generate(generate, [&](std::string_view piece) {
    said += piece;
    return ruler_score(task, said, prompt.answers) < 1;
  });
  sample.answer = ruler_answer(answer.text);
  sample.score = ruler_score(task, sample.answer, prompt.answers);
  sample.answer_seconds = seconds_from(begin);
}

class RulerRun {
 public:
  RulerRun(const Engine& engine, const RulerTexts& texts, const RulerOptions& options,
           const RulerCalls& calls)
      : engine_(engine), texts_(texts), options_(options), calls_(calls) {
    if (options.chat) turn_ = chat_turn_of(engine);
    for (const std::uint64_t length : options.lengths) {
      total_ +=
          length * options.samples * options.tasks.size() * options.modes_within(length).size();
    }
  }

  std::vector<RulerSample> run() {
    check_shortest_length();
    for (const std::uint64_t length : options_.lengths) {
      for (std::uint64_t i = 0; i < options_.samples; ++i) {
        for (const RulerTask& task : options_.tasks) {
          ask_in_every_mode(task, length, options_.first_sample + i);
        }
      }
    }
    return std::move(samples_);
  }

 private:
  RulerPrompt prompt_of(const RulerTask& task, std::uint64_t length, std::uint64_t index) const {
    return ruler_prompt(
        task, texts_, [&](std::string_view text) { return engine_.tokenize(text).size(); },
        options_.seed, length, index, turn_.tokens());
  }

  // A length that holds no prompt of a task is told before the others are asked.
  void check_shortest_length() const {
    constexpr std::uint64_t kHoldsEvery = 4096;
    const auto shortest = std::min_element(options_.lengths.begin(), options_.lengths.end());
    if (options_.only_known || shortest == options_.lengths.end() || *shortest >= kHoldsEvery ||
        options_.modes_within(*shortest).empty()) {
      return;
    }
    for (const RulerTask& task : options_.tasks) {
      (void)prompt_of(task, *shortest, options_.first_sample);
    }
  }

  void ask_in_every_mode(const RulerTask& task, std::uint64_t length, std::uint64_t index) {
    std::optional<RulerPrompt> prompt;  // made when it is needed
    for (const std::string& mode : options_.modes_within(length)) {
      const RulerSample* known =
          calls_.known ? calls_.known(mode, task.name, length, index) : nullptr;
      RulerSample sample;
      sample.mode = mode;
      sample.task = task.name;
      sample.length = length;
      sample.index = index;
      if (known != nullptr) {
        samples_.push_back(*known);
      } else if (!options_.only_known) {
        if (!prompt) prompt = prompt_of(task, length, index);
        measure(task, *prompt, sample);
      }
      done_ += length;
      if (calls_.progress && !calls_.progress(sample, done_, total_)) {
        throw Error(EID_CANCELLED, "the evaluation was stopped after " +
                                       std::to_string(samples_.size()) + " answers");
      }
    }
  }

  void measure(const RulerTask& task, const RulerPrompt& prompt, RulerSample& sample) {
    sample.tokens = prompt.tokens;
    sample.depth = prompt.depth;
    sample.references = prompt.answers;
    const Progress on_read = [&](const eid_progress& read) {
      return !calls_.progress ||
             calls_.progress(sample, done_ + std::min(read.done, sample.length), total_);
    };
    try {
      ask_for_sample(engine_, options_, task, prompt, turn_, on_read, sample);
    } catch (const Error& error) {
      if (error.status() != EID_OUT_OF_MEMORY || recalls(sample.mode)) throw;
      sample.fits = false;
    }
    samples_.push_back(sample);
    if (calls_.done) calls_.done(sample);
  }

  const Engine& engine_;
  const RulerTexts& texts_;
  const RulerOptions& options_;
  const RulerCalls& calls_;
  ChatTurn turn_;
  std::vector<RulerSample> samples_;
  std::uint64_t done_ = 0, total_ = 0;
};

}  // namespace

json to_json(const RulerSample& s) {
  return {{"mode", s.mode},
          {"task", s.task},
          {"length", s.length},
          {"index", s.index},
          {"tokens", s.tokens},
          {"depth", s.depth ? json(*s.depth) : json()},
          {"references", s.references},
          {"answer", s.answer},
          {"score", s.score},
          {"fits", s.fits},
          {"read_seconds", s.read_seconds},
          {"answer_seconds", s.answer_seconds}};
}

RulerSample ruler_sample_from_json(const json& json) {
  RulerSample s;
  s.mode = json.at("mode");
  s.task = json.at("task");
  s.length = json.at("length");
  s.index = json.at("index");
  s.tokens = json.at("tokens");
  if (!json.at("depth").is_null()) s.depth = json.at("depth").get<double>();
  s.references = json.at("references").get<std::vector<std::string>>();
  s.answer = json.at("answer");
  s.score = json.at("score");
  s.fits = json.at("fits");
  s.read_seconds = json.at("read_seconds");
  s.answer_seconds = json.at("answer_seconds");
  return s;
}

std::vector<RulerSample> run_ruler(const Engine& engine, const RulerTexts& texts,
                                   const RulerOptions& options, const RulerCalls& calls) {
  return RulerRun(engine, texts, options, calls).run();
}

}  // namespace eidetic::eval
