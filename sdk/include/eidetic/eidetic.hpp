// eidetic: a language model with a memory it can keep. The C++ interface.
//
// Header-only C++17 over the C interface in eidetic.h, so a program never depends on the C++ ABI
// that the library was built with. It adds ownership, exceptions, std::string and std::function,
// and nothing that the C interface cannot do.
//
//   eidetic::Engine engine({.model_path = "smol-hybrid.gguf"});
//   eidetic::Archive archive({.path = "memory.eid", .create = true});
//   archive.ingest(engine, {.collection = "books", .source = "holmes.txt", .text = text});
//   eidetic::Session session(engine);
//   session.attach(archive, "books");
//   session.append("Where does Irene Adler live? She lives", {.use_span = true});
//   std::cout << session.generate().text << "\n";
//
// Order       Error, Passage, callbacks, TuneOptions, Engine, Archive, Session; each class behind
//             the options that it takes.
// Ownership   Engine, Archive and Session own their handles: movable, not copyable, freed when they
//             go out of scope, in any order. What calls return is copied out and yours.
// Errors      Every fallible call throws eidetic::Error with the status, the message and the
//             remedy.
//
// Callbacks   Return true to go on, false to stop. An exception thrown by a callback stops the call
//             and comes out of it: it never crosses the C interface. A callback does not call the
//             session that calls it, nor destroys it: Error with EID_INVALID_ARGUMENT.
// Threads     As in eidetic.h: engines and archives are shared freely, a session belongs to one
//             thread at a time.
#ifndef EIDETIC_EIDETIC_HPP_
#define EIDETIC_EIDETIC_HPP_

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "eidetic/eidetic.h"

namespace eidetic {

// A call that failed. what() is the message: what was wrong, with what value, where.
class Error : public std::runtime_error {
 public:
  Error(eid_status status, const std::string& message, std::string remedy = {})
      : std::runtime_error(message), status_(status), remedy_(std::move(remedy)) {}

  eid_status status() const noexcept { return status_; }
  // What to do about it; may be empty.
  const std::string& remedy() const noexcept { return remedy_; }

 private:
  eid_status status_;
  std::string remedy_{};
};

// Progress of a long call; the pointers in it are valid during the callback.
using Progress = std::function<bool(const eid_progress&)>;
// Progress of training; the pointers in it are valid during the callback.
using TuneCallback = std::function<bool(const eid_tune_progress&)>;
// A piece of an answer: whole UTF-8 characters.
using OnText = std::function<bool(std::string_view)>;

// A passage of memory: eid_passage with strings of its own.
struct Passage {
  std::string collection{};  // empty: the session's own past
  std::string source{};
  std::string text{};
  std::uint64_t document = 0;
  std::uint64_t byte_begin = 0, byte_end = 0;  // in the document's original
  std::uint64_t token_begin = 0, token_end = 0;
  std::uint32_t blocks = 0;
  double attention = 0;       // sources(): share of the answer's attention, 0..1, mean over layers
  double focus = 0;           // sources(): the same in the layer that looked something up
  int focus_layer = -1;       // that model layer; -1: nothing was attended to
  double score = 0;           // search(): share of the retrieval mass, 0..1
  double presence = 0;        // share of the choices of one span layer that held it, 0..1
  std::uint32_t reasons = 0;  // bits of eid_recall_reason: why it was in the span, or found
  double word_score = 0;      // BM25 of its best place, comparable within one answer
  std::vector<eid_layer_share> layers{};       // what each span layer paid, in order of the layer
  std::uint64_t text_begin = 0, text_end = 0;  // in the text that is kept, not in the original
};

inline std::string version() {
  return eid_version();
}

namespace detail {

template <auto Free>
struct Deleter {
  template <class T>
  void operator()(T* pointer) const noexcept {
    Free(pointer);
  }
};
template <class T, auto Free>
using Handle = std::unique_ptr<T, Deleter<Free>>;

// An options struct of the C interface: zeroed, with its size set.
template <class T>
T sized() {
  T value{};
  value.struct_size = sizeof(T);
  return value;
}

inline void check(eid_status status, const eid_error& error) {
  if (status == EID_OK) return;
  const char* message = error.message[0] ? error.message : eid_status_name(status);
  throw Error(status, message, error.remedy);
}

// NULL for an empty string, which the C interface reads as "the default".
inline const char* text_or_null(const std::string& text) {
  if (text.find('\0') != std::string::npos) {
    throw Error(EID_INVALID_ARGUMENT,
                "a name holds a NUL byte after '" + std::string(text.c_str()) + "'",
                "names and paths end at the first NUL: take it out");
  }
  return text.empty() ? nullptr : text.c_str();
}

inline std::string take(eid_string* string) {
  Handle<eid_string, eid_string_free> owner(string);
  return string ? std::string(string->data, string->length) : std::string();
}

inline std::string copy(const eid_string& string) {
  return string.data ? std::string(string.data, string.length) : std::string();
}

inline std::vector<Passage> take(eid_passages* passages) {
  Handle<eid_passages, eid_passages_free> owner(passages);
  std::vector<Passage> result;
  for (std::size_t i = 0; passages && i < passages->count; ++i) {
    const eid_passage& p = passages->items[i];
    result.push_back({copy(p.collection),
                      copy(p.source),
                      copy(p.text),
                      p.document,
                      p.byte_begin,
                      p.byte_end,
                      p.token_begin,
                      p.token_end,
                      p.blocks,
                      p.attention,
                      p.focus,
                      p.focus_layer,
                      p.score,
                      p.presence,
                      p.reasons,
                      p.word_score,
                      {p.layers, p.layers + p.layer_count},
                      p.text_begin,
                      p.text_end});
  }
  return result;
}

// Runs `call(&out, &error)` and returns what it made, or throws.
template <class T, class Call>
T* made_by(Call call) {
  auto error = sized<eid_error>();
  T* out = nullptr;
  const eid_status status = call(&out, &error);
  check(status, error);
  return out;
}
template <class Call>
std::string text_from(Call call) {
  return take(made_by<eid_string>(call));
}

// A callback of the user's on its way through C: keeps what it threw until the call has returned.
template <class Function>
struct Callback {
  const Function& function;
  std::exception_ptr thrown;

