// What the memory of a book's beginning is worth for its end: the beginning is read into an
// archive, the end by fresh sessions with and without it.
#ifndef EIDETIC_APPS_EVAL_CONTINUATION_H_
#define EIDETIC_APPS_EVAL_CONTINUATION_H_

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/eval/perplexity.h"
#include "eidetic/eidetic.hpp"

namespace eidetic::eval {

struct ContinuationOptions {
  std::uint64_t score = 2048;   // tokens of the end
  std::uint64_t beginning = 0;  // tokens before them that are archived; 0: all
  // Tokens between them that every session reads without memory: attention leans on the first
  // tokens of a session, and a span before these disturbs a model.
  std::uint64_t lead = 64;
  SessionOptions session;
  std::string work_dir;
};

// The end of one book.
struct Continuation {
  std::string text;
  std::uint64_t archived = 0, tokens = 0;  // of the beginning; scored
  // Nats per token: no memory; what attention recalls; blocks drawn at random, the control.
  double without = 0, with_memory = 0, at_random = 0;
};

nlohmann::json to_json(const Continuation& result);
Continuation continuation_from_json(const nlohmann::json& json);  // throws json::exception

// Throws Error; EID_INVALID_ARGUMENT when the text is too short. `progress` may be empty.
Continuation measure_continuation(const Engine& engine, const NamedText& text,
                                  const ContinuationOptions& options, const Progress& progress);

}  // namespace eidetic::eval

#endif  // EIDETIC_APPS_EVAL_CONTINUATION_H_
