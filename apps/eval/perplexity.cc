#include "apps/eval/perplexity.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <utility>

#include "apps/eval/json_number.h"

namespace eidetic::eval {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;
using Tokens = std::vector<std::int32_t>;

struct Piece {
  std::size_t text = 0;
  std::uint64_t index = 0;
  Tokens tokens;
  std::uint64_t scored = 0;  // of its end
};

// The pieces of one text: whole ones, and where every token is scored, the rest too.
std::vector<Piece> cut(const Tokens& tokens, std::size_t text, const std::string& name,
                       std::uint64_t length, const PerplexityOptions& options) {
  std::vector<Piece> pieces;
  for (std::size_t begin = 0; begin < tokens.size(); begin += length) {
    if (options.pieces > 0 && pieces.size() == options.pieces) break;
    const std::size_t end = std::min<std::size_t>(tokens.size(), begin + length);
    if (end - begin < 2 || (options.score > 0 && end - begin < length)) break;
    Piece piece{text, pieces.size(), {}, options.score > 0 ? options.score : end - begin};
    piece.tokens.assign(tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                        tokens.begin() + static_cast<std::ptrdiff_t>(end));
    pieces.push_back(std::move(piece));
  }
  if (!pieces.empty()) return pieces;
  throw Error(EID_INVALID_ARGUMENT,
              "'" + name + "' has " + std::to_string(tokens.size()) + " tokens, no piece of " +
                  std::to_string(length),
              "name a longer text, or shorter --lengths");
}

std::vector<float> losses_of(const Engine& engine, const PerplexityOptions& options,
                             const std::string& mode, const Piece& piece, const Progress& on_read) {
  if (reads_a_sequence(mode)) {
    std::vector<float> losses =
        engine.read_sequence(piece.tokens, sequence_of(mode, options.sequence)).losses;
    losses.erase(losses.begin(), losses.end() - static_cast<std::ptrdiff_t>(piece.scored));
    return losses;
  }
  const auto cut = piece.tokens.end() - static_cast<std::ptrdiff_t>(piece.scored);
  Session session(engine, session_of(mode, options.session, engine));
  const Tokens before(piece.tokens.begin(), cut), scored(cut, piece.tokens.end());
  if (!before.empty()) session.append(before, {.use_span = false}, on_read);
  const auto on_scored = [&](const eid_progress& read) {
    eid_progress of_piece = read;
    of_piece.done += before.size();
    return on_read(of_piece);
  };
  return session.losses(scored, {.use_span = true}, on_scored);
}

PieceLoss read_piece(const Engine& engine, const PerplexityOptions& options,
                     const std::string& mode, std::uint64_t length, const std::string& name,
                     const Piece& piece, const Progress& on_read) {
  const auto begin = Clock::now();
  std::vector<float> losses = losses_of(engine, options, mode, piece, on_read);
  PieceLoss result{name, mode, length, piece.index};
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  // The first token of a fresh state has no loss.
  const std::size_t first = !losses.empty() && std::isnan(losses.front()) ? 1 : 0;
  result.tokens = losses.size() - first;
  result.nats =
      std::accumulate(losses.begin() + static_cast<std::ptrdiff_t>(first), losses.end(), 0.0);
  result.words = count_words(engine.detokenize(
      {piece.tokens.end() - static_cast<std::ptrdiff_t>(result.tokens), piece.tokens.end()}));
  return result;
}

void add(Perplexity& sum, const PieceLoss& loss) {
  ++sum.pieces;
  sum.tokens += loss.tokens;
  sum.words += loss.words;
  sum.nats += loss.nats;
  sum.seconds += loss.seconds;
}

}  // namespace

double Perplexity::loss() const {
  return nats / static_cast<double>(tokens);
}
double Perplexity::token_perplexity() const {
  return std::exp(loss());
}
double Perplexity::word_perplexity() const {
  return std::exp(nats / static_cast<double>(words));
}

std::uint64_t count_words(const std::string& text) {
  std::uint64_t words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool space = c == ' ' || (c >= '\t' && c <= '\r');
    if (!space && !inside) ++words;
    inside = !space;
  }
  return words;
}