  explicit Callback(const Function& f) : function(f) {}
  void* user() { return this; }
  void rethrow() const {
    if (thrown) std::rethrow_exception(thrown);
  }
  template <class Argument>
  int call(const Argument& argument) noexcept {
    try {
      return function(argument) ? 0 : 1;
    } catch (...) {
      thrown = std::current_exception();
      return 1;
    }
  }
};

inline int call_progress(const eid_progress* progress, void* user) noexcept {
  return static_cast<Callback<Progress>*>(user)->call(*progress);
}
inline int call_text(const char* text, std::size_t length, void* user) noexcept {
  return static_cast<Callback<OnText>*>(user)->call(std::string_view(text, length));
}
inline eid_progress_callback trampoline(const Progress& f) {
  return f ? call_progress : nullptr;
}
inline int call_tune(const eid_tune_progress* progress, void* user) noexcept {
  return static_cast<Callback<TuneCallback>*>(user)->call(*progress);
}
inline eid_tune_callback trampoline(const TuneCallback& f) {
  return f ? call_tune : nullptr;
}
inline eid_text_callback trampoline(const OnText& f) {
  return f ? call_text : nullptr;
}

}  // namespace detail

// Reads a model file's header and tables, without loading weights: JSON.
inline std::string model_info(const std::string& path) {
  return detail::text_from([&](eid_string** out, eid_error* error) {
    return eid_model_info(detail::text_or_null(path), out, error);
  });
}

// Makes one GGUF out of a base GGUF and a patch folder.
inline void model_merge(const std::string& base_path, const std::string& patch_dir,
                        const std::string& output_path, const Progress& progress = {}) {
  auto error = detail::sized<eid_error>();
  detail::Callback<Progress> callback(progress);
  const eid_status status = eid_model_merge(
      detail::text_or_null(base_path), detail::text_or_null(patch_dir),
      detail::text_or_null(output_path), detail::trampoline(progress), callback.user(), &error);
  callback.rethrow();
  detail::check(status, error);
}

// Writes a patch folder that makes a hybrid of the base: all layers but `attention_layers` become
// mixers.
inline void model_hybridize(const std::string& base_path,
                            const std::vector<int32_t>& attention_layers,
                            const std::string& patch_dir, int conv_width = 4, uint64_t seed = 0) {
  auto error = detail::sized<eid_error>();
  auto options = detail::sized<eid_hybridize_options>();
  options.attention_layers = attention_layers.data();
  options.attention_layer_count = attention_layers.size();
  options.conv_width = conv_width;
  options.seed = seed;
  detail::check(eid_model_hybridize(detail::text_or_null(base_path), &options,
                                    detail::text_or_null(patch_dir), &error),
                error);
}

// What an adapter's folder holds, as JSON.
inline std::string adapter_info(const std::string& path) {
  return detail::text_from([&](eid_string** out, eid_error* error) {
    return eid_adapter_info(detail::text_or_null(path), out, error);
  });
}

// Makes one GGUF out of a base GGUF and an adapter. `type`: "f32" (empty, too) or "f16".
inline void adapter_merge(const std::string& base_path, const std::string& adapter_path,
                          const std::string& output_path, const std::string& type = {},
                          const Progress& progress = {}) {
  auto error = detail::sized<eid_error>();
  detail::Callback<Progress> callback(progress);
  const eid_status status =
      eid_adapter_merge(detail::text_or_null(base_path), detail::text_or_null(adapter_path),
                        detail::text_or_null(output_path), detail::text_or_null(type),
                        detail::trampoline(progress), callback.user(), &error);
  callback.rethrow();
  detail::check(status, error);
}

// What is trained, on what and how: eid_tune_options with strings and lists of its own. Numbers
// that are left 0 have the defaults that it names.
struct TuneOptions {
  std::string model_path{};
  std::string adapter_path{};  // to go on from; empty: a new one is made
  std::string folder{};        // of the run
  std::vector<std::string> inputs{}, held_out{};
  bool skip_bad = false;
  std::string device{}, cache_dir{};
  int threads = 0;
  std::string kind{};  // "lora", "lora+", "hylora", "mixers"
  std::vector<std::string> targets{};
  int rank = 0;
  double alpha = 0, dropout = 0;
  std::string attention{};  // "se", "se-stream", ...
  std::vector<int> chunks{};
  int block_tokens = 0, span_blocks = 0, groups = 0, window = 0;
  int segment = 0, sinks = 0, candidates = 0, query_offset = 0;  // "se-stream"
  std::vector<int> span_layers{};
  std::string rope_scaling{};
  std::string dtype{};  // "fp32", "bf16"
  bool recompute = false;
  std::int64_t length = 0, batch = 0, steps = 0;
  double rate = 0;
  std::int64_t warm_up = 0;  // -1: none
  std::string schedule{};    // "constant", "cosine"
  double weight_decay = 0;
  double clip = 0;  // -1: none
  std::uint64_t seed = 0;
  std::int64_t evaluate_every = 0, held_out_sequences = 0, checkpoint_every = 0;
  int processes = 0, process = 0;  // data parallel
  std::string meeting{};
  bool dry_run = false;
  std::string teacher_path{};    // to learn from instead of from the text alone
  std::int64_t mixer_steps = 0;  // of these first each mixer alone; -1: none
  double mixer_rate = 0;         // in these
  double text_share = 0;         // of the loss after them
  std::int64_t micro_batch = 0;  // sequences that go through the model at once
  std::string target_pattern{};  // in place of targets
  std::vector<std::pair<std::string, double>> rank_for{}, alpha_for{}, dropout_for{};  // by pattern
};

// Trains an adapter, or goes on where the run in the folder was stopped; the report as JSON. With
// dry_run what that would take in memory, time and room on disk.
inline std::string tune(const TuneOptions& options, const TuneCallback& progress = {}) {
  const auto pointers = [](const std::vector<std::string>& texts) {
    std::vector<const char*> result;
    for (const std::string& text : texts) result.push_back(text.c_str());
    return result;
  };
  const std::vector<const char*> inputs = pointers(options.inputs),
                                 held_out = pointers(options.held_out),
                                 targets = pointers(options.targets);
  const auto numbers = [](const std::vector<std::pair<std::string, double>>& given) {
    std::vector<eid_module_number> result;
    for (const auto& [pattern, number] : given) result.push_back({pattern.c_str(), number});
    return result;
  };
  const std::vector<eid_module_number> rank_for = numbers(options.rank_for),
                                       alpha_for = numbers(options.alpha_for),
                                       dropout_for = numbers(options.dropout_for);
  auto o = detail::sized<eid_tune_options>();
  o.model_path = detail::text_or_null(options.model_path);
  o.adapter_path = detail::text_or_null(options.adapter_path);
  o.folder = detail::text_or_null(options.folder);
  o.inputs = inputs.data();
  o.input_count = inputs.size();
  o.held_out = held_out.data();
  o.held_out_count = held_out.size();
  o.skip_bad = options.skip_bad;
  o.device = detail::text_or_null(options.device);
  o.cache_dir = detail::text_or_null(options.cache_dir);
  o.threads = options.threads;
  o.kind = detail::text_or_null(options.kind);
  o.targets = targets.data();
  o.target_count = targets.size();
  o.rank = options.rank;
  o.alpha = options.alpha;
  o.dropout = options.dropout;
  o.attention = detail::text_or_null(options.attention);
  o.chunks = options.chunks.data();
  o.chunk_count = options.chunks.size();
  o.block_tokens = options.block_tokens;
  o.span_blocks = options.span_blocks;
  o.groups = options.groups;
  o.window = options.window;
  o.segment = options.segment;
  o.sinks = options.sinks;
  o.candidates = options.candidates;
  o.query_offset = options.query_offset;
  o.span_layers = options.span_layers.data();
  o.span_layer_count = options.span_layers.size();
  o.rope_scaling = detail::text_or_null(options.rope_scaling);
  o.dtype = detail::text_or_null(options.dtype);
  o.recompute = options.recompute;
  o.length = options.length;
  o.batch = options.batch;
  o.steps = options.steps;
  o.rate = options.rate;
  o.warm_up = options.warm_up;
  o.schedule = detail::text_or_null(options.schedule);
  o.weight_decay = options.weight_decay;
  o.clip = options.clip;
  o.seed = options.seed;
  o.evaluate_every = options.evaluate_every;
  o.held_out_sequences = options.held_out_sequences;
  o.checkpoint_every = options.checkpoint_every;
  o.processes = options.processes;
  o.process = options.process;
  o.meeting = detail::text_or_null(options.meeting);
  o.dry_run = options.dry_run;
  o.teacher_path = detail::text_or_null(options.teacher_path);
  o.mixer_steps = options.mixer_steps;
  o.mixer_rate = options.mixer_rate;
  o.text_share = options.text_share;
  o.micro_batch = options.micro_batch;
  o.target_pattern = detail::text_or_null(options.target_pattern);
  o.rank_for = rank_for.data();
  o.rank_for_count = rank_for.size();
  o.alpha_for = alpha_for.data();
  o.alpha_for_count = alpha_for.size();
  o.dropout_for = dropout_for.data();
  o.dropout_for_count = dropout_for.size();
  detail::Callback<TuneCallback> callback(progress);
  auto error = detail::sized<eid_error>();
  eid_string* json = nullptr;
  const eid_status status =
      eid_tune(&o, detail::trampoline(progress), callback.user(), &json, &error);
  std::string report = detail::take(json);
  callback.rethrow();
  detail::check(status, error);
  return report;
}

struct EngineOptions {
  std::string model_path{};  // a GGUF file or a folder with safetensors; required
  std::string device{};      // "cpu" (default), "cuda", "cuda:1"
  std::string cache_dir{};   // of hashes of model files; empty: the user's cache folder
  int threads = 0;           // 0: OMP_NUM_THREADS, or one per core
  // The retrieval profile; empty: MODEL_PATH.profile.json, or ADAPTER_PATH.profile.json, when it is
  // there; "none": none.
  std::string profile_path{};
  std::string adapter_path{};  // a folder as PEFT saves adapters; empty: none
  // "linear:4", "ntk:4", "yarn:4", "none"; empty: as adapter or file say
  std::string rope_scaling{};
};

namespace detail {

// Points into `options`.
inline eid_engine_options in_c(const EngineOptions& options) {
  auto o = sized<eid_engine_options>();
  o.model_path = text_or_null(options.model_path);
  o.device = text_or_null(options.device);
  o.cache_dir = text_or_null(options.cache_dir);
  o.threads = options.threads;
  o.profile_path = text_or_null(options.profile_path);
  o.adapter_path = text_or_null(options.adapter_path);
  o.rope_scaling = text_or_null(options.rope_scaling);
  return o;
}

}  // namespace detail

// How read_sequence() reads: eidetic.h says what the modes and zeros mean.
struct SequenceOptions {
  std::string mode{};  // as eid_sequence_options has them; empty: paper
  int chunk = 0, block_tokens = 0, span_blocks = 0;
  bool one_choice = false;
  int groups = 0;
  int window = 0;
  std::uint64_t seed = 0;
  bool losses = true;
  std::size_t logit_rows = 0;
};

struct SequenceResult {
  std::vector<float> losses{};  // [tokens], or empty: nats; NaN for the first token
  std::vector<float> logits{};  // [logit_rows, vocabulary], oldest first
};

// A model's weights and tokenizer, loaded once, shared by any number of sessions.
class Engine {
 public:
  explicit Engine(const EngineOptions& options) {
    const eid_engine_options o = detail::in_c(options);
    handle_.reset(detail::made_by<eid_engine>(
        [&](eid_engine** out, eid_error* error) { return eid_engine_create(&o, out, error); }));
  }

