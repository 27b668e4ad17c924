// RULER's needles in a haystack: one or more keys and values, in noise, in running text, or among
// needles that nobody asks for.
#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

#include "apps/eval/ruler_prompt.h"
#include "apps/eval/ruler_words.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::eval {
namespace {

// Needles stand at this many depths of running text, from its beginning to its end.
constexpr std::size_t kDepths = 40;

std::string draw_uuid(Random& random) {
  const std::uint64_t high = (random.next() & ~0xF000ull) | 0x4000ull;  // version 4
  const std::uint64_t low = (random.next() & ~(3ull << 62)) | (std::uint64_t{2} << 62);  // variant
  char text[40];
  std::snprintf(text, sizeof text, "%08llx-%04llx-%04llx-%04llx-%012llx",
                static_cast<unsigned long long>(high >> 32),
                static_cast<unsigned long long>(high >> 16 & 0xFFFF),
                static_cast<unsigned long long>(high & 0xFFFF),
                static_cast<unsigned long long>(low >> 48),
                static_cast<unsigned long long>(low & 0xFFFFFFFFFFFFull));
  return text;
}

std::string draw_key(const RulerTask& task, Random& random) {
  if (task.uuid_keys) return draw_uuid(random);
  const auto& adjectives = ruler_adjectives();
  const auto& nouns = ruler_nouns();
  return adjectives[random.below(adjectives.size())] + "-" + nouns[random.below(nouns.size())];
}

std::string draw_value(const RulerTask& task, Random& random) {
  return task.uuid_values ? draw_uuid(random) : std::to_string(1000000 + random.below(9000000));
}

// Keys and values that differ from all before.
class NeedleDraw {
 public:
  NeedleDraw(const RulerTask& task, Random& random) : task_(task), random_(random) {}

  std::string key() {
    if (!task_.uuid_keys && keys_.size() >= ruler_adjectives().size() * ruler_nouns().size() / 2) {
      throw Error(EID_INVALID_ARGUMENT,
                  "the words for keys of " + task_.name + " do not suffice for this length",
                  "ask for a smaller length");
    }
    return fresh(keys_, [&] { return draw_key(task_, random_); });
  }
  std::string value() {
    return fresh(values_, [&] { return draw_value(task_, random_); });
  }
  std::string sentence(const std::string& key, const std::string& value) const {
    return "One of the special magic " + type() + "s for " + key + " is: " + value + ".";
  }
  // "number"
  std::string type() const { return task_.uuid_values ? "uuid" : "number"; }

 private:
  template <typename Draw>
  static std::string fresh(std::set<std::string>& taken, Draw draw) {
    for (;;) {
      std::string one = draw();
      if (taken.insert(one).second) return one;
    }
  }

  const RulerTask& task_;
  Random& random_;
  std::set<std::string> keys_, values_;
};

// Running text of `words` words, the needles between its sentences.
std::string hide_in_text(const RunningText& text, Random& random, std::size_t words,
                         const std::vector<std::string>& needles) {
  const std::size_t first = text.sentence_at(random.below(text.words()));
  std::vector<std::size_t> depths = draw_different(random, kDepths, needles.size());
  std::sort(depths.begin(), depths.end());
  const std::vector<std::string_view> sentences = text.sentences(first, words);
  std::string result;
  const auto append = [&](std::string_view part) {
    if (!result.empty()) result += ' ';
    result += part;
  };
  std::size_t next = 0;
  for (std::size_t s = 0; s <= sentences.size(); ++s) {
    for (; next < needles.size() && sentences.size() * depths[next] / (kDepths - 1) <= s; ++next) {
      append(needles[next]);
    }
    if (s < sentences.size()) append(sentences[s]);
  }
  return result;
}

// The needles at random places among `lines`.
std::string hide_among_lines(Random& random, std::vector<std::string> lines,
                             const std::vector<std::string>& needles) {
  std::vector<std::size_t> places = draw_different(random, lines.size(), needles.size());
  std::sort(places.rbegin(), places.rend());
  for (std::size_t i = 0; i < needles.size(); ++i) {
    lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(places[i]), needles[i]);
  }
  return joined(lines, "\n");
}

std::string listed(const std::vector<std::string>& keys) {
  std::string list = keys[0];
  for (std::size_t i = 1; i < keys.size(); ++i) {
    list += (i + 1 < keys.size() ? ", " : ", and ") + keys[i];
  }
  return list;
}

}  // namespace

RulerPrompt needle_prompt_of(RulerDraw draw, std::size_t units) {
  const RulerTask& task = draw.task;
  Random places(draw.random.next());
  NeedleDraw needle(task, draw.random);
  std::vector<std::string> keys, needles;
  std::vector<std::vector<std::string>> values;
  for (int k = 0; k < task.keys; ++k) {
    keys.push_back(needle.key());
    values.emplace_back();
    for (int v = 0; v < task.values; ++v) {
      values.back().push_back(needle.value());
      needles.push_back(needle.sentence(keys.back(), values.back().back()));
    }
  }
  shuffle(draw.random, needles);
  RulerPrompt prompt;
  std::vector<std::string> asked;
  for (const std::size_t k :
       draw_different(draw.random, keys.size(), static_cast<std::size_t>(task.queries))) {
    asked.push_back(keys[k]);
    prompt.answers.insert(prompt.answers.end(), values[k].begin(), values[k].end());
  }

  std::string context;
  if (task.haystack == RulerHaystack::kText) {
    context = hide_in_text(draw.texts.text, places, units, needles);
  } else {
    std::vector<std::string> lines(units, std::string(kRulerNoise));
    if (task.haystack == RulerHaystack::kNeedles) {
      for (std::string& line : lines) {
        const std::string key = needle.key();
        line = needle.sentence(key, needle.value());
      }
    }
    context = hide_among_lines(places, std::move(lines), needles);
  }

  const bool one = task.queries * task.values == 1;
  const std::string type = needle.type() + (one ? "" : "s"), of = " for " + listed(asked);
  const std::string is = one ? "is" : "are", in_text = " mentioned in the provided text";
  const std::string lead = std::string(one ? "A" : "Some") + " special magic " + type + " " + is +
                           " hidden within the following text. Make sure to memorize it. I will "
                           "quiz you about the " +
                           type + " afterwards.\n";
  prompt.text = lead + context;
  prompt.ask(
      "\nWhat " + is + (one ? "" : " all") + " the special magic " + type + of + in_text + "?",
      " The special magic " + type + of + in_text + " " + is);
  prompt.depth = static_cast<double>(prompt.text.find(prompt.answers[0])) /
                 static_cast<double>(prompt.text.size());
  return prompt;
}

}  // namespace eidetic::eval
