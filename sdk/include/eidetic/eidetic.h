/* eidetic: a language model with a memory it can keep. The C interface.
 *
 * C11, also valid C++. One shared library, libeidetic, exports exactly the functions below.
 *
 * Order       Errors, results, engine (with model files and adapters), training, archive, session,
 *             kept sessions, forgetting. For a program that remembers: engine, archive, session.
 * Ownership   Handles (`eid_engine`, `eid_archive`, `eid_session`) and results (`eid_string`,
 *             `eid_passages`) are made by this library and given back with the matching `_free`,
 *             which accepts NULL. A session keeps its engine and archive alive: handles may be
 *             freed in any order.
 * Strings     UTF-8, with an explicit length. A length of EID_NUL_TERMINATED means strlen().
 * Errors      Every fallible call returns an `eid_status` and, when `error` is not NULL, fills the
 *             caller's `eid_error` with what was wrong, where, and what to do. Nothing is thrown,
 *             nothing aborts (rule 10). On failure out-parameters are set to NULL or zero.
 * Structs     Set `struct_size = sizeof(the struct)` and zero the rest: zero means "the default"
 *             everywhere, and NULL options are all zero. A library knows the sizes that a struct
 *             had in the released versions of this header, up to its own; in an older, smaller one
 *             the missing fields read as zero and results are filled as far as it goes. Any other
 *             size is EID_INVALID_ARGUMENT, before anything is done: of options, of results and of
 *             eid_error.
 * Comments    Of each function: what it does; `Takes`, its parameters; `Errors`, beside those that
 *             every call may have: EID_INVALID_ARGUMENT for what is NULL and must not be, is out of
 *             range, no UTF-8 or called in the wrong order, EID_OUT_OF_MEMORY and EID_INTERNAL, and
 *             of archives EID_IO_ERROR, EID_CORRUPTION and, where they write, EID_NO_SPACE;
 *             `Owner`, who gives back what; `Threads`, which may call it. Of each struct: its
 *             `Owner`. As a page: docs/c-api.md.
 * Threads     An engine and an archive may be used from many threads at once. A session, and
 *             every result object, belongs to one thread at a time; a call into a session that is
 *             in use is EID_INVALID_ARGUMENT.
 * Callbacks   Run on the calling thread, in the middle of the call, and may call everything but
 *             what they interrupt: a callback of a session not that session, the progress of a
 *             verification nothing that ingests into that archive, takes a session's turns from it
 *             or verifies it. Such a call is EID_INVALID_ARGUMENT and does nothing. A handle freed
 *             in a callback lives until the call returns; a session's call is stopped by it and
 *             returns EID_INVALID_ARGUMENT.
 */
#ifndef EIDETIC_EIDETIC_H_
#define EIDETIC_EIDETIC_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define EID_API __attribute__((visibility("default")))
#else
#define EID_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header. */
#define EID_VERSION_MAJOR 0
#define EID_VERSION_MINOR 1
#define EID_VERSION_PATCH 0
/* As the length of a text: up to its NUL. */
#define EID_NUL_TERMINATED ((size_t)-1)

#ifndef __cplusplus
/* In C, a pointer to options with their size set, which lives until the enclosing block ends:
 * EID_OPTIONS(engine, .model_path = path) is a const eid_engine_options*. EID_TEXT(words) stands
 * in it for `text` and its length. */