  // The fingerprint that an engine would have: no weights are loaded.
  static std::string fingerprint_of(const EngineOptions& options) {
    const eid_engine_options o = detail::in_c(options);
    return detail::text_from(
        [&](eid_string** out, eid_error* error) { return eid_engine_fingerprint(&o, out, error); });
  }

  // This model, which has no adapter, with one: an engine that shares the weights which the adapter
  // leaves alone. `profile_path` as in EngineOptions.
  Engine with_adapter(const std::string& adapter_path, const std::string& profile_path = {}) const {
    auto o = detail::sized<eid_adapter_options>();
    o.adapter_path = detail::text_or_null(adapter_path);
    o.profile_path = detail::text_or_null(profile_path);
    return Engine(detail::made_by<eid_engine>([&](eid_engine** out, eid_error* error) {
      return eid_engine_add_adapter(handle_.get(), &o, out, error);
    }));
  }

  // The loaded model as JSON.
  std::string info() const {
    return detail::text_from([&](eid_string** out, eid_error* error) {
      return eid_engine_info(handle_.get(), out, error);
    });
  }

  // Text to tokens. With `special`, names of special tokens in the text become these tokens.
  std::vector<std::int32_t> tokenize(std::string_view text, bool special = false) const {
    // A token of a byte-level tokenizer stands for at least one byte; a model that adds tokens of
    // its own gets a second call.
    std::vector<std::int32_t> tokens(text.size() + 2);
    for (;;) {
      auto error = detail::sized<eid_error>();
      std::size_t count = 0;
      detail::check(eid_engine_tokenize(handle_.get(), text.data(), text.size(), special,
                                        tokens.data(), tokens.size(), &count, &error),
                    error);
      const bool complete = count <= tokens.size();
      tokens.resize(count);
      if (complete) return tokens;
    }
  }