std::vector<PieceLoss> measure_perplexity(const Engine& engine, const std::vector<NamedText>& texts,
                                          const PerplexityOptions& options,
                                          const PerplexityCalls& calls) {
  std::vector<Tokens> tokens;
  for (const NamedText& text : texts) tokens.push_back(engine.tokenize(text.text));
  std::vector<std::pair<std::uint64_t, std::vector<Piece>>> plan;
  std::uint64_t total = 0, done = 0;
  for (const std::uint64_t length : options.lengths) {
    if (options.score > length) {
      throw Error(EID_INVALID_ARGUMENT,
                  std::to_string(options.score) + " tokens cannot be scored of a piece of " +
                      std::to_string(length),
                  "score fewer with --score, or name greater --lengths");
    }
    plan.emplace_back(length, std::vector<Piece>());
    for (std::size_t t = 0; t < texts.size(); ++t) {
      for (Piece& piece : cut(tokens[t], t, texts[t].name, length, options)) {
        total += piece.tokens.size() * options.modes.size();
        plan.back().second.push_back(std::move(piece));
      }
    }
  }
  std::vector<PieceLoss> result;
  for (const auto& [length, pieces] : plan) {
    for (const Piece& piece : pieces) {
      const std::string& name = texts[piece.text].name;
      for (const std::string& mode : options.modes) {
        const auto tell = [&, &mode = mode](std::uint64_t now) {
          return !calls.progress || calls.progress(mode, now, total);
        };
        const PieceLoss* known =
            calls.known ? calls.known(name, mode, length, piece.index) : nullptr;
        if (known != nullptr) {
          result.push_back(*known);
        } else if (!options.only_known) {
          result.push_back(
              read_piece(engine, options, mode, length, name, piece,
                         [&](const eid_progress& read) { return tell(done + read.done); }));
          if (calls.done) calls.done(result.back());
        }
        done += piece.tokens.size();
        if (!tell(done)) throw Error(EID_CANCELLED, "the evaluation was stopped");
      }
    }
  }
  return result;
}

std::vector<Perplexity> sum_losses(const std::vector<PieceLoss>& losses,
                                   const std::vector<NamedText>& texts,
                                   const PerplexityOptions& options) {
  std::vector<std::string> names;
  for (const NamedText& text : texts) names.push_back(text.name);
  names.emplace_back();
  std::vector<Perplexity> sums;
  for (const std::string& name : names) {
    for (const std::uint64_t length : options.lengths) {
      for (const std::string& mode : options.modes) {
        Perplexity sum{name, mode, length};
        for (const PieceLoss& loss : losses) {
          if ((name.empty() || loss.text == name) && loss.mode == mode && loss.length == length) {
            add(sum, loss);
          }
        }
        if (sum.tokens > 0) sums.push_back(sum);
      }
    }
  }
  return sums;
}

json to_json(const PieceLoss& loss) {
  return {{"text", loss.text},   {"mode", loss.mode},      {"length", loss.length},
          {"piece", loss.piece}, {"tokens", loss.tokens},  {"words", loss.words},
          {"nats", loss.nats},   {"seconds", loss.seconds}};
}

PieceLoss piece_loss_from_json(const json& json) {
  PieceLoss loss;
  loss.text = json.at("text");
  loss.mode = json.at("mode");
  loss.length = json.at("length");
  loss.piece = json.at("piece");
  loss.tokens = json.at("tokens");
  loss.words = json.at("words");
  loss.nats = json.at("nats");
  loss.seconds = json.at("seconds");
  return loss;
}

json to_json(const Perplexity& sum) {
  return {{"text", sum.text.empty() ? json(nullptr) : json(sum.text)},
          {"mode", sum.mode},
          {"length", sum.length},
          {"pieces", sum.pieces},
          {"tokens", sum.tokens},
          {"words", sum.words},
          {"loss", json_number(sum.loss())},
          {"token_perplexity", json_number(sum.token_perplexity())},
          {"word_perplexity", json_number(sum.word_perplexity())},
          {"seconds", sum.seconds}};
}

}  // namespace eidetic::eval
