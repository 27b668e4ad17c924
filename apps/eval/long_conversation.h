// Long conversations: a fact is told in an early turn, many turns of running text later it is asked
// for. The program, the archive and the session are closed and opened again on the way.
#ifndef EIDETIC_APPS_EVAL_LONG_CONVERSATION_H_
#define EIDETIC_APPS_EVAL_LONG_CONVERSATION_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/eval/haystack.h"
#include "apps/eval/question_form.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

struct LongConversationOptions {
  std::size_t turns = 200;           // the last one asks for the fact
  std::size_t fact_turn = 3;         // in whose text it stands
  std::size_t conversations = 20;    // with other text and another fact each
  std::size_t restarts = 10;         // in each, evenly spread
  std::size_t message_tokens = 280;  // of running text in a message, at least
  int reply_tokens = 8;              // most tokens of an answer to running text
  int answer_tokens = 24;            // and to the question
  std::uint64_t seed = 1;
  QuestionForm form;
  SessionOptions session;  // `mode` and `seed` are set per conversation
  std::string work_dir;    // for archives
};

// The messages of one conversation: a pure function of the options' seed and `index`.
struct Script {
  Needle fact;
  std::vector<std::string> messages;  // the question is not among them
};
Script conversation_script(const Corpus& corpus, const LongConversationOptions& options,
                           std::uint64_t index);

struct LongConversation {
  std::uint64_t index = 0;
  bool memory = true;  // false: mode `window`, which keeps and recalls nothing
  std::string key, number, answer;
  bool hit = false;
  double presence = 0;  // how often a block of the fact was in the span (Passage::presence)
  std::uint64_t turns = 0, tokens = 0, restarts = 0;
  std::string digest;  // of all tokens, read and answered: equal for equal conversations
  double seconds = 0, commit_seconds = 0;  // of all; of the commits among them
  double slowest_commit_seconds = 0;
  std::uint64_t commit_bytes = 0;
};
nlohmann::json to_json(const LongConversation& conversation);
LongConversation long_conversation_from_json(const nlohmann::json& json);

// Returns false to stop, which throws EID_CANCELLED. Called after every turn.
using TurnProgress = std::function<bool(std::uint64_t turn)>;

LongConversation run_conversation(const Engine& engine, const Corpus& corpus,
                                  const LongConversationOptions& options, std::uint64_t index,
                                  bool memory, const TurnProgress& progress);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_LONG_CONVERSATION_H_