  // Tokens to text, without special tokens.
  std::string detokenize(const std::vector<std::int32_t>& tokens) const {
    return detail::text_from([&](eid_string** out, eid_error* error) {
      return eid_engine_detokenize(handle_.get(), tokens.data(), tokens.size(), out, error);
    });
  }

  // Reads a whole sequence at once from a fresh state: the published method and its baselines.
  // `vocabulary` is needed for logits: info() tells it.
  SequenceResult read_sequence(const std::vector<std::int32_t>& tokens,
                               const SequenceOptions& options = {},
                               std::size_t vocabulary = 0) const {
    SequenceResult result;
    auto o = detail::sized<eid_sequence_options>();
    o.mode = detail::text_or_null(options.mode);
    o.tokens = tokens.data();
    o.token_count = tokens.size();
    o.chunk = options.chunk;
    o.block_tokens = options.block_tokens;
    o.span_blocks = options.span_blocks;
    o.one_choice = options.one_choice;
    o.groups = options.groups;
    o.window = options.window;
    o.seed = options.seed;
    if (options.losses) {
      result.losses.resize(tokens.size());
      o.losses = result.losses.data();
    }
    if (options.logit_rows > 0) {
      result.logits.resize(options.logit_rows * vocabulary);
      o.logits = result.logits.data();
      o.logit_rows = options.logit_rows;
      o.logit_capacity = result.logits.size();
    }
    auto error = detail::sized<eid_error>();
    detail::check(eid_engine_read_sequence(handle_.get(), &o, &error), error);
    return result;
  }

