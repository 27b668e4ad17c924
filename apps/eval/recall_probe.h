// Scores how well a model recalls under one setting after another. Documents with needles are read
// into a temporary archive once; every setting is then scored by fresh sessions that ask it, as
// `ask` does, and that read on where the documents end.
#ifndef EIDETIC_APPS_EVAL_RECALL_PROBE_H_
#define EIDETIC_APPS_EVAL_RECALL_PROBE_H_

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "apps/common/temporary_directory.h"
#include "apps/eval/haystack.h"
#include "apps/eval/question_form.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

// What a session recalls with. Written to the profile as it is.
struct RecallSettings {
  std::vector<std::int32_t> span_layers;  // ascending
  int span_blocks = 16;
  int candidate_blocks = 128;
  int query_offset = 1024;
  int layer_group = 1;  // in a session that recalls from its own past alone
};

// How well a setting recalls.
struct RecallScore {
  double loss = 0;  // nats per token of the right answer, the mean over samples
  int hits = 0;     // samples whose right answer stands: see Care
  int samples = 0;
  // Nats per token of running text that goes on from archived beginnings; NaN: not measured.
  double text_loss = std::numeric_limits<double>::quiet_NaN();
  // What the two are means of: the loss of each answer, and of each stretch of text that is read
  // with one span. In the same order for every setting, so that settings are compared pair by pair.
  std::vector<double> losses, text_losses;
  std::vector<bool> answered;  // of each answer: is it a hit?
  double recall_seconds = 0;   // spent choosing spans, of own_past alone
  double accuracy() const { return samples > 0 ? static_cast<double>(hits) / samples : 0; }
};

// The mean of paired differences and its standard error; 0 and 0 without pairs.
struct PairedDifference {
  double mean = 0, error = 0;
};
// Of `b` less `a`, which have the same size.
PairedDifference paired_difference(const std::vector<double>& a, const std::vector<double>& b);

// How much work a score is worth.
enum class Care {
  kOrder,   // to put settings in order: half of the needles and of the text
  kChoose,  // to accept one: all of them. In both, the answer is read in one pass, with one span,
            // and a hit is an answer whose every token is likelier than all others together
  kJudge,   // to report: token by token, the span chosen anew for each; a hit is the greedy answer
};

struct ProbeOptions {
  std::size_t samples = 8;           // documents with a needle, all in one collection
  std::uint64_t tokens = 2048;       // of one document
  std::size_t held_out = 4;          // documents with four needles, each in its own collection
  std::uint64_t continuation = 192;  // tokens scored after a document, of up to four of them
  std::uint64_t seed = 1;
  std::size_t jobs = 0;  // samples at a time; 0: one
  std::string work_dir;
};

// How a layer looked at the passage that answers, over all samples.
struct LayerLook {
  double rank = 0;   // mean of 1/rank of the right passage by the layer's attention
  double share = 0;  // mean share of the layer's attention that the right passage got
};

// Returns false to stop. `done` and `total` count samples of the stage.
using CalibrateProgress =
    std::function<bool(const std::string& stage, std::uint64_t done, std::uint64_t total)>;

// Belongs to one thread. Everything throws Error.
class RecallProbe {
 public:
  // Reads nothing yet. `engine`, `corpus` and `progress` must outlive the probe.
  RecallProbe(const Engine& engine, const Corpus& corpus, const ProbeOptions& options,
              const CalibrateProgress& progress);

  void read_documents();
  // Of the needles and texts that settings are chosen by. kJudge measures no text.
  RecallScore score(const std::string& stage, const RecallSettings& settings, Care care) const;
  // Of needles that nothing is chosen by, four in a document; read when first asked for.
  RecallScore held_out(const std::string& stage, const RecallSettings& settings);
  // The needles of the first documents, of about `tokens` tokens together, asked for in a session
  // that has read these itself; each by a fork of it, answers read in one pass.
  RecallScore own_past(const std::string& stage, const RecallSettings& settings,
                       std::uint64_t tokens);
  double text_loss_without_memory(const std::string& stage) const;
  // By layer of `settings`, while greedy answers are given.
  std::map<std::int32_t, LayerLook> looks(const std::string& stage,
                                          const RecallSettings& settings) const;

 private:
  struct Question {
    std::string collection, source;  // the document that holds the needle
    Needle needle;
  };
  struct AnswerScore {
    double loss = 0;
    bool hit = false;
  };

  // Runs `one(i)` for i below `count`, `jobs` at a time, and tells how far it is.
  void each(const std::string& stage, std::size_t count,
            const std::function<void(std::size_t)>& one) const;
  void tell(const std::string& stage, std::uint64_t done, std::uint64_t total) const;
  Haystack haystack_of_new_keys(std::size_t keys, std::uint64_t continuation);
  // Reads one document and remembers its questions.
  void read_document(const std::string& collection, const std::string& source, std::size_t keys,
                     std::uint64_t continuation, std::vector<Question>& questions);
  static RecallScore score_of(const std::vector<AnswerScore>& answers);
  void read_held_out();
  void hold(const std::string& collection);
  SessionOptions session_options(const RecallSettings& settings) const;
  Session ask(const RecallSettings& settings, const Question& question) const;
  AnswerScore answer_in_one_pass(Session& session, const Question& question) const;
  AnswerScore answer_token_by_token(Session& session, const Question& question) const;
  RecallScore score_needles(const std::string& stage, const RecallSettings& settings, Care care,
                            const std::vector<Question>& questions) const;
  // The loss of each stretch of text; no settings: without memory.
  std::vector<double> text_losses(const std::string& stage, const RecallSettings* settings,
                                  Care care) const;

  const Engine& engine_;
  const Corpus& corpus_;
  const ProbeOptions options_;
  const CalibrateProgress& progress_;
  Random random_;
  apps::TemporaryDirectory directory_;
  Archive archive_;
  QuestionForm form_;
  std::vector<Session> holders_;  // each keeps the index of a collection, which sessions share
  std::vector<Question> asked_, held_out_;
  std::vector<std::string> texts_;  // of the documents that `asked_` are of
  int own_sessions_ = 0;
  std::vector<std::vector<std::int32_t>> ends_;  // what comes after the first documents
  std::set<std::string> keys_;
};

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_RECALL_PROBE_H_
