// The C interface's session functions.
#include <algorithm>
#include <utility>

#include "sdk/c_handles.h"

namespace sdk = eidetic::sdk;
namespace memory = eidetic::memory;
using memory::Code;
using memory::Result;
using memory::Status;

namespace {

// Zero means the default; a negative number means none.
int Size(int given, int fallback) {
  return given == 0 ? fallback : std::max(given, 0);
}

// What the caller left open is the model's retrieval profile's to say.
Result<sdk::SessionOptions> SessionOptionsOf(const eid_session_options& given,
                                             const sdk::RetrievalProfile& profile) {
  sdk::SessionOptions options;
  const int mode = sdk::NumberOf(given.mode);
  if (mode < EID_ATTENTION_STREAM || mode > EID_ATTENTION_RANDOM) {
    return Status(Code::kInvalidArgument, "mode is " + std::to_string(mode),
                  "use one of the values of eid_attention_mode");
  }
  options.mode = static_cast<sdk::SessionMode>(mode);
  options.window = Size(given.window, options.window);
  options.sinks = Size(given.sinks, options.sinks);
  options.segment = Size(given.segment, options.segment);
  options.span_blocks = Size(given.span_blocks, profile.span_blocks);
  options.candidate_blocks = Size(given.candidate_blocks, profile.candidate_blocks);
  options.query_offset =
      Size(given.query_offset, profile.calibrated ? profile.query_offset : options.window);
  options.layer_group = Size(given.layer_group, profile.layer_group);
  EID_ASSIGN_OR_RETURN(options.codec, sdk::CodecOption(given.codec));
  options.forget_own_past = given.forget_own_past != 0;
  if (given.span_layers == nullptr && given.span_layer_count > 0) {
    return Status(
        Code::kInvalidArgument,
        "span_layers is NULL, with a span_layer_count of " + std::to_string(given.span_layer_count),
        "set both, or neither for the profile's layers");
  }
  if (given.span_layers != nullptr) {
    options.span_layers.assign(given.span_layers, given.span_layers + given.span_layer_count);
  } else {
    options.span_layers = profile.span_layers;
  }
  // What the profile says is for sessions that can recall by words.
  const memory::RecallPolicy usual =
      options.mode == sdk::SessionMode::kStream ? profile.policy : memory::RecallPolicy::kAttention;
  EID_ASSIGN_OR_RETURN(options.policy, sdk::PolicyOption(sdk::NumberOf(given.policy), usual));
  const bool chooses =
      options.mode == sdk::SessionMode::kStream && options.policy != memory::RecallPolicy::kWords;
  options.successor_blocks =
      Size(given.successor_blocks, chooses ? profile.SuccessorsOf(options.span_blocks) : 0);
  const double usual_linger = chooses ? profile.LingerOf(options.span_blocks) : 0;
  options.linger = given.linger == 0 ? usual_linger : given.linger < 0 ? 0 : given.linger;
  options.words = profile.words;
  options.words.places = Size(given.word_places, profile.words.places);
  options.seed = given.seed;
  if (given.archive != nullptr) EID_RETURN_IF_ERROR(sdk::RequireName(given.name, "name"));
  if (given.name != nullptr) options.name = given.name;
  return options;
}

// Makes the handle, and keeps the session's name reserved while it lives.
template <typename Make>
Status NewSession(eid_archive* archive, const std::string& name, eid_session** out, Make make) {
  auto handle = std::make_unique<eid_session>();
  if (archive != nullptr) {
    if (!archive->open_sessions->Enter(name)) {
      return Status(Code::kLocked, "session '" + name + "' is already open in this process",
                    "free that session first");
    }
    handle->open_sessions = archive->open_sessions;
    handle->name = name;
  }
  EID_ASSIGN_OR_RETURN(handle->session, make());
  *out = handle.release();
  return Status();
}

std::function<bool(const sdk::AppendProgress&)> AppendCallback(const eid_append_options& options,
                                                               const sdk::SessionUse& use) {
  if (options.progress == nullptr) return {};
  return [options, &use](const sdk::AppendProgress& progress) {
    eid_progress told = {};
    told.struct_size = sizeof(told);
    told.stage = "reading";
    told.item = "";
    told.done = progress.tokens;
    told.total = progress.total;
    told.seconds = progress.seconds;
    return options.progress(&told, options.user) == 0 && use.CheckNotFreed().ok();
  };
}

std::function<bool(const sdk::AppendProgress&)> OpenCallback(const eid_open_options& options) {
  if (options.progress == nullptr) return {};
  return [options](const sdk::AppendProgress& progress) {
    eid_progress told = {};
    told.struct_size = sizeof(told);
    told.stage = "reading again";
    told.item = options.name;
    told.done = progress.tokens;
    told.total = progress.total;
    told.seconds = progress.seconds;
    return options.progress(&told, options.user) == 0;
  };
}

}  // namespace