  eid_engine* get() const noexcept { return handle_.get(); }

 private:
  explicit Engine(eid_engine* engine) : handle_(engine) {}

  detail::Handle<eid_engine, eid_engine_free> handle_;
};

struct ArchiveOptions {
  std::string path{};             // required
  bool create = false;            // make it when it is not there
  bool read_only = false;         // no lock is taken, every write is refused
  std::uint64_t cache_bytes = 0;  // 0: 384 MiB
  bool repair = false;            // go on without what a damaged log lost, for good
};

struct IngestOptions {
  std::string collection{};  // required; made when it is not there
  std::string source{};      // the document's name, unique in the collection; required
  std::string_view text{};   // UTF-8
  // Empty or 0: the collection's own setting; in a new one "int8", 1024, 32 and 512.
  std::string codec{};        // "int8" or "fp16"
  int window = 0;             // tokens
  int sinks = 0;              // tokens, a multiple of 32; negative: none
  int segment = 0;            // tokens a forward pass
  double commit_seconds = 0;  // longest time between commits; 0: 2 s
  bool again = false;         // read it also when its content is the one that is there
  // Of a text that was extracted from something else: what that was.
  std::string format{};  // "html", "markdown", ...; empty: "text"
  const std::vector<eid_text_piece>* pieces = nullptr;
  std::uint64_t original_bytes = 0;
};

// What verify() found: `clean`, or the damaged records in the JSON report.
struct Verification {
  bool clean = false;
  std::string report{};
};

// What another model is to read again: eid_migrate_options.
struct MigrateOptions {
  std::string collection{};     // required
  double commit_seconds = 0;    // longest time between commits; 0: 2 s
  bool dry_run = false;         // tells what would be read; plan_migration() needs no engine
  bool leave_sessions = false;  // also when sessions of another model recall from it
};

// What to forget: eid_forget_options.
struct ForgetOptions {
  std::string collection{}, source{};
  std::uint64_t byte_begin = 0, byte_end = 0;
  std::string session{};
  std::uint64_t turn = 0;
  std::int64_t before = 0;
  bool dry_run = false, verify_files = false;
  std::vector<std::string> sources{};
};

// What went, as JSON, and whether the files hold nothing of it any more as far as was looked.
struct Forgotten {
  bool clean = false;
  std::string receipt{};
};

// A directory with one database of collections, documents and sessions.
class Archive {
 public:
  explicit Archive(const ArchiveOptions& options) {
    auto o = detail::sized<eid_archive_options>();
    o.path = detail::text_or_null(options.path);
    o.create = options.create;
    o.read_only = options.read_only;
    o.cache_bytes = options.cache_bytes;
    o.repair = options.repair;
    handle_.reset(detail::made_by<eid_archive>(
        [&](eid_archive** out, eid_error* error) { return eid_archive_open(&o, out, error); }));
  }

  // Reads one document through the model and keeps all of it as memory blocks. When `progress`
  // stops it, what was committed is kept, Error has EID_CANCELLED, and the same call resumes it.
  eid_ingest_result ingest(const Engine& engine, const IngestOptions& options,
                           const Progress& progress = {}) {
    return ingest(engine.get(), options, progress);
  }
  // Without a model: EID_INGEST_UNCHANGED for a document that is there with the same text, whose
  // original is brought up to date. Error has EID_NOT_FOUND for one that would have to be read.
  eid_ingest_result ingest_unchanged(const IngestOptions& options) {
    return ingest(nullptr, options, {});
  }

  // Has the engine's model read a collection that another one made, and swaps it in when all of it
  // is read; the report as JSON. When `progress` stops it, what was committed is kept, Error has
  // EID_CANCELLED, and the same call goes on.
  std::string migrate(const Engine& engine, const MigrateOptions& options,
                      const Progress& progress = {}) {
    detail::Callback<Progress> callback(progress);
    auto o = detail::sized<eid_migrate_options>();
    o.collection = detail::text_or_null(options.collection);
    o.commit_seconds = options.commit_seconds;
    o.dry_run = options.dry_run;
    o.leave_sessions = options.leave_sessions;
    o.progress = detail::trampoline(progress);
    o.user = callback.user();
    auto error = detail::sized<eid_error>();
    eid_string* report = nullptr;
    const eid_status status = eid_archive_migrate(handle_.get(), engine.get(), &o, &report, &error);
    std::string json = detail::take(report);
    callback.rethrow();
    detail::check(status, error);
    return json;
  }
  // The report of what migrate() would do, with the model of that Engine::fingerprint_of(): none is
  // loaded, and the archive may be read-only.
  std::string plan_migration(const std::string& fingerprint, const std::string& collection) const {
    auto o = detail::sized<eid_migrate_options>();
    o.collection = detail::text_or_null(collection);
    o.dry_run = 1;
    o.fingerprint = detail::text_or_null(fingerprint);
    return detail::text_from([&](eid_string** out, eid_error* error) {
      return eid_archive_migrate(handle_.get(), nullptr, &o, out, error);
    });
  }

