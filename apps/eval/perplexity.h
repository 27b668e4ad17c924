// Perplexity of books: every piece of `length` tokens is read from a fresh state, in every mode,
// and the loss of its tokens is summed.
#ifndef EIDETIC_APPS_EVAL_PERPLEXITY_H_
#define EIDETIC_APPS_EVAL_PERPLEXITY_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/eval/reading_mode.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

struct PerplexityOptions {
  std::vector<std::uint64_t> lengths = {8192};
  std::vector<std::string> modes = {"full", "window", "wide-window", "stream"};
  // Only the last so many tokens of a piece are scored, and recall where the mode does; those
  // before are read with the span off. 0: all.
  std::uint64_t score = 0;
  std::uint64_t pieces = 0;  // of each text; 0: all
  bool only_known = false;   // measure nothing
  SessionOptions session;
  SequenceOptions sequence;
};

struct NamedText {
  std::string name, text;
};

// One piece of a text, read in one mode.
struct PieceLoss {
  std::string text, mode;
  std::uint64_t length = 0, piece = 0;
  std::uint64_t tokens = 0, words = 0;  // scored
  double nats = 0;                      // summed over them
  double seconds = 0;                   // of reading the whole piece
};

nlohmann::json to_json(const PieceLoss& loss);
PieceLoss piece_loss_from_json(const nlohmann::json& json);  // throws json::exception

// The sums of one mode and length.
struct Perplexity {
  std::string text;  // empty: all texts
  std::string mode;
  std::uint64_t length = 0, pieces = 0, tokens = 0, words = 0;
  double nats = 0, seconds = 0;

  double loss() const;  // nats per token
  double token_perplexity() const;
  double word_perplexity() const;  // the same nats over words: comparable between tokenizers
};

struct PerplexityCalls {
  // A piece that is known already is not read; null when it is not.
  std::function<const PieceLoss*(const std::string& text, const std::string& mode,
                                 std::uint64_t length, std::uint64_t piece)>
      known;
  std::function<void(const PieceLoss&)> done;
  // Returns false to stop. Counts tokens read, over everything.
  std::function<bool(const std::string& mode, std::uint64_t done, std::uint64_t total)> progress;
};

// Words of a text: runs between white space.
std::uint64_t count_words(const std::string& text);

// In the order of lengths, texts, pieces, modes. Throws Error; EID_INVALID_ARGUMENT when a text is
// too short to be scored.
std::vector<PieceLoss> measure_perplexity(const Engine& engine, const std::vector<NamedText>& texts,
                                          const PerplexityOptions& options,
                                          const PerplexityCalls& calls);

// One for each text, length and mode that was measured, and one for all texts together.
std::vector<Perplexity> sum_losses(const std::vector<PieceLoss>& losses,
                                   const std::vector<NamedText>& texts,
                                   const PerplexityOptions& options);
nlohmann::json to_json(const Perplexity& sum);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_PERPLEXITY_H_