eid_status eid_session_create(eid_engine* engine, const eid_session_options* options,
                              eid_session** out, eid_error* error) {
  sdk::Clear(out);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(out, "out"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(engine, "engine"));
    eid_session_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_session_options", &given));
    EID_ASSIGN_OR_RETURN(sdk::SessionOptions wanted,
                         SessionOptionsOf(given, engine->engine->profile()));
    return NewSession(given.archive, wanted.name, out, [&] {
      return sdk::Session::Create(engine->engine, wanted,
                                  given.archive != nullptr ? given.archive->archive : nullptr);
    });
  });
}

eid_status eid_session_open(eid_engine* engine, eid_archive* archive, const char* name,
                            eid_session** out, eid_error* error) {
  eid_open_options options = {};
  options.struct_size = sizeof(options);
  options.name = name;
  return eid_session_open_with(engine, archive, &options, out, error);
}

eid_status eid_session_open_with(eid_engine* engine, eid_archive* archive,
                                 const eid_open_options* options, eid_session** out,
                                 eid_error* error) {
  sdk::Clear(out);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(out, "out"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(engine, "engine"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(archive, "archive"));
    eid_open_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_open_options", &given));
    EID_RETURN_IF_ERROR(sdk::RequireText(given.name, "name"));
    // Held: the callback may free the handles.
    const auto reader = engine->engine;
    const auto kept = archive->archive;
    return NewSession(archive, given.name, out, [&] {
      return sdk::Session::Open(reader, kept, given.name, OpenCallback(given));
    });
  });
}

void eid_session_free(eid_session* session) {
  if (session == nullptr) return;
  {
    std::lock_guard<std::mutex> lock(session->mutex);
    session->freed = true;
    if (session->in_use) return;  // the end of that call deletes it
  }
  delete session;
}

eid_status eid_session_attach(eid_session* session, eid_archive* archive, const char* collection,
                              eid_error* error) {
  return sdk::Call(error, [&]() -> Status {
    const sdk::SessionUse use(session);
    EID_RETURN_IF_ERROR(use.status());
    EID_RETURN_IF_ERROR(sdk::RequireHandle(archive, "archive"));
    EID_RETURN_IF_ERROR(sdk::RequireText(collection, "collection"));
    return use->Attach(archive->archive, collection);
  });
}

eid_status eid_session_append(eid_session* session, const eid_append_options* options,
                              eid_error* error) {
  return sdk::Call(error, [&]() -> Status {
    const sdk::SessionUse use(session);
    EID_RETURN_IF_ERROR(use.status());
    eid_append_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_append_options", &given));
    EID_RETURN_IF_ERROR(sdk::RequireLength(given.text, given.text_length, "text"));
    const std::string_view text = sdk::View(given.text, given.text_length);
    EID_RETURN_IF_ERROR(sdk::RequireLength(given.words, given.words_length, "words"));
    const std::string_view words = sdk::View(given.words, given.words_length);
    const bool use_span = given.use_span != 0;
    if (given.tokens != nullptr && given.text != nullptr) {
      return Status(Code::kInvalidArgument, "both text and tokens are set", "set one of them");
    }
    if (given.tokens != nullptr && given.role != nullptr) {
      return Status(Code::kInvalidArgument, "both role and tokens are set",
                    "pass the message as text, or tokens without a role");
    }
    if (given.tokens == nullptr && given.losses != nullptr) {
      return Status(Code::kInvalidArgument, "losses are asked for without tokens",
                    "tokenize the text first: there is one number for each token");
    }
    const auto progress = AppendCallback(given, use);
    Status status;
    if (given.tokens != nullptr) {
      std::vector<float> losses;
      status = use->Append(std::vector<int32_t>(given.tokens, given.tokens + given.token_count),
                           use_span, progress, words, given.losses != nullptr ? &losses : nullptr,
                           given.keep_beginning != 0);
      std::copy(losses.begin(), losses.end(), given.losses);
    } else if (given.role != nullptr) {
      status = use->AppendMessage(given.role, std::string(text), use_span, progress, words);
    } else {
      status =
          use->Append(use->engine().tokenizer().Encode(text, /*special=*/false), use_span, progress,
                      words.empty() ? text : words, /*losses=*/nullptr, given.keep_beginning != 0);
    }
    EID_RETURN_IF_ERROR(use.CheckNotFreed());
    return status;
  });
}