  // Collections, documents and sessions as JSON; an empty `collection` means all.
  std::string list(const std::string& collection = {}) const {
    return detail::text_from([&](eid_string** out, eid_error* error) {
      return eid_archive_list(handle_.get(), detail::text_or_null(collection), out, error);
    });
  }

  // Sizes, counts, cache hits as JSON.
  std::string stats() const {
    return detail::text_from([&](eid_string** out, eid_error* error) {
      return eid_archive_stats(handle_.get(), out, error);
    });
  }

  // The passages that would be recalled for the query; `limit` 0: 8.
  std::vector<Passage> search(const Engine& engine, const std::string& collection,
                              std::string_view query, int limit = 0,
                              eid_recall_policy policy = EID_RECALL_DEFAULT) {
    return search(engine.get(), collection, query, limit, policy);
  }
  // The best places by words alone, by word_score; no model is needed. `limit` 0: 8.
  std::vector<Passage> search_words(const std::string& collection, std::string_view query,
                                    int limit = 0) {
    return search(nullptr, collection, query, limit, EID_RECALL_WORDS);
  }

  // Reads every record and checks it. Damage does not throw: it is what the report is about.
  Verification verify(const Progress& progress = {}) const {
    detail::Callback<Progress> callback(progress);
    auto error = detail::sized<eid_error>();
    eid_string* json = nullptr;
    const eid_status status = eid_archive_verify(handle_.get(), detail::trampoline(progress),
                                                 callback.user(), &json, &error);
    const bool reported = json != nullptr;
    Verification result{status == EID_OK, detail::take(json)};
    callback.rethrow();
    if (status != EID_CORRUPTION || !reported) detail::check(status, error);
    return result;
  }

  // Kept sessions as JSON; with a `name`, that one and its turns.
  std::string sessions(const std::string& name = {}) const {
    return detail::text_from([&](eid_string** out, eid_error* error) {
      return eid_archive_sessions(handle_.get(), detail::text_or_null(name), out, error);
    });
  }

  // A new session that has read what `name` had after `turn`; 0: its last one. Copies nothing.
  void fork_session(const std::string& name, std::uint64_t turn, const std::string& new_name) {
    call([&](eid_error* error) {
      return eid_archive_fork_session(handle_.get(), detail::text_or_null(name), turn,
                                      detail::text_or_null(new_name), error);
    });
  }

  // Takes a session back to the end of `turn`; what only it saw of later ones is gone for good.
  void rewind_session(const std::string& name, std::uint64_t turn) {
    call([&](eid_error* error) {
      return eid_archive_rewind_session(handle_.get(), detail::text_or_null(name), turn, error);
    });
  }

  // Removes a session, and all that no other session sees of it.
  void delete_session(const std::string& name) {
    call([&](eid_error* error) {
      return eid_archive_delete_session(handle_.get(), detail::text_or_null(name), error);
    });
  }

  // Forgets what `options` names, for good. Findings of `verify_files` do not throw: they are what
  // the receipt is about.
  Forgotten forget(const ForgetOptions& options) {
    auto o = detail::sized<eid_forget_options>();
    o.collection = detail::text_or_null(options.collection);
    o.source = detail::text_or_null(options.source);
    o.byte_begin = options.byte_begin;
    o.byte_end = options.byte_end;
    o.session = detail::text_or_null(options.session);
    o.turn = options.turn;
    o.before = options.before;
    o.dry_run = options.dry_run;
    o.verify_files = options.verify_files;
    std::vector<const char*> sources;
    for (const std::string& source : options.sources) {
      sources.push_back(detail::text_or_null(source));
    }
    o.sources = sources.data();
    o.source_count = sources.size();
    auto error = detail::sized<eid_error>();
    eid_string* json = nullptr;
    const eid_status status = eid_archive_forget(handle_.get(), &o, &json, &error);
    const bool told = json != nullptr;
    Forgotten result{status == EID_OK, detail::take(json)};
    if (status != EID_CORRUPTION || !told) detail::check(status, error);
    return result;
  }

  // All that a session read and answered.
  std::string export_session(const std::string& name,
                             eid_export_format format = EID_EXPORT_TEXT) const {
    return detail::text_from([&](eid_string** out, eid_error* error) {
      return eid_archive_export_session(handle_.get(), detail::text_or_null(name), format, out,
                                        error);
    });
  }

  eid_archive* get() const noexcept { return handle_.get(); }

 private:
  eid_ingest_result ingest(eid_engine* engine, const IngestOptions& options,
                           const Progress& progress) {
    detail::Callback<Progress> callback(progress);
    auto o = detail::sized<eid_ingest_options>();
    o.collection = detail::text_or_null(options.collection);
    o.source = detail::text_or_null(options.source);
    o.text = options.text.data() ? options.text.data() : "";
    o.text_length = options.text.size();
    o.codec = detail::text_or_null(options.codec);
    o.window = options.window;
    o.sinks = options.sinks;
    o.segment = options.segment;
    o.commit_seconds = options.commit_seconds;
    o.again = options.again;
    o.format = detail::text_or_null(options.format);
    if (options.pieces != nullptr) {
      o.pieces = options.pieces->data();
      o.piece_count = options.pieces->size();
    }
    o.original_bytes = options.original_bytes;
    o.progress = detail::trampoline(progress);
    o.user = callback.user();
    auto result = detail::sized<eid_ingest_result>();
    auto error = detail::sized<eid_error>();
    const eid_status status = eid_archive_ingest(handle_.get(), engine, &o, &result, &error);
    callback.rethrow();
    detail::check(status, error);
    return result;
  }