#define EID_OPTIONS(noun, ...) \
  (&(const eid_##noun##_options){.struct_size = sizeof(eid_##noun##_options), __VA_ARGS__})
#define EID_TEXT(words) .text = (words), .text_length = EID_NUL_TERMINATED
#endif

/* ------------------------------------------------------------------------------------------------
 * Errors
 */

/* What became of a call. */
typedef enum eid_status {
  EID_OK = 0,                   /* done */
  EID_INVALID_ARGUMENT = 1,     /* the call itself is wrong */
  EID_NOT_FOUND = 2,            /* no such file, collection, document or session */
  EID_ALREADY_EXISTS = 3,       /* the name is taken */
  EID_IO_ERROR = 4,             /* the system refused a read or a write */
  EID_NO_SPACE = 5,             /* the disk is full; nothing acknowledged was lost */
  EID_CORRUPTION = 6,           /* stored bytes fail their checksum or their format (rule 3) */
  EID_LOCKED = 7,               /* somebody else uses it: the message says who or where */
  EID_FINGERPRINT_MISMATCH = 8, /* the memory was made by another model (rule 4) */
  EID_UNSUPPORTED = 9,          /* a model, format version or device this build cannot serve */
  EID_CANCELLED = 10,           /* a callback asked to stop; what was committed is kept */
  EID_OUT_OF_MEMORY = 11,       /* of the host, or of the device */
  EID_INTERNAL = 12             /* a defect in eidetic; please report it */
} eid_status;

/* Filled by the callee on failure, cleared on success.
 *
 * Owner    the caller's; nothing in it is allocated.
 */
typedef struct eid_error {
  size_t struct_size; /* set before the first call that gets it */
  eid_status status;  /* what the call returned */
  char message[768];  /* what was wrong, with what value, where; NUL-terminated */
  char remedy[256];   /* what to do about it; may be empty */
} eid_error;

/* The library's version, "0.1.0".
 *
 * Owner    static storage, never freed.
 * Threads  any, at once.
 */
EID_API const char* eid_version(void);

/* The name of a status, such as "fingerprint mismatch". Never NULL.
 *
 * Takes    `status`, any number.
 * Owner    static storage, never freed.
 * Threads  any, at once.
 */
EID_API const char* eid_status_name(eid_status status);

/* ------------------------------------------------------------------------------------------------
 * Results
 */

/* A text made by the library.
 *
 * Owner    the caller's when a call gave it: eid_string_free. As part of a passage: the passages'.
 */
typedef struct eid_string {
  const char* data; /* UTF-8, also NUL-terminated */
  size_t length;    /* bytes, without the NUL */
} eid_string;

/* Gives a text back.
 *
 * Takes    `string`, or NULL.
 * Owner    ends `string` and what it points to.
 * Threads  the one that holds the text.
 */
EID_API void eid_string_free(eid_string* string);

/* What one span layer paid for a passage.
 *
 * Owner    the library's, as part of what it is in.
 */
typedef struct eid_layer_share {
  int layer;        /* model layer */
  double attention; /* share of its attention to the whole context, 0..1, the mean over heads and
                     * tokens of the answer; without an answer, of what was read */
  double presence;  /* share of its span choices that held a block of the passage, 0..1 */
} eid_layer_share;

/* A passage of memory: a run of blocks of one document or session (rule 5).
 *
 * Owner    the library's, as part of what it is in.
 */
typedef struct eid_passage {
  eid_string collection; /* empty: the session's own past */
  eid_string source;     /* the document's name as ingested, or the session's name */
  eid_string text;       /* the passage's text as it was read; empty when it was not stored */
  uint64_t document;     /* the document's id; 0 for a session's own past */
  uint64_t byte_begin;   /* byte range in the document's original, or in the session's text */
  uint64_t byte_end;     /* behind its last byte */
  uint64_t token_begin;  /* token range in the document's or session's stream */
  uint64_t token_end;    /* behind its last token */
  uint32_t blocks;       /* memory blocks in this passage */
  double attention;      /* sources: share of the answer's attention to the whole context, 0..1, the
                          * mean over span layers, heads and answer tokens */
  double focus;          /* sources: the same in `focus_layer` alone */
  int focus_layer;   /* the model layer that looks things up: the retrieval profile's, else the one
                      * whose attention was the most concentrated on few passages; -1: nothing was
                      * attended to */
  double score;      /* search: share of the retrieval mass, 0..1 */
  double presence;   /* share of the span choices that held a block of this passage, 0..1, in the
                      * span layer that held it most often */
  uint32_t reasons;  /* why it was in the span, or found: bits of eid_recall_reason */
  double word_score; /* how well its best place fits the words of the question (BM25), comparable
                      * within one answer; 0 when words did not find it */
  const eid_layer_share* layers; /* in order of the layer; those that chose a block of it */
  size_t layer_count;            /* how many `layers` there are */
  uint64_t text_begin; /* byte range in the text that is kept: not the original's where the text was
                        * extracted from something else */
  uint64_t text_end;   /* behind its last byte */
} eid_passage;

/* Why a passage is there: bits. */
typedef enum eid_recall_reason {
  EID_BY_ATTENTION = 1, /* the model's attention chose it */
  EID_BY_WORDS = 2      /* it holds words of the question */
} eid_recall_reason;

/* Passages, and all that they point to.
 *
 * Owner    the caller's: eid_passages_free.
 */
typedef struct eid_passages {
  size_t count;             /* how many `items` there are */
  const eid_passage* items; /* best first */
} eid_passages;

/* Gives passages back.
 *
 * Takes    `passages`, or NULL.
 * Owner    ends `passages` and all that they point to.
 * Threads  the one that holds the passages.
 */
EID_API void eid_passages_free(eid_passages* passages);

/* Progress of a long call. Return 0 to go on, anything else to stop it: the call then returns
 * EID_CANCELLED and keeps what was committed.
 *
 * Owner    the library's: valid during the callback.
 */
typedef struct eid_progress {
  size_t struct_size; /* of this struct, in bytes */
  const char* stage;  /* "reading", "reading again", "migrating", "verifying", "merging";
                       * static storage */
  const char* item;   /* the document or file at hand; valid during the callback */
  uint64_t done;      /* units (tokens, records or bytes) done in this stage */
  uint64_t total;     /* 0: not known */
  uint64_t blocks;    /* memory blocks written so far by this call */
  uint64_t bytes;     /* bytes of memory written so far by this call */
  uint64_t committed; /* tokens of this document that a kill can no longer lose (rule 2) */
  double seconds;     /* since the call began */
} eid_progress;

/* Called with the progress of a long call, and the caller's `user`. Returns 0 to go on. */
typedef int (*eid_progress_callback)(const eid_progress* progress, void* user);

/* ------------------------------------------------------------------------------------------------
 * Engine: a model's weights and tokenizer, loaded once, shared by any number of sessions.
 */

/* A loaded model.
 *
 * Owner    eid_engine_create gives it, eid_engine_free ends it.
 * Threads  any, at once.
 */
typedef struct eid_engine eid_engine;

/* How an engine is made.
 *
 * Owner    the caller's, with what it points to: read during the call only.
 */
typedef struct eid_engine_options {
  size_t struct_size;     /* of this struct, in bytes */
  const char* model_path; /* a GGUF file, or a folder as transformers saves models: config.json,
                           * tokenizer.json, safetensors; required */
  const char* device;     /* "cpu" (default), "cuda", "cuda:1" */
  const char* cache_dir;  /* where hashes of model files are remembered; NULL: the user's cache
                           * folder; "": nowhere, the file is hashed at each start */
  int threads;            /* 0: OMP_NUM_THREADS of the environment, or one per core */
  /* The retrieval profile that `eidetic model calibrate` wrote. NULL: MODEL_PATH.profile.json, or
   * with an adapter ADAPTER_PATH.profile.json, when there is one, else every attention layer
   * recalls; "none": not even that file. */
  const char* profile_path;
  /* A LoRA or HyLoRA adapter that is applied to the weights when they are loaded: a folder as PEFT
   * saves it, adapter_config.json and adapter_model.safetensors. NULL: none. The fingerprint is of
   * model and adapter, so that memory made without the adapter, or with another, is refused. */
  const char* adapter_path;
  /* Rotary positions made to reach further, in place of what the model's file says: "linear:4",
   * "ntk:4", "yarn:4" or "yarn:4:8192" (factor, and for yarn the context before scaling, by default
   * the model's), or "none". NULL: what the adapter was trained with, else as the file says.
   * Another than the adapter's is EID_INVALID_ARGUMENT. It changes keys, and so the fingerprint. */
  const char* rope_scaling;
} eid_engine_options;

/* Loads a model: its weights, its tokenizer and its retrieval profile. Takes seconds, and the
 * memory of the weights in fp32.
 *
 * Takes    `options`, required.
 * Errors   EID_NOT_FOUND when there is no model, adapter or profile at the path given;
 *          EID_CORRUPTION when a file is damaged; EID_UNSUPPORTED for an architecture, a kind of
 *          adapter, a profile's version or a device that cannot be served;
 *          EID_FINGERPRINT_MISMATCH when the profile is of another model, or the adapter does not
 *          fit this one; EID_IO_ERROR.
 * Owner    `out` is the caller's: eid_engine_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_engine_create(const eid_engine_options* options, eid_engine** out,
                                     eid_error* error);

/* An adapter beside a model that is loaded.
 *
 * Owner    the caller's, with what it points to: read during the call only.
 */
typedef struct eid_adapter_options {
  size_t struct_size;       /* of this struct, in bytes */
  const char* adapter_path; /* a folder as PEFT saves adapters; required */
  const char* profile_path; /* as in eid_engine_options */
} eid_adapter_options;

/* A loaded model with an adapter, as an engine of its own: the same, to the bit, and of the same
 * fingerprint, as one that is made with `adapter_path`. Any number of adapters may be beside one
 * model; what an adapter leaves alone of the weights is in memory once. Which adapter a session, a
 * collection or a search goes with is said by the engine that it is given.
 *
 * Takes    `base`, made without an adapter; `options`, required.
 * Errors   as of eid_engine_create, for the adapter; EID_INVALID_ARGUMENT also for a base that has
 *          an adapter; EID_IO_ERROR when the model's files changed since they were loaded.
 * Owner    `out` is the caller's: eid_engine_free, in any order with the base.
 * Threads  any, at once.
 */
EID_API eid_status eid_engine_add_adapter(const eid_engine* base,
                                          const eid_adapter_options* options, eid_engine** out,
                                          eid_error* error);

/* The fingerprint that eid_engine_create would give the engine, as hexadecimal digits. No weights
 * are loaded; where the hash of a file is remembered, it takes milliseconds.
 *
 * Takes    `options`, required: `model_path`, `adapter_path`, `rope_scaling` and `cache_dir` of
 *          them.
 * Errors   as of eid_engine_create, for the files.
 * Owner    `fingerprint` is the caller's: eid_string_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_engine_fingerprint(const eid_engine_options* options,
                                          eid_string** fingerprint, eid_error* error);

/* Gives an engine back. Its weights stay while a session or a call uses them.
 *
 * Takes    `engine`, or NULL.
 * Owner    ends `engine`.
 * Threads  any; not while another thread passes this handle to a call.
 */
EID_API void eid_engine_free(eid_engine* engine);

/* The loaded model as JSON: architecture, layers, sizes, fingerprint, retrieval profile.
 *
 * Takes    `engine`.
 * Errors   none of its own.
 * Owner    `json` is the caller's: eid_string_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_engine_info(const eid_engine* engine, eid_string** json, eid_error* error);

/* Text to tokens. With `special` non-zero, the names of special tokens in the text become these
 * tokens. Writes at most `capacity` ids and sets `*count` to the number there are; a too small
 * capacity is not an error.
 *
 * Takes    `engine`; `text`, UTF-8, with its `length` in bytes; `tokens`, room for `capacity`
 *          ids, which may be NULL when that is 0; `count`, required.
 * Errors   none of its own.
 * Owner    all memory is the caller's.
 * Threads  any, at once.
 */
EID_API eid_status eid_engine_tokenize(const eid_engine* engine, const char* text, size_t length,
                                       int special, int32_t* tokens, size_t capacity, size_t* count,
                                       eid_error* error);

/* Tokens to text, without special tokens. Bytes that are no UTF-8 become U+FFFD.
 *
 * Takes    `engine`; `tokens`, `count` ids.
 * Errors   EID_INVALID_ARGUMENT also for an id that the vocabulary does not have.
 * Owner    `text` is the caller's: eid_string_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_engine_detokenize(const eid_engine* engine, const int32_t* tokens,
                                         size_t count, eid_string** text, eid_error* error);

/* A sequence, how it is read, and where the results go.
 *
 * Owner    the caller's, with what it points to: used during the call only.
 */
typedef struct eid_sequence_options {
  size_t struct_size; /* of this struct, in bytes */
  /* How attention layers read it. "full", every token sees all before it; "window", the last
   * `window`; "s2", shifted sparse attention in `groups`; "paper", Span-Expanded Attention as
   * published, "paper-random", "paper-no-memory" and "paper-landmark", its controls; "se-stream",
   * what a session in mode stream computes that reads the text in segments. NULL: "paper". */
  const char* mode;
  const int32_t* tokens; /* required */
  size_t token_count;    /* 1 or more */
  int chunk;             /* paper and its controls: tokens per chunk; 0: 4096. se-stream: tokens
                          * per segment; 0: 512 */
  int block_tokens;      /* paper, se-stream: tokens per block of memory; 0: 32 */
  int span_blocks;       /* most blocks that a chunk or segment sees beside itself; 0: 8, in
                          * se-stream 16 */
  int one_choice;        /* paper; non-zero: one choice of blocks for all heads of a layer */
  int groups;            /* s2; 0: 4 */
  int window;            /* window: tokens, the reader itself among them; no sinks; 0: 4096.
                          * se-stream: tokens before the segment; 0: 1024 */
  uint64_t seed;         /* paper-random: of the draws */
  /* Results, each left out when NULL. */
  float* losses;     /* room for `token_count`: the negative log-likelihood of each token, in nats,
                      * given all before it; NaN for the first */
  float* logits;     /* fp32, after each of the last `logit_rows` tokens, oldest first */
  size_t logit_rows; /* at most `token_count` */
  size_t logit_capacity; /* numbers there is room for: `logit_rows` times the vocabulary */
} eid_sequence_options;

/* Reads a whole sequence at once from a fresh state and keeps nothing: the published method and the
 * baselines beside it, to be compared with what sessions do. In "paper" all
 * tokens of a chunk choose its span together: a perplexity is a little too good for that. Memory
 * grows linearly with the sequence, the number of layers has no part in it.
 *
 * Takes    `engine`; `options`, required, with room for the results.
 * Errors   EID_INVALID_ARGUMENT also for a token that the vocabulary does not have and for too
 *          little room.
 * Owner    all memory is the caller's.
 * Threads  any, at once.
 */
EID_API eid_status eid_engine_read_sequence(const eid_engine* engine,
                                            const eid_sequence_options* options, eid_error* error);

/* Reads the headers and tables of a model's file or folder, without loading weights: what
 * `model info` prints.
 *
 * Takes    `path`, of a GGUF file or of a folder with safetensors.
 * Errors   EID_NOT_FOUND, EID_CORRUPTION when it is no whole model, EID_UNSUPPORTED, EID_IO_ERROR.
 * Owner    `json` is the caller's: eid_string_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_model_info(const char* path, eid_string** json, eid_error* error);

/* Makes one GGUF out of a base GGUF and a patch folder (config.json + mixers.safetensors), which
 * names its base by SHA-256. The output is written beside `output_path` and renamed into place.
 * A retrieval profile that the folder brings (profile.json) is copied to OUTPUT.profile.json,
 * unless one is there.
 *
 * Takes    `base_path` and `output_path`, GGUF files; `patch_dir`, a folder; `progress`, bytes,
 *          or NULL, with `user`.
 * Errors   EID_NOT_FOUND; EID_CORRUPTION when an input is damaged; EID_FINGERPRINT_MISMATCH when
 *          the base is not the one that the patch names; EID_INVALID_ARGUMENT also for an output
 *          that is an input, or a file that is no GGUF; EID_UNSUPPORTED; EID_CANCELLED;
 *          EID_NO_SPACE; EID_IO_ERROR. After any of them there is no new output.
 * Owner    nothing is given.
 * Threads  any; one at a time for an output.
 */
EID_API eid_status eid_model_merge(const char* base_path, const char* patch_dir,
                                   const char* output_path, eid_progress_callback progress,
                                   void* user, eid_error* error);

/* How a Llama-family model becomes a hybrid.
 *
 * Owner    the caller's, with what it points to: read during the call only.
 */
typedef struct eid_hybridize_options {
  size_t struct_size;              /* of this struct, in bytes */
  const int32_t* attention_layers; /* layers that keep their attention, from 0, in any order; all
                                    * others become Mamba-2 mixers */
  size_t attention_layer_count;    /* 1 up to one less than the base has layers */
  int conv_width;                  /* taps of the mixers' convolutions: 2 to 16; 0: 4 */
  uint64_t seed;                   /* of what no projection of the base stands for */
} eid_hybridize_options;

/* Writes a patch folder, config.json and mixers.safetensors, with which eid_model_merge makes a
 * hybrid of the base. The mixers begin as the q, k, v and o of the layers they replace; the model
 * has yet to be trained.
 *
 * Takes    `base_path`, a GGUF file of architecture `llama`; `options`, required; `patch_dir`, a
 *          folder, which is made where there is none.
 * Errors   EID_NOT_FOUND; EID_CORRUPTION when the base is damaged; EID_UNSUPPORTED for another
 *          architecture; EID_INVALID_ARGUMENT for layers that the base does not have, or none or
 *          all of them; EID_NO_SPACE; EID_IO_ERROR.
 * Owner    nothing is given.
 * Threads  any; one at a time for a folder.
 */
EID_API eid_status eid_model_hybridize(const char* base_path, const eid_hybridize_options* options,
                                       const char* patch_dir, eid_error* error);

/* Reads an adapter's two files, all values among them, and tells what is in them: what
 * `adapter info` prints.
 *
 * Takes    `path`, of a folder as PEFT saves adapters.
 * Errors   EID_NOT_FOUND; EID_CORRUPTION; EID_UNSUPPORTED for another kind of adapter than LoRA;
 *          EID_IO_ERROR.
 * Owner    `json` is the caller's: eid_string_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_adapter_info(const char* path, eid_string** json, eid_error* error);

/* Makes one GGUF out of a base GGUF and an adapter. What the adapter leaves alone is copied byte
 * for byte. The output is written beside `output_path` and renamed into place.
 *
 * Takes    `base_path` and `output_path`, GGUF files; `adapter_path`, a folder as PEFT saves
 *          adapters; `type`, how matrices that change are stored: "f32" (also NULL), with which
 *          logits are those of base and adapter to the bit, or "f16"; `progress`, bytes, or
 *          NULL, with `user`.
 * Errors   EID_NOT_FOUND; EID_CORRUPTION when an input is damaged; EID_FINGERPRINT_MISMATCH when
 *          the adapter does not fit the base; EID_INVALID_ARGUMENT also for an output that is an
 *          input, or a file that is no GGUF; EID_UNSUPPORTED; EID_CANCELLED; EID_NO_SPACE;
 *          EID_IO_ERROR. After any of them there is no new output.
 * Owner    nothing is given.
 * Threads  any; one at a time for an output.
 */
EID_API eid_status eid_adapter_merge(const char* base_path, const char* adapter_path,
                                     const char* output_path, const char* type,
                                     eid_progress_callback progress, void* user, eid_error* error);

/* ------------------------------------------------------------------------------------------------
 * Training: an adapter of a model, from files of text.
 */

/* A number that is said of modules, by their paths ("model.layers.3.mlp.up_proj").
 *
 * Owner    the caller's: read during the call only.
 */
typedef struct eid_module_number {
  const char* pattern; /* a regular expression that fits a path, or the end of one behind a dot:
                        * "up_proj", "layers.[0-5].mlp..+" */
  double number;       /* what is said of modules that it fits */
} eid_module_number;

/* What is trained, on what and how. The first defaults are those of the paper on Span-Expanded
 * Attention.
 *
 * Owner    the caller's, with what it points to: read during the call only.
 */
typedef struct eid_tune_options {
  size_t struct_size;          /* of this struct, in bytes */
  const char* model_path;      /* as in eid_engine_options; required */
  const char* adapter_path;    /* the folder of an adapter to go on from; NULL: a new one is made */
  const char* folder;          /* of the run, which is made: `last`, `best`, metrics; required */
  const char* const* inputs;   /* paths of text, Markdown and JSONL to train on */
  size_t input_count;          /* 1 or more */
  const char* const* held_out; /* paths of files whose loss is measured now and then; may be NULL */
  size_t held_out_count;       /* how many `held_out` there are */
  int skip_bad;          /* not 0: lines of JSONL that do not parse are left out and counted */
  const char* device;    /* as in eid_engine_options */
  const char* cache_dir; /* as in eid_engine_options */
  int threads;           /* as in eid_engine_options */
  /* What is trained. Of a new adapter: one to go on from brings its own. */
  const char* kind;           /* "lora"; "lora+", embeddings and norms too; "hylora" (NULL), the
                               * convolutions of mixers as well; "mixers" (NULL with a teacher):
                               * no matrices, but mixers as a whole, and
                               * targets, rank, alpha and dropout are to be left out */
  const char* const* targets; /* linear maps by the ends of their paths; NULL: q, k, v, o;
                               * "all-linear" alone: all */
  size_t target_count;        /* how many `targets` there are */
  int rank;                   /* 0: 32 */
  double alpha;               /* the products' scale is alpha / rank; 0: twice the rank */
  double dropout;             /* share of what low-rank maps do not see; 0 to 1, below 1 */
  /* How attention layers read a sequence in training. What the attention does not read is refused
   * where it is given. */
  const char* attention; /* "se" (NULL), the published method; "se-no-memory", "se-random",
                          * "se-landmark", its controls; "se-stream", as a session in mode stream
                          * reads a text in segments; "window", "s2", "full" (NULL with a
                          * teacher) */
  const int* chunks;  /* se: tokens a chunk, one of these at each layer's call; NULL: 2048, 4096 */
  size_t chunk_count; /* how many `chunks` there are */
  int block_tokens;   /* se, se-stream; 0: 32 */
  int span_blocks;    /* se; 0: 8. se-stream; 0: 16 */
  int groups;         /* s2; 0: 4 */
  int window;         /* window; 0: 4096. se-stream; 0: 1024 */
  int segment;        /* se-stream; 0: 512 */
  int sinks;          /* se-stream; 0: 32, -1: none */
  int candidates;     /* se-stream; 0: 128 */
  int query_offset;   /* se-stream; 0: the window, -1: none */
  const int* span_layers;   /* se-stream: model layers that recall; NULL: all */
  size_t span_layer_count;  /* how many `span_layers` there are */
  const char* rope_scaling; /* "linear:4", "ntk:4", "yarn:4", "none"; NULL: that of adapter_path,
                             * else as the model says. What is trained says it, and is used so; a
                             * teacher of the same rotary base reads with it too. */
  const char* dtype;        /* of linear maps and attention: "fp32" (NULL), "bf16"; what is trained
                             * is fp32 in both */
  int recompute; /* not 0: a layer keeps its input alone: less memory, a third more time */
  /* How it is trained. */
  int64_t length;             /* tokens a sequence; 0: 8192 */
  int64_t batch;              /* sequences whose gradients make a step; 0: 1 */
  int64_t steps;              /* 0: as many as one pass over the inputs takes */
  double rate;                /* of learning; 0: 2e-4 */
  int64_t warm_up;            /* steps over which the rate grows, in each stage, and fewer than it
                               * has; 0: a tenth of them, 1 to 20, -1: none */
  const char* schedule;       /* "constant" (NULL); "cosine", to 0 at the last step of all, with a
                               * teacher of each stage */
  double weight_decay;        /* 0: none */
  double clip;                /* the gradient's largest norm; 0: 1, -1: it is not clipped */
  uint64_t seed;              /* of all draws: the same seed, the same losses on a CPU */
  int64_t evaluate_every;     /* steps; 0: 50 */
  int64_t held_out_sequences; /* that an evaluation reads, spread evenly; 0: 16, -1: all */
  int64_t checkpoint_every;   /* steps; 0: 50 */
  /* Data parallel, on one machine: this call is one of `processes`, each in a process of its own
   * with the same options, that share the sequences of each batch out and add up their gradients,
   * over NCCL on GPUs. The first evaluates, saves and tells. */
  int processes;       /* 0 or 1: this one is alone; `batch` is a multiple of it */
  int process;         /* this one's number, from 0 on; with device "cuda" also its GPU's */
  const char* meeting; /* path of a file by which they meet, that is not there yet */
  int dry_run;         /* not 0: tells what it would take in memory, time and room on disk: measured
                        * on short steps, and counted. Trains nothing; `folder` is not touched */
  /* Distillation: the model learns from another one, of which it was made by eid_model_hybridize,
   * instead of from the text alone. */
  const char* teacher_path; /* as model_path; NULL: none */
  int64_t mixer_steps;      /* the first steps, in which each mixer learns alone to do what the
                             * teacher's attention does; then all together learn to say what the
                             * teacher says. 0: an eighth of the steps, -1: none */
  double mixer_rate;   /* of learning in these; 0: 3e-3. Each stage has its warm-up and schedule */
  double text_share;   /* of the loss of saying that, how much is the text's own; 0 to 1 */
  int64_t micro_batch; /* most sequences of a batch that go through the model at once: faster on
                        * a GPU, for as much more memory; 0: 1 */
  /* Of a new adapter, as PEFT's configuration has them and reads them. Each pattern fits a target,
   * and of two that fit the same one none says another number than the other. */
  const char* target_pattern;         /* in place of `targets`: a regular expression that fits whole
                                       * paths of linear maps, such as ".+(q|v)_proj"; NULL: `targets` */
  const eid_module_number* rank_for;  /* other ranks; the alphas stay what they are */
  size_t rank_for_count;              /* how many `rank_for` there are */
  const eid_module_number* alpha_for; /* other alphas */
  size_t alpha_for_count;             /* how many `alpha_for` there are */
  const eid_module_number* dropout_for; /* other dropouts: of this run alone, as adapters that PEFT
                                         * reads have no place for them */
  size_t dropout_for_count;             /* how many `dropout_for` there are */
} eid_tune_options;

/* Where a run of training stands. What is not known yet is NaN, or 0 of counts and bytes.
 *
 * Owner    the library's: valid during the callback.
 */
typedef struct eid_tune_progress {
  size_t struct_size;       /* of this struct, in bytes */
  const char* stage;        /* "tokenizing", "loading", "training", "evaluating", "saving"; of an
                             * estimate "measuring"; static storage */
  int64_t done;             /* of the stage: bytes of files, steps, sequences held out */
  int64_t total;            /* 0: not known */
  int64_t step;             /* steps that were taken, by calls before this one too */
  int64_t steps;            /* that are wanted; 0: not known yet */
  double loss;              /* of the last step: nats a token; `objective` tells of what */
  double held_out_loss;     /* of the last evaluation */
  double rate;              /* of the last step */
  double gradient_norm;     /* of the last step, before clipping */
  int64_t tokens;           /* that were read since the run began */
  double tokens_per_second; /* of the last step */
  double seconds;           /* of training since the run began */
  double remaining_seconds; /* at the speed of the last steps */
  double peak_share;        /* share of the device's peak that the model's operations reach, 0..1 */
  uint64_t memory_bytes;    /* of the device: the most in use at a time */
  const char* objective;    /* what `loss` is: "text", cross entropy; with a teacher first "mixers",
                             * the squared distance of mixers from attention over the square of
                             * that, then "teacher", the divergence from what the teacher says,
                             * with the share of the text's cross entropy that `text_share` asks
                             * for; static storage */
} eid_tune_progress;

/* Called with the progress of training, and the caller's `user`. Returns 0 to go on; anything else
 * ends the call after the step at hand, with a checkpoint and EID_CANCELLED. */
typedef int (*eid_tune_callback)(const eid_tune_progress* progress, void* user);

/* Trains an adapter and leaves it in `folder`: `last`, and with something held out `best`, each as
 * PEFT saves adapters. Called again with the same options and files it goes on from `last`,
 * whatever it was stopped by: on a CPU to the same bits as if it had not been (rule 9). A finished
 * run is only reported. docs/formats/training-run.md has the folder's files, docs/cli.md the
 * report's keys.
 *
 * Takes    `options`, required; `progress`, or NULL, with `user`.
 * Errors   EID_NOT_FOUND, EID_CORRUPTION, EID_UNSUPPORTED for files that cannot be read, an empty
 *          one among them, with line and file; EID_INVALID_ARGUMENT also for an adapter that does
 *          not fit the model, for a text that is trained on and held out, when the run in `folder`
 *          was begun with other options or files, which are named, and for a loss or gradient that
 *          is no number: with step, batch and last checkpoint; EID_OUT_OF_MEMORY, with what to
 *          lower; EID_NO_SPACE, the last checkpoint is kept; EID_LOCKED while another process
 *          trains into `folder`; EID_CANCELLED; EID_IO_ERROR.
 * Owner    `json` is the caller's: eid_string_free.
 * Threads  any; one at a time for a folder.
 */
EID_API eid_status eid_tune(const eid_tune_options* options, eid_tune_callback progress, void* user,
                            eid_string** json, eid_error* error);

/* ------------------------------------------------------------------------------------------------
 * Archive: a directory with one database of collections, documents and sessions.
 */

/* An open archive.
 *
 * Owner    eid_archive_open gives it, eid_archive_free ends it.
 * Threads  any, at once.
 */
typedef struct eid_archive eid_archive;

/* How an archive is opened.
 *
 * Owner    the caller's, with what it points to: read during the call only.
 */
typedef struct eid_archive_options {
  size_t struct_size;   /* of this struct, in bytes */
  const char* path;     /* required */
  int create;           /* non-zero: make it when it is not there */
  int read_only;        /* non-zero: no lock is taken, nothing is written, every write is refused */
  uint64_t cache_bytes; /* budget of the host pool of coded blocks; 0: 384 MiB */
  int repair;           /* non-zero: go on without what a damaged log lost, for good */
} eid_archive_options;

/* Opens an archive, or makes one. When the database's log was damaged, what was committed after the
 * damage is lost: opening to write is EID_CORRUPTION unless `repair` is set. Opened read-only, the
 * archive is as it was before; eid_archive_list says so in `log_damage`, and eid_archive_verify
 * reports it.
 *
 * Takes    `options`, required.
 * Errors   EID_NOT_FOUND when nothing is there and `create` is 0; EID_LOCKED when a process has
 *          it open to write (this one, too); EID_CORRUPTION; EID_UNSUPPORTED for a newer format.
 * Owner    `out` is the caller's: eid_archive_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_archive_open(const eid_archive_options* options, eid_archive** out,
                                    eid_error* error);

/* Gives an archive back. The database is closed, and its lock let go, with the last session of it.
 *
 * Takes    `archive`, or NULL.
 * Owner    ends `archive`.
 * Threads  any; not while another thread passes this handle to a call.
 */
EID_API void eid_archive_free(eid_archive* archive);

/* A run of a text, and the run of the original that it was extracted from. Runs of the same length
 * belong together byte by byte, others (a character reference, another encoding) as a whole.
 *
 * Owner    the caller's: read during the call only.
 */
typedef struct eid_text_piece {
  uint64_t text_begin;     /* byte of the text */
  uint64_t text_bytes;     /* 1 or more */
  uint64_t original_begin; /* byte of the original */
  uint64_t original_bytes; /* 1 or more */
} eid_text_piece;

/* A document, and how it is read.
 *
 * Owner    the caller's, with what it points to: read during the call only.
 */
typedef struct eid_ingest_options {
  size_t struct_size;     /* of this struct, in bytes */
  const char* collection; /* required; made when it is not there */
  const char* source;     /* the document's name in the collection, unique there; required */
  const char* text;       /* UTF-8; binary data is refused */
  size_t text_length;     /* or EID_NUL_TERMINATED */
  /* How documents are read, fixed when the collection is made. 0 or NULL: the collection's own
   * setting, or that of a new one; another value than the collection's is an error. */
  const char* codec;     /* "int8" or "fp16"; new: "int8" */
  int window;            /* tokens; new: 1024 */
  int sinks;             /* tokens, a multiple of 32; negative: none; new: 32 */
  int segment;           /* tokens a forward pass; new: 512 */
  double commit_seconds; /* longest time between commits; 0: 2 s */
  int again;             /* non-zero: read it also when its content is the one that is there */
  eid_progress_callback progress; /* tokens, at every commit and segment; or NULL */
  void* user;                     /* handed to `progress` */
  /* Of a text that was extracted from something else, such as a web page: what that was. Passages
   * then name bytes of the original. */
  const char* format;           /* "html", "markdown", ...; at most 32 bytes; NULL: "text" */
  const eid_text_piece* pieces; /* in the order of the text, not overlapping there; what stands
                                 * between them has no original; NULL: the text is the original */
  size_t piece_count;           /* how many `pieces` there are */
  uint64_t original_bytes;      /* the size of the original; required with `pieces` */
} eid_ingest_options;

/* What an ingest did with the document. */
typedef enum eid_ingest_outcome {
  EID_INGEST_ADDED = 0,     /* there was none of that source */
  EID_INGEST_REPLACED = 1,  /* the same source, changed or read again: the old version is gone */
  EID_INGEST_UNCHANGED = 2, /* the same text: nothing was read. Pieces that changed are stored */
  EID_INGEST_RESUMED = 3    /* an interrupted ingest of the same content was completed */
} eid_ingest_outcome;

/* What an ingest did.
 *
 * Owner    the caller's: filled by the call.
 */
typedef struct eid_ingest_result {
  size_t struct_size;         /* of this struct, in bytes */
  eid_ingest_outcome outcome; /* what was done */
  uint64_t document;          /* its id in the archive */
  uint64_t tokens;            /* of the document, its sinks among them */
  uint64_t tokens_read;       /* tokens that went through the model in this call */
  uint64_t blocks;            /* memory blocks of the document */
  uint64_t bytes;             /* written to the archive for this document by this call */
  double seconds;             /* that the call took */
} eid_ingest_result;

/* Reads one document through the model from a fresh state and keeps all of it as memory blocks. It
 * is read behind `sinks` tokens of a neutral sentence, which count as tokens of the document.
 * Commits as it goes: after a crash or a cancellation the same call goes on from the last commit
 * and ends with the same bytes. Until the last commit an older version stays as it was; that one
 * puts the new version in its place.
 *
 * Takes    `archive`, opened to write; `engine`, or NULL: then nothing is read, and a document that
 *          is not there with the same text is EID_NOT_FOUND; whether the collection is of the
 *          caller's model, eid_engine_fingerprint tells; `options`, required; `result`, or NULL.
 * Errors   EID_INVALID_ARGUMENT also for text that is empty or no UTF-8 and for settings other
 *          than the collection's; EID_FINGERPRINT_MISMATCH when the collection is of another
 *          model; EID_LOCKED while the same document is being ingested; EID_CANCELLED;
 *          EID_NOT_FOUND when the collection is forgotten meanwhile. After any of them what was
 *          committed is kept.
 * Owner    all memory is the caller's.
 * Threads  any, at once; documents are read side by side.
 */
EID_API eid_status eid_archive_ingest(eid_archive* archive, eid_engine* engine,
                                      const eid_ingest_options* options, eid_ingest_result* result,
                                      eid_error* error);

/* What another model is to read again.
 *
 * Owner    the caller's, with what it points to: read during the call only.
 */
typedef struct eid_migrate_options {
  size_t struct_size;             /* of this struct, in bytes */
  const char* collection;         /* required */
  double commit_seconds;          /* longest time between commits; 0: 2 s */
  int dry_run;                    /* not 0: tells what would be read */
  int leave_sessions;             /* not 0: also when sessions of another model recall from it */
  eid_progress_callback progress; /* tokens of the collection, at every segment; or NULL */
  void* user;                     /* handed to `progress` */
  const char* fingerprint;        /* of the model, for a dry run without an engine; or NULL */
} eid_migrate_options;

/* Has the engine's model read a collection that another model made: from the texts that the archive
 * keeps, with the collection's own settings. What is read stands beside the old memory, which
 * serves as before until all of it is swapped in one atomic step; a migration that was stopped or
 * killed goes on where it was when it is called again for the same model, and is given up when it
 * is called for the one that made the collection. Documents keep their source, text, byte ranges,
 * original and age, and get new ids; what is forgotten meanwhile is forgotten in both.
 *
 * Sessions belong to the model that made them, and are not migrated. Those that recall from the
 * collection lose it: they are named in the error, or with `leave_sessions` in the report. `json`
 * is the report (docs/reports.md).
 *
 * Takes    `archive`, opened to write or, for a dry run, read-only; `engine`, of the model that is
 *          to read, or for a dry run NULL and in `options` what eid_engine_fingerprint tells of it:
 *          so no weights are loaded; `options`, required.
 * Errors   EID_NOT_FOUND when there is no such collection; EID_LOCKED when sessions recall from it,
 *          also ones that were kept while it was read, or while a document of it is being
 *          ingested; EID_CORRUPTION names the document whose
 *          text is damaged; EID_CANCELLED. After any of them the collection is as it was, and what
 *          was committed is kept for the next call.
 * Owner    `json` is the caller's: eid_string_free.
 * Threads  any, at once; one at a time for a collection.
 */
EID_API eid_status eid_archive_migrate(eid_archive* archive, eid_engine* engine,
                                       const eid_migrate_options* options, eid_string** json,
                                       eid_error* error);

/* Collections, documents and sessions as JSON; `collection` NULL means all.
 *
 * Takes    `archive`; `collection`, or NULL.
 * Errors   EID_NOT_FOUND when there is no such collection.
 * Owner    `json` is the caller's: eid_string_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_archive_list(const eid_archive* archive, const char* collection,
                                    eid_string** json, eid_error* error);

/* Sizes, counts, cache hits as JSON.
 *
 * Takes    `archive`.
 * Errors   none of its own.
 * Owner    `json` is the caller's: eid_string_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_archive_stats(const eid_archive* archive, eid_string** json,
                                     eid_error* error);

/* Who says which blocks of memory are recalled. */
typedef enum eid_recall_policy {
  EID_RECALL_DEFAULT = 0,   /* sessions: the profile's, else attention; search: attention */
  EID_RECALL_ATTENTION = 1, /* the model's attention */
  EID_RECALL_WORDS = 2,     /* the words of the question alone */
  EID_RECALL_BOTH = 3       /* attention, and beside it the best places by words */
} eid_recall_policy;

/* What is searched, and where.
 *
 * Owner    the caller's, with what it points to: read during the call only.
 */
typedef struct eid_search_options {
  size_t struct_size;       /* of this struct, in bytes */
  const char* collection;   /* required */
  const char* query;        /* UTF-8; required */
  size_t query_length;      /* or EID_NUL_TERMINATED */
  int limit;                /* passages; 0: 8 */
  eid_recall_policy policy; /* who finds them */
} eid_search_options;

/* The passages that would be recalled for the query. With EID_RECALL_WORDS `engine` may be NULL:
 * the best places by words, each a block with its neighbours, by word_score.
 *
 * Takes    `archive`; `engine`, or NULL as said; `options`, required.
 * Errors   EID_NOT_FOUND when there is no such collection; EID_FINGERPRINT_MISMATCH when it is
 *          of another model.
 * Owner    `passages` are the caller's: eid_passages_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_archive_search(eid_archive* archive, eid_engine* engine,
                                      const eid_search_options* options, eid_passages** passages,
                                      eid_error* error);

/* Reads every record and checks it. The JSON report has `clean`, `records`, `damaged` (one entry
 * per damaged record, naming the block) and per collection a `digest` that depends on the content
 * alone. Damage found is reported, and also returned as EID_CORRUPTION with the report set.
 *
 * Takes    `archive`; `progress`, records, or NULL, with `user`.
 * Errors   EID_CORRUPTION as said, with `json` set; EID_CANCELLED, without.
 * Owner    `json` is the caller's: eid_string_free.
 * Threads  any, at once; what others want to write waits for its end.
 */
EID_API eid_status eid_archive_verify(const eid_archive* archive, eid_progress_callback progress,
                                      void* user, eid_string** json, eid_error* error);

/* ------------------------------------------------------------------------------------------------
 * Session: one running conversation or generation.
 */

/* A running session.
 *
 * Owner    eid_session_create and eid_session_open give it, eid_session_free ends it.
 * Threads  one at a time.
 */
typedef struct eid_session eid_session;

/* What attention sees. */
typedef enum eid_attention_mode {
  EID_ATTENTION_STREAM = 0, /* [sinks | span | window | segment], the default */
  EID_ATTENTION_WINDOW = 1, /* [sinks | window | segment] */
  EID_ATTENTION_FULL = 2,   /* everything since the session began */
  EID_ATTENTION_RANDOM = 3  /* as stream, with blocks drawn at random: the control */
} eid_attention_mode;

/* How a session is made.
 *
 * Owner    the caller's, with what it points to: read during the call only; the archive is
 *          kept alive.
 */
typedef struct eid_session_options {
  size_t struct_size;         /* of this struct, in bytes */
  eid_attention_mode mode;    /* what attention sees */
  int window;                 /* tokens; 0: 1024 */
  int sinks;                  /* tokens; 0: 32; negative: none */
  int segment;                /* most tokens in one forward pass; 0: 512 */
  int span_blocks;            /* k; 0: the profile's, else 16 */
  int candidate_blocks;       /* rescored on their real keys; 0: the profile's, else 128; negative:
                               * no rescoring */
  int query_offset;           /* rotary distance of scoring queries; 0: the profile's, else the
                               * window; negative: none */
  const char* codec;          /* of the session's own blocks: "int8" (default) or "fp16" */
  int forget_own_past;        /* non-zero: evicted tokens are dropped, not kept as memory */
  const int32_t* span_layers; /* model layers that get a span; NULL: the profile's, else all
                               * attention layers */
  size_t span_layer_count;    /* how many `span_layers` there are */
  uint64_t seed;              /* of the `random` mode's draws */
  /* Where the session and its memory are kept. NULL: in RAM, gone when it is freed. */
  eid_archive* archive;
  const char* name; /* required with an archive; unique among its sessions */
  /* Words beside attention (mode `stream` alone): the places of memory that speak of what is
   * appended with `use_span` are pinned into the span, from the own past too, until the next such
   * call; nothing of them is read again. */
  eid_recall_policy policy;
  int word_places; /* most places that are pinned, of up to 5 blocks each; 0: the profile's, else 3;
                    * negative: none */
  /* Span layers in a row that share one choice of blocks, the first one's, while no collection is
   * attached; 0: the profile's, else 1: each its own. */
  int layer_group;
  /* The heaviest blocks of a choice that bring the block after them into the span, in the place of
   * the lightest; 0: the profile's, else a quarter of span_blocks, rounded down; negative: none. */
  int successor_blocks;
  /* Where a token is read alone, as in an answer: the part of the choice before it that still
   * counts, 0 to 1; 0: the profile's, else .5 from 4 span_blocks on; negative: none. A turn begins
   * with nothing: what was chosen before eid_session_commit does not count after it. */
  double linger;
} eid_session_options;

/* Begins a session that has read nothing.
 *
 * Takes    `engine`; `options`, or NULL.
 * Errors   EID_ALREADY_EXISTS when the archive has a session of that name; EID_LOCKED when one
 *          of that name is open in this process; EID_INVALID_ARGUMENT also when the archive was
 *          opened read-only.
 * Owner    `out` is the caller's: eid_session_free. It keeps engine and archive alive.
 * Threads  any; the session belongs to one thread at a time.
 */
EID_API eid_status eid_session_create(eid_engine* engine, const eid_session_options* options,
                                      eid_session** out, eid_error* error);

/* Opens a saved session: it goes on with the logits it would have had (rule 9). Of an archive that
 * was opened read-only it goes on in RAM, and cannot be saved.
 *
 * Takes    `engine`; `archive`; `name`, of the session.
 * Errors   EID_NOT_FOUND when there is no such session; EID_LOCKED when it is open in this
 *          process; EID_FINGERPRINT_MISMATCH when another model made it; EID_UNSUPPORTED when a
 *          turn cannot be reached any more (see eid_archive_fork_session) or leads to other bits
 *          here; EID_CORRUPTION names what is damaged.
 * Owner    `out` is the caller's: eid_session_free. It keeps engine and archive alive.
 * Threads  any; the session belongs to one thread at a time.
 */
EID_API eid_status eid_session_open(eid_engine* engine, eid_archive* archive, const char* name,
                                    eid_session** out, eid_error* error);

/* Which session is opened, and who is told of it.
 *
 * Owner    the caller's, with what it points to: used during the call only.
 */
typedef struct eid_open_options {
  size_t struct_size;             /* of this struct, in bytes */
  const char* name;               /* of the session; required */
  eid_progress_callback progress; /* tokens of turns that are read again, at every forward pass; or
                                   * NULL. Not called when the last turn has a state */
  void* user;                     /* handed to `progress` */
} eid_open_options;

/* Opens a saved session as eid_session_open does, and tells how far it is with the turns that are
 * read again.
 *
 * Takes    `engine`; `archive`; `options`, required.
 * Errors   as of eid_session_open; EID_CANCELLED: the session is as it was, but for turns after
 *          something forgotten, of which those that were read again stay read.
 * Owner    `out` is the caller's: eid_session_free. It keeps engine and archive alive.
 * Threads  any; the session belongs to one thread at a time.
 */
EID_API eid_status eid_session_open_with(eid_engine* engine, eid_archive* archive,
                                         const eid_open_options* options, eid_session** out,
                                         eid_error* error);

/* Gives a session back. What was not committed is gone.
 *
 * Takes    `session`, or NULL.
 * Owner    ends `session`.
 * Threads  any; in the middle of a call into it, the end of that call frees it.
 */
EID_API void eid_session_free(eid_session* session);

/* Makes a collection searchable for this session. Refused when its fingerprint differs. A saved
 * session remembers the collections of its own archive, not those of others.
 *
 * Takes    `session`; `archive`; `collection`.
 * Errors   EID_NOT_FOUND when there is no such collection; EID_FINGERPRINT_MISMATCH;
 *          EID_INVALID_ARGUMENT also for a collection that lacks a layer of the session's span.
 * Owner    the session keeps the archive alive.
 * Threads  the one that the session belongs to.
 */
EID_API eid_status eid_session_attach(eid_session* session, eid_archive* archive,
                                      const char* collection, eid_error* error);

/* What is read into a session.
 *
 * Owner    the caller's, with what it points to: used during the call only.
 */
typedef struct eid_append_options {
  size_t struct_size;    /* of this struct, in bytes */
  const char* text;      /* UTF-8 */
  size_t text_length;    /* or EID_NUL_TERMINATED */
  const int32_t* tokens; /* instead of text */
  size_t token_count;    /* how many `tokens` there are */
  const char* role; /* "user", "system", "assistant": wraps the text by the chat template; NULL:
                     * plain text */
  int use_span;     /* non-zero: these tokens may recall memory; zero: read with the span off */
  eid_progress_callback progress; /* tokens, at every segment; or NULL */
  void* user;                     /* handed to `progress` */
  const char* words;   /* text whose words are searched, when the session's policy asks for that;
                        * NULL: the appended text */
  size_t words_length; /* or EID_NUL_TERMINATED */
  /* Not NULL: the negative log-likelihood of each token that was read, in nats, given all before
   * it; NaN for the first token of a session. Room for `token_count` numbers; needs `tokens`. */
  float* losses;
  /* Non-zero: the engine keeps the state after these tokens, where they are the session's first,
   * are plain text or tokens read with the span off and without losses, and fit into one segment
   * and the window; a session with the same attention options that begins with the same tokens,
   * and sets this too, goes on from a copy of it, with the same bits, instead of reading them. For
   * words that stand before every question. The engine keeps the four used last, each of a
   * session's state in size, until it is freed. */
  int keep_beginning;
} eid_append_options;

/* Reads tokens into the session. Zero tokens are an error. A cancelled append keeps the segments
 * that were read.
 *
 * Takes    `session`; `options`, required.
 * Errors   EID_INVALID_ARGUMENT also for a token that the vocabulary does not have and for a
 *          role without a chat template; EID_CANCELLED; EID_CORRUPTION when memory that was
 *          recalled is damaged.
 * Owner    all memory is the caller's.
 * Threads  the one that the session belongs to.
 */
EID_API eid_status eid_session_append(eid_session* session, const eid_append_options* options,
                                      eid_error* error);

/* A piece of the answer: whole UTF-8 characters. Return non-zero to stop after it. */
typedef int (*eid_text_callback)(const char* text, size_t length, void* user);

/* How an answer is chosen.
 *
 * Owner    the caller's, with what it points to: read during the call only.
 */
typedef struct eid_generate_options {
  size_t struct_size;        /* of this struct, in bytes */
  int max_tokens;            /* 0: 256 */
  float temperature;         /* 0: greedy */
  int top_k;                 /* 0: off */
  float top_p;               /* 0: off */
  float min_p;               /* 0: off */
  float repetition_penalty;  /* 0: off (1.0) */
  uint64_t seed;             /* used when the session has drawn nothing yet */
  const char* stop;          /* text that ends the answer; NULL: none */
  int memory_off;            /* non-zero: no span for this answer */
  int assistant_turn;        /* non-zero: open the assistant's turn by the chat template first */
  eid_text_callback on_text; /* gets the answer piece by piece; or NULL */
  void* user;                /* handed to `on_text` */
} eid_generate_options;

/* Why an answer ended. */
typedef enum eid_stop_reason {
  EID_STOP_END = 0,   /* the model's end token */
  EID_STOP_LIMIT = 1, /* max_tokens */
  EID_STOP_TEXT = 2,  /* the stop text */
  EID_STOP_CALLER = 3 /* the callback */
} eid_stop_reason;

/* What an answer took.
 *
 * Owner    the caller's: filled by the call.
 */
typedef struct eid_generate_result {
  size_t struct_size;         /* of this struct, in bytes */
  eid_stop_reason reason;     /* why it ended */
  size_t tokens;              /* generated */
  double seconds;             /* that the call took */
  double first_token_seconds; /* until the first token was chosen */
} eid_generate_result;

/* Generates and appends an answer. `text` may be NULL; otherwise the whole answer.
 *
 * Takes    `session`; `options`, or NULL; `result`, or NULL; `text`, or NULL.
 * Errors   EID_INVALID_ARGUMENT also when the session has read nothing; EID_CORRUPTION when memory
 *          that was recalled is damaged. After an error in the middle of a forward pass the session
 *          reads and answers no more: free it, and open it again when it is kept.
 * Owner    `text` is the caller's: eid_string_free.
 * Threads  the one that the session belongs to.
 */
EID_API eid_status eid_session_generate(eid_session* session, const eid_generate_options* options,
                                        eid_generate_result* result, eid_string** text,
                                        eid_error* error);

/* The passages that were in the span during the last answer (rule 5), or, while there is none to
 * what was appended since with `use_span`, during that: those that words pinned by word_score,
 * then the others by focus. `limit` 0: all of them.
 *
 * Takes    `session`; `limit`, passages.
 * Errors   none of its own; where nothing was recalled there are no passages.
 * Owner    `passages` are the caller's: eid_passages_free.
 * Threads  the one that the session belongs to.
 */
EID_API eid_status eid_session_sources(const eid_session* session, size_t limit,
                                       eid_passages** passages, eid_error* error);

/* The logits after the last token read: fp32, one per vocabulary entry. Writes at most
 * `capacity`.
 *
 * Takes    `session`; `logits`, room for `capacity` numbers, which may be NULL when that is 0;
 *          `count`, required, is set to the number there are.
 * Errors   EID_INVALID_ARGUMENT also when the session has read nothing.
 * Owner    all memory is the caller's.
 * Threads  the one that the session belongs to.
 */
EID_API eid_status eid_session_logits(const eid_session* session, float* logits, size_t capacity,
                                      size_t* count, eid_error* error);

/* Position, memory held, options, hits and times per stage as JSON.
 *
 * Takes    `session`.
 * Errors   none of its own.
 * Owner    `json` is the caller's: eid_string_free.
 * Threads  the one that the session belongs to.
 */
EID_API eid_status eid_session_info(const eid_session* session, eid_string** json,
                                    eid_error* error);

/* A turn's name.
 *
 * Owner    the caller's, with what it points to: read during the call only.
 */
typedef struct eid_commit_options {
  size_t struct_size; /* of this struct, in bytes */
  const char* name;   /* of the turn; NULL: none. A named turn keeps its state for good */
} eid_commit_options;

/* What a turn is.
 *
 * Owner    the caller's: filled by the call.
 */
typedef struct eid_commit_result {
  size_t struct_size; /* of this struct, in bytes */
  uint64_t turn;      /* its number in the session, from 1 */
  uint64_t tokens;    /* read in this turn */
  uint64_t bytes;     /* written for it; 0: there was nothing new, and the last turn stands */
  double seconds;     /* that the call took */
} eid_commit_result;

/* Everything since the last turn becomes a turn, in one atomic batch with what the session needs to
 * go on: window, recurrent state, sampler state and new blocks. When this returns EID_OK a kill or
 * a power cut can no longer lose it. `options` and `result` may be NULL.
 *
 * Takes    `session`; `options`, or NULL; `result`, or NULL.
 * Errors   EID_INVALID_ARGUMENT also for a session in RAM or of an archive that was opened
 *          read-only; EID_NO_SPACE and EID_IO_ERROR: nothing of the turn is kept.
 * Owner    all memory is the caller's.
 * Threads  the one that the session belongs to.
 */
EID_API eid_status eid_session_commit(eid_session* session, const eid_commit_options* options,
                                      eid_commit_result* result, eid_error* error);

/* Commits a turn as eid_session_commit does, without a name and without a word of it.
 *
 * Takes    `session`.
 * Errors   as eid_session_commit.
 * Owner    nothing is given.
 * Threads  the one that the session belongs to.
 */
EID_API eid_status eid_session_save(eid_session* session, eid_error* error);

/* ------------------------------------------------------------------------------------------------
 * Kept sessions. A fork and a rewind copy nothing. To reach a turn that has no state of its own any
 * more (the last 8, named ones, and those at which a session was left or ends have one), opening
 * reads the turns again that come after the nearest one before it, to the same bits. When these
 * recalled from documents that were removed since, forking there and rewinding are EID_NOT_FOUND;
 * opening is EID_UNSUPPORTED when they went later.
 * None of these loads a model. A session that is open in this process is EID_LOCKED to those that
 * would change it.
 */

/* Kept sessions as JSON, each with `name`, `created`, `changed`, `forked_from`, `turns`, `tokens`.
 * `name` NULL: all of them, in `sessions`, each also with `waiting`, the turns behind these that
 * are read again when it is opened. Otherwise one, with its turns in `turn_list`.
 *
 * Takes    `archive`; `name`, or NULL.
 * Errors   EID_NOT_FOUND when there is no such session.
 * Owner    `json` is the caller's: eid_string_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_archive_sessions(const eid_archive* archive, const char* name,
                                        eid_string** json, eid_error* error);

/* A new session `new_name` that has read what session `name` had after `turn`; 0 is its last one.
 *
 * Takes    `archive`, opened to write; `name`; `turn`; `new_name`.
 * Errors   EID_NOT_FOUND when there is no such session or turn, or it can no longer be reached;
 *          EID_ALREADY_EXISTS; EID_LOCKED when a session named `new_name` is open in this
 *          process.
 * Owner    nothing is given.
 * Threads  any, at once.
 */
EID_API eid_status eid_archive_fork_session(eid_archive* archive, const char* name, uint64_t turn,
                                            const char* new_name, eid_error* error);

/* Takes a session back to the end of `turn`. What came later is gone for good, but for what other
 * sessions see of it.
 *
 * Takes    `archive`, opened to write; `name`; `turn`, 1 or more.
 * Errors   EID_NOT_FOUND when there is no such session or turn, or it can no longer be reached;
 *          EID_LOCKED.
 * Owner    nothing is given.
 * Threads  any, at once.
 */
EID_API eid_status eid_archive_rewind_session(eid_archive* archive, const char* name, uint64_t turn,
                                              eid_error* error);

/* Removes a session, and of its content all that no other session sees.
 *
 * Takes    `archive`, opened to write; `name`.
 * Errors   EID_NOT_FOUND; EID_LOCKED.
 * Owner    nothing is given.
 * Threads  any, at once.
 */
EID_API eid_status eid_archive_delete_session(eid_archive* archive, const char* name,
                                              eid_error* error);

/* The form of an export. */
typedef enum eid_export_format {
  EID_EXPORT_TEXT = 0, /* what was read and answered; messages begin with their role */
  EID_EXPORT_JSON = 1  /* as eid_archive_sessions has it; turns with `parts` and `tokens` */
} eid_export_format;

/* All that a session read and answered.
 *
 * Takes    `archive`; `name`; `format`.
 * Errors   EID_NOT_FOUND; EID_UNSUPPORTED for a session that was saved before there were turns.
 * Owner    `out` is the caller's: eid_string_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_archive_export_session(const eid_archive* archive, const char* name,
                                              eid_export_format format, eid_string** out,
                                              eid_error* error);

/* ------------------------------------------------------------------------------------------------
 * Forgetting: for good, in the database, the indexes, the files and every fork.
 */

/* What to forget. Fields go together as docs/cli.md has it for `memory forget`.
 *
 * Owner    the caller's, with what it points to: read during the call only.
 */
typedef struct eid_forget_options {
  size_t struct_size;     /* of this struct, in bytes */
  const char* collection; /* with nothing else of documents: all of it, and its name */
  const char* source;     /* one document of the collection, with all its versions */
  uint64_t byte_begin;    /* of the document's original: every block with text of this range */
  uint64_t byte_end;      /* behind the last byte; both 0: all of the document */
  const char* session;    /* all that the session says, also where other sessions share it */
  uint64_t turn;          /* one turn of the session; 0: all */
  int64_t before;         /* ms since 1970, UTC: documents ingested and turns read before that time,
                             in the collection or session named, or everywhere; 0: of any age */
  int dry_run;            /* not 0: tells what would go; the archive may be read-only */
  int verify_files;       /* not 0: rewrites all tables, then looks through all files for it */
  const char* const* sources; /* instead of `source`: several documents, all of them or none */
  size_t source_count;        /* how many `sources` there are */
} eid_forget_options;

/* Forgets, without a model. One atomic, durable step; then the files are rid of the bytes, which
 * the next opening does when this process is killed before. A session that loses a turn goes back
 * to the one before it, and reads later turns again when it is opened next. `json` is the receipt
 * (docs/reports.md). EID_NOT_FOUND when there is no such thing, EID_LOCKED while a session that
 * would lose something is open in this process or a document is being ingested; then nothing is
 * changed. When `verify_files` finds something, EID_CORRUPTION with the receipt set.
 *
 * Takes    `archive`, opened to write or, for a dry run, read-only; `options`, required.
 * Errors   as said; EID_INVALID_ARGUMENT also for fields that do not go together.
 * Owner    `json` is the caller's: eid_string_free.
 * Threads  any, at once.
 */
EID_API eid_status eid_archive_forget(eid_archive* archive, const eid_forget_options* options,
                                      eid_string** json, eid_error* error);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* EIDETIC_EIDETIC_H_ */
