// The C interface's eid_engine_read_sequence: whole sequences by the published method and its
// baselines.
#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "sdk/c_handles.h"

namespace sdk = eidetic::sdk;
namespace memory = eidetic::memory;
namespace model = eidetic::model;
using memory::Code;
using memory::Status;

namespace {

// Zero means the default, `*option` as it is.
Status Take(const char* name, int given, int* option) {
  if (given < 0) {
    return Status(Code::kInvalidArgument,
                  std::string(name) + " is " + std::to_string(given) + "; it must be 1 or more",
                  "correct it, or leave it 0 for the default");
  }
  if (given != 0) *option = given;
  return Status();
}

memory::Result<model::SequenceForwardOptions> ForwardOptionsOf(const eid_sequence_options& given) {
  model::SequenceForwardOptions result;
  const std::string name = given.mode != nullptr ? given.mode : "paper";
  const std::optional<model::SequenceMode> mode = model::FindSequenceMode(name);
  if (!mode) {
    return Status(
        Code::kInvalidArgument, "there is no sequence mode '" + name + "'",
        "choose full, window, s2, paper, paper-random, paper-no-memory, paper-landmark or "
        "se-stream");
  }
  result.attention.mode = *mode;
  model::SequenceAttentionOptions& attention = result.attention;
  const bool stream = *mode == model::SequenceMode::kStream;
  int& chunk = stream ? attention.stream.segment : attention.chunk_sizes.front();
  int& blocks = stream ? attention.stream.span_blocks : attention.span_blocks;
  int& window = stream ? attention.stream.window : attention.window;
  EID_RETURN_IF_ERROR(Take("chunk", given.chunk, &chunk));
  EID_RETURN_IF_ERROR(Take("block_tokens", given.block_tokens, &attention.block_tokens));
  // As many whole blocks of sinks as usual.
  const int block = attention.block_tokens;
  attention.stream.sinks = (attention.stream.sinks + block - 1) / block * block;
  EID_RETURN_IF_ERROR(Take("span_blocks", given.span_blocks, &blocks));
  EID_RETURN_IF_ERROR(Take("groups", given.groups, &attention.groups));
  EID_RETURN_IF_ERROR(Take("window", given.window, &window));
  result.attention.one_choice_for_all_heads = given.one_choice != 0;
  result.attention.seed = given.seed;
  result.losses = given.losses != nullptr;
  result.logit_rows = given.logits != nullptr ? static_cast<int64_t>(given.logit_rows) : 0;
  return result;
}

Status CheckTokensAndRoom(const eid_sequence_options& given, const sdk::Engine& engine) {
  if (given.token_count == 0) {
    return Status(Code::kInvalidArgument, "there are no tokens to read", "pass at least one token");
  }
  const auto vocabulary = static_cast<size_t>(engine.tokenizer().vocabulary());
  for (size_t i = 0; i < given.token_count; ++i) {
    if (given.tokens[i] >= 0 && static_cast<size_t>(given.tokens[i]) < vocabulary) continue;
    return Status(Code::kInvalidArgument,
                  "token " + std::to_string(i) + " has id " + std::to_string(given.tokens[i]) +
                      ", the vocabulary has 0.." + std::to_string(vocabulary - 1),
                  "pass tokens of this model's own tokenizer");
  }
  if (given.logits == nullptr) return Status();
  if (given.logit_rows > given.token_count) {
    return Status(Code::kInvalidArgument,
                  "logit_rows is " + std::to_string(given.logit_rows) + " for a sequence of " +
                      std::to_string(given.token_count) + " tokens",
                  "ask for at most one row a token");
  }
  const auto row = static_cast<size_t>(engine.model().config().vocabulary);
  if (given.logit_capacity / row < given.logit_rows) {
    return Status(Code::kInvalidArgument,
                  "logit_capacity is " + std::to_string(given.logit_capacity) + ", " +
                      std::to_string(given.logit_rows) + " rows of " + std::to_string(row) +
                      " logits need more",
                  "make room for logit_rows times the vocabulary that eid_engine_info tells");
  }
  return Status();
}

}  // namespace

eid_status eid_engine_read_sequence(const eid_engine* engine, const eid_sequence_options* options,
                                    eid_error* error) {
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(engine, "engine"));
    eid_sequence_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_sequence_options", &given));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(given.tokens, "tokens"));
    EID_RETURN_IF_ERROR(CheckTokensAndRoom(given, *engine->engine));
    EID_ASSIGN_OR_RETURN(const model::SequenceForwardOptions forward, ForwardOptionsOf(given));
    const model::SequenceOutput output = engine->engine->model().ForwardSequence(
        {given.tokens, given.tokens + given.token_count}, forward);
    if (given.losses != nullptr) {
      given.losses[0] = std::numeric_limits<float>::quiet_NaN();
      std::transform(output.losses.begin(), output.losses.end(), given.losses + 1,
                     [](double loss) { return static_cast<float>(loss); });
    }
    std::copy(output.logits.begin(), output.logits.end(), given.logits);
    return Status();
  });
}