  std::vector<Passage> search(eid_engine* engine, const std::string& collection,
                              std::string_view query, int limit, eid_recall_policy policy) {
    auto o = detail::sized<eid_search_options>();
    o.collection = detail::text_or_null(collection);
    o.query = query.data() ? query.data() : "";
    o.query_length = query.size();
    o.limit = limit;
    o.policy = policy;
    return detail::take(detail::made_by<eid_passages>([&](eid_passages** out, eid_error* error) {
      return eid_archive_search(handle_.get(), engine, &o, out, error);
    }));
  }

  template <class Call>
  static void call(Call function) {
    auto error = detail::sized<eid_error>();
    const eid_status status = function(&error);
    detail::check(status, error);
  }

  detail::Handle<eid_archive, eid_archive_free> handle_;
};

// Zero means the default everywhere: eidetic.h says which.
struct SessionOptions {
  eid_attention_mode mode = EID_ATTENTION_STREAM;
  int window = 0;
  int sinks = 0;  // negative: none
  int segment = 0;
  int span_blocks = 0;
  int candidate_blocks = 0;  // negative: no rescoring
  int query_offset = 0;      // negative: none
  std::string codec{};
  bool forget_own_past = false;
  std::vector<std::int32_t> span_layers{};  // empty: the profile's, else all attention layers
  std::uint64_t seed = 0;
  eid_recall_policy policy = EID_RECALL_DEFAULT;  // whether words have a say beside attention
  int word_places = 0;                            // negative: none
  int layer_group = 0;
  int successor_blocks = 0;  // negative: none
  double linger = 0;         // negative: none
};

struct AppendOptions {
  bool use_span = false;        // these tokens may recall memory
  std::string role{};           // "user", "system", "assistant"; empty: plain text
  std::string_view words{};     // searched where the policy asks for it; empty: the appended text
  bool keep_beginning = false;  // eid_append_options::keep_beginning
};

struct GenerateOptions {
  int max_tokens = 0;     // 0: 256
  float temperature = 0;  // 0: greedy
  int top_k = 0;
  float top_p = 0;
  float min_p = 0;
  float repetition_penalty = 0;
  std::uint64_t seed = 0;
  std::string stop{};  // text that ends the answer
  bool memory_off = false;
  bool assistant_turn = false;
};

struct Answer {
  std::string text{};
  eid_stop_reason reason = EID_STOP_END;
  std::size_t tokens = 0;
  double seconds = 0;
  double first_token_seconds = 0;
};

// One running conversation or generation: start here.
class Session {
 public:
  // In RAM: gone with this object.
  explicit Session(const Engine& engine, const SessionOptions& options = {}) {
    create(engine, options, nullptr, {});
  }
  // Kept in `archive` under `name`, which must be new there; save() commits it.
  Session(const Engine& engine, const SessionOptions& options, const Archive& archive,
          const std::string& name) {
    create(engine, options, archive.get(), name);
  }
  // A saved session goes on with the logits it would have had (rule 9).
  static Session open(const Engine& engine, const Archive& archive, const std::string& name) {
    return Session(detail::made_by<eid_session>([&](eid_session** out, eid_error* error) {
      return eid_session_open(engine.get(), archive.get(), detail::text_or_null(name), out, error);
    }));
  }
  // The same with the progress of reading turns again; when it stops that, Error has EID_CANCELLED.
  static Session open(const Engine& engine, const Archive& archive, const std::string& name,
                      const Progress& progress) {
    detail::Callback<Progress> callback(progress);
    auto o = detail::sized<eid_open_options>();
    o.name = detail::text_or_null(name);
    o.progress = detail::trampoline(progress);
    o.user = callback.user();
    auto error = detail::sized<eid_error>();
    eid_session* session = nullptr;
    const eid_status status =
        eid_session_open_with(engine.get(), archive.get(), &o, &session, &error);
    Session opened(session);
    callback.rethrow();
    detail::check(status, error);
    return opened;
  }

  // Makes a collection searchable for this session.
  void attach(const Archive& archive, const std::string& collection) {
    auto error = detail::sized<eid_error>();
    detail::check(
        eid_session_attach(handle_.get(), archive.get(), detail::text_or_null(collection), &error),
        error);
  }

  void append(std::string_view text, const AppendOptions& options = {},
              const Progress& progress = {}) {
    auto o = detail::sized<eid_append_options>();
    o.text = text.data() ? text.data() : "";
    o.text_length = text.size();
    append(o, options, progress);
  }
  void append(const std::vector<std::int32_t>& tokens, const AppendOptions& options = {},
              const Progress& progress = {}) {
    auto o = detail::sized<eid_append_options>();
    o.tokens = tokens.data();
    o.token_count = tokens.size();
    append(o, options, progress);
  }

