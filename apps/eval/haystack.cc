#include "apps/eval/haystack.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

namespace eidetic::eval {
namespace {

// A sentence longer than this is cut between words, so that prompts come close to their length.
constexpr std::size_t kPieceBytes = 400;

constexpr std::array kAdjectives = {
    "ancient", "brave",  "bright", "calm",   "clever", "crimson", "curious", "daring",
    "distant", "eager",  "early",  "fading", "gentle", "golden",  "grand",   "hidden",
    "hollow",  "humble", "icy",    "jolly",  "lively", "lonely",  "lucky",   "mellow",
    "misty",   "modern", "narrow", "noble",  "orange", "patient", "plain",   "polite",
    "proud",   "quiet",  "rapid",  "rustic", "silent", "silver",  "sturdy",  "velvet"};
constexpr std::array kNouns = {
    "anchor", "basket", "beacon", "bridge",  "candle",  "canyon", "castle",  "cradle",
    "desert", "dragon", "engine", "falcon",  "feather", "forest", "garden",  "glacier",
    "hammer", "harbor", "island", "jacket",  "kettle",  "ladder", "lantern", "magnet",
    "meadow", "mirror", "needle", "orchard", "parade",  "pepper", "pillow",  "planet",
    "ribbon", "saddle", "signal", "temple",  "thunder", "tunnel", "valley",  "window"};

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

// Whether a sentence ends just before `at`: . ! or ?, then any closing quotes or brackets.
bool sentence_ends(std::string_view text, std::size_t at) {
  static constexpr std::array<std::string_view, 5> kClosing = {"\"", "'", ")", "\xE2\x80\x9D",
                                                               "\xE2\x80\x99"};
  for (bool again = true; again;) {
    again = false;
    for (const std::string_view mark : kClosing) {
      if (text.substr(0, at).ends_with(mark)) {
        at -= mark.size();
        again = true;
      }
    }
  }
  return at > 0 && (text[at - 1] == '.' || text[at - 1] == '!' || text[at - 1] == '?');
}

const char* pick(Random& random, const auto& words) {
  return words[random.below(words.size())];
}

std::string needle_prefix(const Needle& needle) {
  return " One of the special magic numbers for " + needle.key + " is:";
}

// The last piece, word by word, as far as `room` tokens go.
Corpus::Piece first_words(const Engine& engine, const Corpus::Piece& piece, std::uint64_t room) {
  Corpus::Piece result;
  result.sentence = piece.sentence;
  std::size_t at = 0;
  while (at < piece.text.size()) {
    std::size_t end = at;
    while (end < piece.text.size() && is_space(piece.text[end])) ++end;
    while (end < piece.text.size() && !is_space(piece.text[end])) ++end;
    const std::string word = piece.text.substr(at, end - at);
    const std::vector<std::int32_t> tokens = engine.tokenize(word);
    if (result.tokens.size() + tokens.size() > room) break;
    result.text += word;
    result.tokens.insert(result.tokens.end(), tokens.begin(), tokens.end());
    at = end;
  }
  return result;
}

// A piece whose insertion point before it lies nearest to `target` tokens.
std::size_t boundary_near(const std::vector<Corpus::Piece>& pieces,
                          const std::vector<std::uint64_t>& begins, std::uint64_t target) {
  std::size_t best = 0;
  auto distance = [&](std::size_t i) {
    return begins[i] > target ? begins[i] - target : target - begins[i];
  };
  for (std::size_t i = 1; i < pieces.size(); ++i) {
    if (pieces[i].sentence && (best == 0 || distance(i) < distance(best))) best = i;
  }
  return best;
}

struct Insertion {
  std::size_t before;  // index of the piece
  std::size_t needle;
};

}  // namespace

std::uint64_t Random::next() {
  state_ += 0x9E3779B97F4A7C15ull;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

std::uint64_t Random::below(std::uint64_t bound) {
  // The bias of the remainder is under 2^-40 for the bounds used here.
  return next() % bound;
}

double Random::unit() {
  return static_cast<double>(next() >> 11) * 0x1.0p-53;
}

std::vector<TextPiece> split_text(std::string_view text) {
  std::vector<TextPiece> pieces;
  std::size_t begin = 0;
  bool sentence = true;
  for (std::size_t at = 1; at < text.size(); ++at) {
    if (!is_space(text[at]) || is_space(text[at - 1])) continue;
    const bool ends = sentence_ends(text, at);
    if (!ends && at - begin < kPieceBytes) continue;
    pieces.push_back({text.substr(begin, at - begin), sentence});
    begin = at;
    sentence = ends;
  }
  if (begin < text.size()) pieces.push_back({text.substr(begin), sentence});
  return pieces;
}

Corpus::Corpus(const Engine& engine, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    for (const TextPiece& piece : split_text(text)) {
      pieces_.push_back({std::string(piece.text), engine.tokenize(piece.text), piece.sentence});
      tokens_ += pieces_.back().tokens.size();
    }
  }
  const auto sentences = std::count_if(pieces_.begin(), pieces_.end(),
                                       [](const Piece& piece) { return piece.sentence; });
  if (sentences < 2) {
    throw Error(EID_INVALID_ARGUMENT,
                "the text has " + std::to_string(sentences) +
                    " sentence(s): a needle is hidden between two",
                "give a longer running text with --text");
  }
}

std::string Needle::sentence() const {
  return needle_prefix(*this) + " " + number + ".";
}

std::vector<Needle> draw_needles(Random& random, std::size_t keys, std::size_t values) {
  std::set<std::string> taken;
  std::vector<Needle> needles;
  if (keys > kAdjectives.size() * kNouns.size() / 2) {
    throw Error(EID_INVALID_ARGUMENT, std::to_string(keys) + " needles are too many",
                "ask for fewer: their keys must differ");
  }
  while (taken.size() < keys) {
    Needle needle;
    needle.key = std::string(pick(random, kAdjectives)) + "-" + pick(random, kNouns);
    needle.number = std::to_string(1000000 + random.below(9000000));
    if (!taken.insert(needle.key).second) continue;
    std::set<std::string> numbers;
    while (numbers.size() < values) {
      if (numbers.insert(needle.number).second) needles.push_back(needle);
      if (numbers.size() < values) {
        needle.number = std::to_string(1000000 + random.below(9000000));
      }
    }
  }
  return needles;
}

Haystack build_haystack(const Engine& engine, const Corpus& corpus, Random& random,
                        const HaystackOptions& options) {
  Haystack result;
  result.needles = draw_needles(random, options.needles, options.values);
  std::uint64_t needle_tokens = 0;
  for (const Needle& needle : result.needles) {
    needle_tokens += engine.tokenize(needle.sentence()).size();
  }
  if (options.length < 2 * needle_tokens + 64) {
    throw Error(EID_INVALID_ARGUMENT,
                "a length of " + std::to_string(options.length) + " tokens leaves no text around " +
                    std::to_string(result.needles.size()) + " needle(s)",
                "ask for a greater length");
  }

  const auto& all = corpus.pieces();
  std::size_t at = random.below(all.size());
  while (!all[at].sentence) at = (at + 1) % all.size();
  std::uint64_t room = options.length - needle_tokens;
  std::vector<Corpus::Piece> pieces;
  std::vector<std::uint64_t> begins;
  const std::uint64_t total = room;
  for (; room > 0; at = (at + 1) % all.size()) {
    begins.push_back(total - room);
    const bool last = all[at].tokens.size() > room;
    pieces.push_back(last ? first_words(engine, all[at], room) : all[at]);
    if (last) break;
    room -= pieces.back().tokens.size();
  }

  std::vector<Insertion> insertions;
  for (std::size_t i = 0; i < result.needles.size(); ++i) {
    const double from = i == 0 ? options.depth_from : 0, to = i == 0 ? options.depth_to : 1;
    const double depth = from + (to - from) * random.unit();
    const auto target = static_cast<std::uint64_t>(depth * static_cast<double>(total));
    insertions.push_back({boundary_near(pieces, begins, target), i});
  }
  std::stable_sort(insertions.begin(), insertions.end(),
                   [](const Insertion& a, const Insertion& b) { return a.before < b.before; });

  auto append = [&](const std::string& text, const std::vector<std::int32_t>& tokens) {
    result.text += text;
    result.tokens.insert(result.tokens.end(), tokens.begin(), tokens.end());
  };
  auto next = insertions.begin();
  for (std::size_t i = 0; i <= pieces.size(); ++i) {
    for (; next != insertions.end() && (next->before == i || i == pieces.size()); ++next) {
      Needle& needle = result.needles[next->needle];
      const std::uint64_t byte = result.text.size(), token = result.tokens.size();
      append(needle.sentence(), engine.tokenize(needle.sentence()));
      const std::string prefix = needle_prefix(needle);
      // Without the full stop after the number.
      needle.bytes = {byte + prefix.size() + 1, result.text.size() - 1};
      needle.tokens = {token + engine.tokenize(prefix).size(), result.tokens.size() - 1};
    }
    if (i < pieces.size()) append(pieces[i].text, pieces[i].tokens);
  }
  if (!result.needles.empty()) {
    result.depth = static_cast<double>(result.needles[0].tokens.begin) /
                   static_cast<double>(result.tokens.size());
  }
  return result;
}

std::string hide_needles(std::string_view text, std::size_t bytes, Random& random,
                         std::vector<Needle>& needles) {
  std::vector<TextPiece> pieces = split_text(text);
  std::size_t kept = 0, size = 0;
  while (kept < pieces.size() && size + pieces[kept].text.size() <= bytes) {
    size += pieces[kept++].text.size();
  }
  while (kept > 1 && kept < pieces.size() && !pieces[kept].sentence) --kept;
  pieces.resize(kept);

  std::vector<std::size_t> boundaries;
  for (std::size_t i = 1; i < pieces.size(); ++i) {
    if (pieces[i].sentence) boundaries.push_back(i);
  }
  if (boundaries.size() < needles.size()) {
    throw Error(EID_INVALID_ARGUMENT,
                "a text of " + std::to_string(boundaries.size()) +
                    " sentence boundaries cannot hide " + std::to_string(needles.size()) +
                    " needles",
                "give longer texts, or ask for fewer needles");
  }
  // One needle in each of as many equal parts, so that they do not crowd.
  std::string result;
  std::size_t next = 0;
  std::vector<std::size_t> before;
  for (std::size_t n = 0; n < needles.size(); ++n) {
    const std::size_t from = boundaries.size() * n / needles.size();
    const std::size_t to = boundaries.size() * (n + 1) / needles.size();
    before.push_back(boundaries[from + random.below(to - from)]);
  }
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    for (; next < needles.size() && before[next] == i; ++next) {
      Needle& needle = needles[next];
      const std::uint64_t byte = result.size() + needle_prefix(needle).size() + 1;
      result += needle.sentence();
      needle.bytes = {byte, result.size() - 1};
    }
    result += pieces[i].text;
  }
  return result;
}

}  // namespace eidetic::eval