eid_status eid_session_generate(eid_session* session, const eid_generate_options* options,
                                eid_generate_result* result, eid_string** text, eid_error* error) {
  sdk::Clear(text);
  sdk::Clear(result);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::CheckResult(result, "eid_generate_result"));
    const sdk::SessionUse use(session);
    EID_RETURN_IF_ERROR(use.status());
    eid_generate_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_generate_options", &given));
    sdk::GenerateOptions wanted;
    if (given.max_tokens < 0) {
      return Status(Code::kInvalidArgument, "max_tokens is " + std::to_string(given.max_tokens),
                    "use 1 or more, or 0 for the default");
    }
    if (given.max_tokens > 0) wanted.max_tokens = given.max_tokens;
    wanted.sampling.temperature = given.temperature;
    wanted.sampling.top_k = given.top_k;
    wanted.sampling.top_p = given.top_p;
    wanted.sampling.min_p = given.min_p;
    if (given.repetition_penalty != 0) {
      wanted.sampling.repetition_penalty = given.repetition_penalty;
    }
    wanted.seed = given.seed;
    if (given.stop != nullptr) wanted.stop = given.stop;
    wanted.memory_off = given.memory_off != 0;
    wanted.assistant_turn = given.assistant_turn != 0;
    if (given.on_text != nullptr) {
      wanted.on_text = [given, &use](std::string_view piece) {
        return given.on_text(piece.data(), piece.size(), given.user) == 0 &&
               use.CheckNotFreed().ok();
      };
    }
    auto answer = use->Generate(wanted);
    EID_RETURN_IF_ERROR(use.CheckNotFreed());
    EID_ASSIGN_OR_RETURN(sdk::GenerateResult generated, std::move(answer));
    if (text != nullptr) *text = sdk::NewString(std::move(generated.text));
    eid_generate_result told = {};
    told.reason = static_cast<eid_stop_reason>(generated.reason);
    told.tokens = generated.tokens;
    told.seconds = generated.seconds;
    told.first_token_seconds = generated.first_token_seconds;
    sdk::WriteResult(told, result);
    return Status();
  });
}

eid_status eid_session_sources(const eid_session* session, size_t limit, eid_passages** passages,
                               eid_error* error) {
  sdk::Clear(passages);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(passages, "passages"));
    const sdk::SessionUse use(session);
    EID_RETURN_IF_ERROR(use.status());
    EID_ASSIGN_OR_RETURN(std::vector<sdk::Passage> found,
                         use->Sources(limit, sdk::PassageOrder::kByFocus));
    *passages = sdk::NewPassages(std::move(found));
    return Status();
  });
}

eid_status eid_session_logits(const eid_session* session, float* logits, size_t capacity,
                              size_t* count, eid_error* error) {
  sdk::Clear(count);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(count, "count"));
    const sdk::SessionUse use(session);
    EID_RETURN_IF_ERROR(use.status());
    if (capacity > 0) EID_RETURN_IF_ERROR(sdk::RequireHandle(logits, "logits"));
    const std::vector<float>& held = use->logits();
    if (held.empty()) {
      return Status(Code::kInvalidArgument, "the session has read nothing yet",
                    "append a prompt first");
    }
    std::copy_n(held.begin(), std::min(capacity, held.size()), logits);
    *count = held.size();
    return Status();
  });
}

eid_status eid_session_info(const eid_session* session, eid_string** json, eid_error* error) {
  sdk::Clear(json);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(json, "json"));
    const sdk::SessionUse use(session);
    EID_RETURN_IF_ERROR(use.status());
    *json = sdk::NewString(use->InfoJson());
    return Status();
  });
}