  // Reads tokens and gives the negative log-likelihood of each, in nats, given all before it; NaN
  // for the first token of a session.
  std::vector<float> losses(const std::vector<std::int32_t>& tokens,
                            const AppendOptions& options = {}, const Progress& progress = {}) {
    std::vector<float> losses(tokens.size());
    auto o = detail::sized<eid_append_options>();
    o.tokens = tokens.data();
    o.token_count = tokens.size();
    o.losses = losses.data();
    append(o, options, progress);
    return losses;
  }

  // Generates and appends an answer, piece by piece through `on_text`.
  Answer generate(const GenerateOptions& options = {}, const OnText& on_text = {}) {
    detail::Callback<OnText> callback(on_text);
    auto o = detail::sized<eid_generate_options>();
    o.max_tokens = options.max_tokens;
    o.temperature = options.temperature;
    o.top_k = options.top_k;
    o.top_p = options.top_p;
    o.min_p = options.min_p;
    o.repetition_penalty = options.repetition_penalty;
    o.seed = options.seed;
    o.stop = detail::text_or_null(options.stop);
    o.memory_off = options.memory_off;
    o.assistant_turn = options.assistant_turn;
    o.on_text = detail::trampoline(on_text);
    o.user = callback.user();
    auto result = detail::sized<eid_generate_result>();
    auto error = detail::sized<eid_error>();
    eid_string* text = nullptr;
    const eid_status status = eid_session_generate(handle_.get(), &o, &result, &text, &error);
    std::string answer = detail::take(text);
    callback.rethrow();
    detail::check(status, error);
    return {std::move(answer), result.reason, result.tokens, result.seconds,
            result.first_token_seconds};
  }

  // The passages that were in the span during the last answer, by focus; `limit` 0: all.
  std::vector<Passage> sources(std::size_t limit = 0) const {
    return detail::take(detail::made_by<eid_passages>([&](eid_passages** out, eid_error* error) {
      return eid_session_sources(handle_.get(), limit, out, error);
    }));
  }

  // The logits after the last token read, one per vocabulary entry.
  std::vector<float> logits() const {
    auto error = detail::sized<eid_error>();
    std::size_t count = 0;
    detail::check(eid_session_logits(handle_.get(), nullptr, 0, &count, &error), error);
    std::vector<float> values(count);
    detail::check(eid_session_logits(handle_.get(), values.data(), count, &count, &error), error);
    return values;
  }

  // Position, memory held, options, hits and times per stage as JSON.
  std::string info() const {
    return detail::text_from([&](eid_string** out, eid_error* error) {
      return eid_session_info(handle_.get(), out, error);
    });
  }

  // Everything since the last turn becomes a turn, which a kill can no longer lose; `name` may be
  // empty.
  eid_commit_result commit(const std::string& name = {}) {
    auto o = detail::sized<eid_commit_options>();
    o.name = detail::text_or_null(name);
    auto result = detail::sized<eid_commit_result>();
    auto error = detail::sized<eid_error>();
    detail::check(eid_session_commit(handle_.get(), &o, &result, &error), error);
    return result;
  }

  // The same without a word of it.
  void save() {
    auto error = detail::sized<eid_error>();
    detail::check(eid_session_save(handle_.get(), &error), error);
  }

  eid_session* get() const noexcept { return handle_.get(); }

 private:
  explicit Session(eid_session* session) : handle_(session) {}

  void create(const Engine& engine, const SessionOptions& options, eid_archive* archive,
              const std::string& name) {
    auto o = detail::sized<eid_session_options>();
    o.mode = options.mode;
    o.window = options.window;
    o.sinks = options.sinks;
    o.segment = options.segment;
    o.span_blocks = options.span_blocks;
    o.candidate_blocks = options.candidate_blocks;
    o.query_offset = options.query_offset;
    o.codec = detail::text_or_null(options.codec);
    o.forget_own_past = options.forget_own_past;
    o.span_layers = options.span_layers.empty() ? nullptr : options.span_layers.data();
    o.span_layer_count = options.span_layers.size();
    o.seed = options.seed;
    o.policy = options.policy;
    o.word_places = options.word_places;
    o.layer_group = options.layer_group;
    o.successor_blocks = options.successor_blocks;
    o.linger = options.linger;
    o.archive = archive;
    o.name = detail::text_or_null(name);
    handle_.reset(detail::made_by<eid_session>([&](eid_session** out, eid_error* error) {
      return eid_session_create(engine.get(), &o, out, error);
    }));
  }

  void append(eid_append_options& o, const AppendOptions& options, const Progress& progress) {
    detail::Callback<Progress> callback(progress);
    o.role = detail::text_or_null(options.role);
    o.use_span = options.use_span;
    o.words = options.words.data();
    o.words_length = options.words.size();
    o.keep_beginning = options.keep_beginning;
    o.progress = detail::trampoline(progress);
    o.user = callback.user();
    auto error = detail::sized<eid_error>();
    const eid_status status = eid_session_append(handle_.get(), &o, &error);
    callback.rethrow();
    detail::check(status, error);
  }

  detail::Handle<eid_session, eid_session_free> handle_;
};

}  // namespace eidetic

#endif  // EIDETIC_EIDETIC_HPP_
