/* The C interface from C11: what a caller may get wrong, and what must then happen (rule 10).
 * The first argument is a model, the second a folder to write in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "eidetic/eidetic.h"

static int failures = 0;

#define EXPECT(condition)                                             \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      ++failures;                                                     \
    }                                                                 \
  } while (0)

static void freeing_nothing_is_allowed(void) {
  eid_string_free(NULL);
  eid_passages_free(NULL);
  eid_engine_free(NULL);
  eid_archive_free(NULL);
  eid_session_free(NULL);
}

static void statuses_have_names(void) {
  for (int status = EID_OK; status <= EID_INTERNAL; ++status) {
    const char* name = eid_status_name((eid_status)status);
    EXPECT(name != NULL && name[0] != '\0');
  }
  EXPECT(eid_status_name((eid_status)999) != NULL);
  EXPECT(strcmp(eid_version(), "0.1.0") == 0);
}

static void missing_arguments_are_errors(void) {
  eid_error error = {.struct_size = sizeof error};
  eid_engine* engine = (eid_engine*)&error;
  eid_archive* archive = (eid_archive*)&error;
  eid_session* session = (eid_session*)&error;
  eid_string* text = (eid_string*)&error;
  const eid_engine_options no_model = {.struct_size = sizeof no_model};
  const eid_archive_options no_path = {.struct_size = sizeof no_path};

  EXPECT(eid_engine_create(NULL, &engine, &error) == EID_INVALID_ARGUMENT);
  EXPECT(engine == NULL && error.status == EID_INVALID_ARGUMENT && error.message[0] != '\0');
  EXPECT(eid_engine_create(&no_model, &engine, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_engine_create(&no_model, NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_archive_open(&no_path, &archive, &error) == EID_INVALID_ARGUMENT && archive == NULL);
  EXPECT(eid_archive_open(NULL, &archive, NULL) == EID_INVALID_ARGUMENT);
  EXPECT(eid_session_create(NULL, NULL, &session, &error) == EID_INVALID_ARGUMENT);
  EXPECT(session == NULL);
  EXPECT(eid_model_info(NULL, &text, &error) == EID_INVALID_ARGUMENT && text == NULL);
  EXPECT(eid_adapter_info(NULL, &text, &error) == EID_INVALID_ARGUMENT && text == NULL);
  EXPECT(eid_adapter_info("no/such/folder", &text, &error) == EID_NOT_FOUND && text == NULL);
  EXPECT(eid_adapter_merge("a", "b", "c", "q4_0", NULL, NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_adapter_merge("no", "such", NULL, NULL, NULL, NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_engine_info(NULL, &text, &error) == EID_INVALID_ARGUMENT && text == NULL);
  EXPECT(eid_session_append(NULL, NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_session_generate(NULL, NULL, NULL, NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_session_sources(NULL, 0, NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_session_save(NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_archive_list(NULL, NULL, &text, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_archive_verify(NULL, NULL, NULL, &text, &error) == EID_INVALID_ARGUMENT);
}

static void training_checks_its_options(void) {
  eid_error error = {.struct_size = sizeof error};
  eid_string* json = NULL;
  const char* const files[] = {"no-such.txt"};
  eid_tune_options options = {.struct_size = sizeof options,
                              .model_path = "no-such.gguf",
                              .folder = "no-such-run",
                              .inputs = files,
                              .input_count = 1};
  EXPECT(eid_tune(NULL, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_tune(&options, NULL, NULL, NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_NOT_FOUND);
  EXPECT(strstr(error.message, "no-such.gguf") != NULL);
  EXPECT(json == NULL);
  options.dry_run = 1;
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_NOT_FOUND);
  options.kind = "lura";
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  EXPECT(strstr(error.message, "kind is 'lura'") != NULL);
  options.kind = NULL;
  options.attention = "sideways";
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  options.attention = "full";
  options.block_tokens = 16;
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  EXPECT(strstr(error.message, "block_tokens is given, and the attention full does not") != NULL);
  options.block_tokens = 0;
  options.attention = NULL;
  options.length = -1;
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  options.length = 0;
  options.text_share = 0.5;
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  EXPECT(strstr(error.message, "of a teacher") != NULL);
  options.text_share = 0;
  eid_module_number ranks[] = {{"q_proj", 2.5}, {"q_proj", 3}};
  options.rank_for = ranks;
  options.rank_for_count = 2;
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  EXPECT(strstr(error.message, "rank_for of 'q_proj' is 2.5") != NULL);
  ranks[0].number = 2;
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  EXPECT(strstr(error.message, "'q_proj' twice") != NULL);
  options.kind = "mixers";
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  EXPECT(strstr(error.message, "rank_for is given for low-rank matrices") != NULL);
  options.kind = NULL;
  options.rank_for = NULL;
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  options.rank_for_count = 0;
  const char* const targets[] = {"q_proj"};
  options.targets = targets;
  options.target_count = 1;
  options.target_pattern = ".*";
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  EXPECT(strstr(error.message, "both given") != NULL);
  options.target_count = 0;
  options.adapter_path = "no-such-adapter";
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  EXPECT(strstr(error.message, "of its own") != NULL);
  options.target_pattern = NULL;
  options.rank = 4;
  options.adapter_path = "no-such-adapter";
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  options.inputs = NULL;
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
  options.struct_size = 8;
  EXPECT(eid_tune(&options, NULL, NULL, &json, &error) == EID_INVALID_ARGUMENT);
}

/* Sizes that no version of the header gave a struct. */
static size_t wrong_size(int which, size_t right) {
  const size_t wrong[] = {0, 1, sizeof(size_t), right - 1, right + 1, right + 8, (size_t)-1};
  return which < 7 ? wrong[which] : right;
}

static void expect_refused_size(eid_status status, const eid_error* error, const char* name) {
  EXPECT(status == EID_INVALID_ARGUMENT);
  EXPECT(error->status == EID_INVALID_ARGUMENT);
  EXPECT(strstr(error->message, name) != NULL && strstr(error->message, "struct_size") != NULL);
  EXPECT(strstr(error->remedy, "sizeof") != NULL);
}

static void options_of_a_wrong_size_are_refused(const char* model, const char* folder,
                                                eid_engine* engine) {
  char path[4096];
  snprintf(path, sizeof path, "%s/archive", folder);
  eid_error error = {.struct_size = sizeof error};
  eid_engine* other = (eid_engine*)&error;
  eid_archive *archive = NULL, *none = (eid_archive*)&error;
  eid_session *session = NULL, *nothing = (eid_session*)&error;
  eid_passages* passages = (eid_passages*)&error;
  eid_string* text = (eid_string*)&error;
  eid_engine_options load = {.struct_size = sizeof load, .model_path = model};
  eid_archive_options place = {.struct_size = sizeof place, .path = path, .create = 1};
  eid_session_options fresh = {.struct_size = sizeof fresh};
  eid_append_options append = {.struct_size = sizeof append, .text = "A text.", .text_length = 7};
  eid_generate_options greedy = {.struct_size = sizeof greedy, .max_tokens = 1};
  eid_ingest_options ingest = {.struct_size = sizeof ingest,
                               .collection = "sizes",
                               .source = "size",
                               .text = "A text.",
                               .text_length = 7};
  eid_search_options search = {
      .struct_size = sizeof search, .collection = "sizes", .query = "text", .query_length = 4};
  EXPECT(eid_archive_open(&place, &archive, &error) == EID_OK);
  EXPECT(eid_session_create(engine, &fresh, &session, &error) == EID_OK);
  for (int i = 0; i < 7; ++i) {
    load.struct_size = wrong_size(i, sizeof load);
    expect_refused_size(eid_engine_create(&load, &other, &error), &error, "eid_engine_options");
    place.struct_size = wrong_size(i, sizeof place);
    expect_refused_size(eid_archive_open(&place, &none, &error), &error, "eid_archive_options");
    fresh.struct_size = wrong_size(i, sizeof fresh);
    expect_refused_size(eid_session_create(engine, &fresh, &nothing, &error), &error,
                        "eid_session_options");
    append.struct_size = wrong_size(i, sizeof append);
    expect_refused_size(eid_session_append(session, &append, &error), &error, "eid_append_options");
    greedy.struct_size = wrong_size(i, sizeof greedy);
    expect_refused_size(eid_session_generate(session, &greedy, NULL, &text, &error), &error,
                        "eid_generate_options");
    ingest.struct_size = wrong_size(i, sizeof ingest);
    expect_refused_size(eid_archive_ingest(archive, engine, &ingest, NULL, &error), &error,
                        "eid_ingest_options");
    search.struct_size = wrong_size(i, sizeof search);
    expect_refused_size(eid_archive_search(archive, engine, &search, &passages, &error), &error,
                        "eid_search_options");
  }
  EXPECT(other == NULL && none == NULL && nothing == NULL && passages == NULL && text == NULL);
  eid_session_free(session);
  eid_archive_free(archive);
}

/* A call that could not tell its result, or its error, does nothing. */
static void results_of_a_wrong_size_are_refused(const char* folder, eid_engine* engine) {
  char path[4096];
  snprintf(path, sizeof path, "%s/archive", folder);
  eid_error error = {.struct_size = sizeof error};
  eid_archive* archive = NULL;
  eid_session* session = NULL;
  const eid_archive_options place = {.struct_size = sizeof place, .path = path, .create = 1};
  const eid_session_options fresh = {.struct_size = sizeof fresh};
  const eid_append_options append = {
      .struct_size = sizeof append, .text = "A text.", .text_length = 7};
  const eid_generate_options greedy = {.struct_size = sizeof greedy, .max_tokens = 1};
  const eid_ingest_options ingest = {.struct_size = sizeof ingest,
                                     .collection = "never",
                                     .source = "size",
                                     .text = "A text.",
                                     .text_length = 7};
  EXPECT(eid_archive_open(&place, &archive, &error) == EID_OK);
  EXPECT(eid_session_create(engine, &fresh, &session, &error) == EID_OK);
  EXPECT(eid_session_append(session, &append, &error) == EID_OK);
  eid_string *before = NULL, *after = NULL, *list = NULL;
  EXPECT(eid_session_info(session, &before, &error) == EID_OK);
  for (int i = 0; i < 7; ++i) {
    eid_generate_result answer;
    eid_ingest_result read;
    memset(&answer, 0x5a, sizeof answer);
    memset(&read, 0x5a, sizeof read);
    answer.struct_size = wrong_size(i, sizeof answer);
    read.struct_size = wrong_size(i, sizeof read);
    expect_refused_size(eid_session_generate(session, &greedy, &answer, NULL, &error), &error,
                        "eid_generate_result");
    expect_refused_size(eid_archive_ingest(archive, engine, &ingest, &read, &error), &error,
                        "eid_ingest_result");
    EXPECT(answer.tokens == (size_t)0x5a5a5a5a5a5a5a5a && read.blocks == 0x5a5a5a5a5a5a5a5a);

    eid_error unsized;
    memset(&unsized, 0, sizeof unsized);
    unsized.struct_size = wrong_size(i, sizeof unsized);
    list = (eid_string*)&error;
    EXPECT(eid_archive_list(archive, NULL, &list, &unsized) == EID_INVALID_ARGUMENT);
    EXPECT(list == NULL);
    const int may_be_written = unsized.struct_size == 0 || unsized.struct_size >= sizeof unsized;
    EXPECT((strstr(unsized.message, "eid_error") != NULL) == may_be_written);
  }
  /* Nothing was ingested, nothing was generated. */
  EXPECT(eid_session_info(session, &after, &error) == EID_OK);
  EXPECT(strcmp(before->data, after->data) == 0);
  EXPECT(eid_archive_list(archive, "never", &list, &error) == EID_NOT_FOUND);
  eid_string_free(before);
  eid_string_free(after);
  eid_session_free(session);
  eid_archive_free(archive);
}

static void a_session_reads_and_answers(eid_engine* engine) {
  eid_error error = {.struct_size = sizeof error};
  eid_session* session = NULL;
  eid_string* answer = NULL;
  EXPECT(eid_session_create(engine, NULL, &session, &error) == EID_OK); /* all defaults */

  EXPECT(eid_session_append(session, NULL, &error) == EID_INVALID_ARGUMENT);
  const eid_append_options nothing = {.struct_size = sizeof nothing, .text = ""};
  EXPECT(eid_session_append(session, &nothing, &error) == EID_INVALID_ARGUMENT);
  EXPECT(error.message[0] != '\0');
  const int32_t wild[] = {-1, 1 << 30};
  const eid_append_options outside = {
      .struct_size = sizeof outside, .tokens = wild, .token_count = 2};
  EXPECT(eid_session_append(session, &outside, &error) == EID_INVALID_ARGUMENT);
  const eid_generate_options greedy = {.struct_size = sizeof greedy, .max_tokens = 4};
  EXPECT(eid_session_generate(session, &greedy, NULL, &answer, &error) == EID_INVALID_ARGUMENT);
  EXPECT(answer == NULL);

  const eid_append_options* text = EID_OPTIONS(append, EID_TEXT("Once upon a time there was a"));
  EXPECT(text->struct_size == sizeof *text);
  EXPECT(eid_session_append(session, text, &error) == EID_OK);
  EXPECT(error.status == EID_OK && error.message[0] == '\0'); /* cleared on success */
  eid_generate_result result = {.struct_size = sizeof result};
  EXPECT(eid_session_generate(session, &greedy, &result, &answer, &error) == EID_OK);
  EXPECT(answer != NULL && strlen(answer->data) == answer->length && result.tokens == 4);
  eid_string_free(answer);

  size_t count = 0;
  EXPECT(eid_session_logits(session, NULL, 0, &count, &error) == EID_OK && count > 1000);
  eid_session_free(session);
}

static void a_short_buffer_still_counts_tokens(eid_engine* engine) {
  eid_error error = {.struct_size = sizeof error};
  int32_t tokens[2] = {-1, -1};
  size_t all = 0, count = 0;
  const char* text = "A scandal in Bohemia.";
  EXPECT(eid_engine_tokenize(engine, text, EID_NUL_TERMINATED, 0, NULL, 0, &all, &error) == EID_OK);
  EXPECT(all > 2);
  EXPECT(eid_engine_tokenize(engine, text, strlen(text), 0, tokens, 1, &count, &error) == EID_OK);
  EXPECT(count == all && tokens[0] >= 0 && tokens[1] == -1);
}

static void a_read_only_archive_refuses_writes(eid_engine* engine, const char* folder) {
  eid_error error = {.struct_size = sizeof error};
  char path[4096];
  snprintf(path, sizeof path, "%s/archive", folder);
  eid_archive *writer = NULL, *reader = NULL;
  const eid_archive_options create = {.struct_size = sizeof create, .path = path, .create = 1};
  const eid_archive_options read = {.struct_size = sizeof read, .path = path, .read_only = 1};
  EXPECT(eid_archive_open(&create, &writer, &error) == EID_OK);
  eid_archive_free(writer);
  EXPECT(eid_archive_open(&read, &reader, &error) == EID_OK);
  const eid_ingest_options ingest = {.struct_size = sizeof ingest,
                                     .collection = "stories",
                                     .source = "story",
                                     .text = "A story.",
                                     .text_length = EID_NUL_TERMINATED};
  eid_ingest_result result = {.struct_size = sizeof result};
  EXPECT(eid_archive_ingest(reader, engine, &ingest, &result, &error) != EID_OK);
  EXPECT(error.remedy[0] != '\0');
  eid_archive_free(reader);
}

/* Zero is the collection's own setting; a negative number of sinks is none. */
static void settings_left_open_are_the_collections_own(eid_engine* engine, const char* folder) {
  eid_error error = {.struct_size = sizeof error};
  char path[4096];
  snprintf(path, sizeof path, "%s/settings", folder);
  eid_archive* archive = NULL;
  const eid_archive_options create = {.struct_size = sizeof create, .path = path, .create = 1};
  EXPECT(eid_archive_open(&create, &archive, &error) == EID_OK);
  eid_ingest_options ingest = {.struct_size = sizeof ingest,
                               .collection = "stories",
                               .source = "first",
                               .text = "A story.",
                               .text_length = EID_NUL_TERMINATED,
                               .codec = "fp16",
                               .window = 96,
                               .sinks = -1,
                               .segment = 64};
  EXPECT(eid_archive_ingest(archive, engine, &ingest, NULL, &error) == EID_OK);
  ingest.source = "second";
  ingest.codec = NULL;
  ingest.window = ingest.sinks = ingest.segment = 0;
  EXPECT(eid_archive_ingest(archive, engine, &ingest, NULL, &error) == EID_OK);
  eid_string* list = NULL;
  EXPECT(eid_archive_list(archive, "stories", &list, &error) == EID_OK);
  EXPECT(list != NULL && strstr(list->data, "\"sinks\":0") != NULL);
  EXPECT(list != NULL && strstr(list->data, "\"window\":96") != NULL);
  eid_string_free(list);
  ingest.window = 128;
  EXPECT(eid_archive_ingest(archive, engine, &ingest, NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(strstr(error.message, "96") != NULL && strstr(error.message, "128") != NULL);
  eid_archive_free(archive);
}

/* What a callback knows, and what it tried. */
typedef struct reentry {
  eid_engine* engine;
  eid_archive* archive;
  eid_session* session;
  int calls;
} reentry;

static void expect_refused_reentry(eid_status status, const eid_error* error, const char* why) {
  EXPECT(status == EID_INVALID_ARGUMENT);
  EXPECT(strstr(error->message, why) != NULL && error->remedy[0] != '\0');
}

static void call_the_session(eid_session* session) {
  eid_error error = {.struct_size = sizeof error};
  eid_string* text = (eid_string*)&error;
  eid_passages* passages = (eid_passages*)&error;
  size_t count = 1;
  const eid_append_options append = {
      .struct_size = sizeof append, .text = "More text.", .text_length = EID_NUL_TERMINATED};
  const eid_generate_options greedy = {.struct_size = sizeof greedy, .max_tokens = 2};
  const char* why = "its own callback";
  expect_refused_reentry(eid_session_append(session, &append, &error), &error, why);
  expect_refused_reentry(eid_session_generate(session, &greedy, NULL, &text, &error), &error, why);
  EXPECT(text == NULL);
  expect_refused_reentry(eid_session_save(session, &error), &error, why);
  expect_refused_reentry(eid_session_info(session, &text, &error), &error, why);
  expect_refused_reentry(eid_session_sources(session, 0, &passages, &error), &error, why);
  EXPECT(passages == NULL);
  expect_refused_reentry(eid_session_logits(session, NULL, 0, &count, &error), &error, why);
  EXPECT(count == 0);
}

static int text_that_calls_back(const char* text, size_t length, void* user) {
  reentry* known = user;
  (void)text, (void)length;
  ++known->calls;
  call_the_session(known->session);
  return 0;
}

static int progress_that_calls_back(const eid_progress* progress, void* user) {
  reentry* known = user;
  (void)progress;
  ++known->calls;
  call_the_session(known->session);
  return 0;
}

static int text_that_frees(const char* text, size_t length, void* user) {
  reentry* known = user;
  (void)text, (void)length;
  if (known->calls++ == 1) eid_session_free(known->session);
  return 0;
}

static int progress_that_frees(const eid_progress* progress, void* user) {
  reentry* known = user;
  (void)progress;
  if (known->calls++ == 0) {
    eid_session_free(known->session);
    eid_archive_free(known->archive);
    eid_engine_free(known->engine);
  }
  return 0;
}

static eid_string* answer_of(eid_session* session, eid_text_callback on_text, void* user,
                             eid_status expected, eid_error* error) {
  const eid_append_options prompt = {.struct_size = sizeof prompt,
                                     .text = "Once upon a time there was a",
                                     .text_length = EID_NUL_TERMINATED};
  const eid_generate_options greedy = {
      .struct_size = sizeof greedy, .max_tokens = 6, .on_text = on_text, .user = user};
  eid_string* answer = NULL;
  EXPECT(eid_session_append(session, &prompt, error) == EID_OK);
  EXPECT(eid_session_generate(session, &greedy, NULL, &answer, error) == expected);
  return answer;
}

static void a_session_cannot_be_called_from_its_callbacks(eid_engine* engine) {
  eid_error error = {.struct_size = sizeof error};
  const eid_session_options fresh = {.struct_size = sizeof fresh};
  reentry known = {.engine = engine};
  eid_session* plain = NULL;
  EXPECT(eid_session_create(engine, &fresh, &plain, &error) == EID_OK);
  EXPECT(eid_session_create(engine, &fresh, &known.session, &error) == EID_OK);
  eid_string* expected = answer_of(plain, NULL, NULL, EID_OK, &error);
  eid_string* answer = answer_of(known.session, text_that_calls_back, &known, EID_OK, &error);
  EXPECT(known.calls > 1 && answer != NULL && strcmp(answer->data, expected->data) == 0);
  known.calls = 0;
  const eid_append_options append = {.struct_size = sizeof append,
                                     .text = "More text.",
                                     .text_length = EID_NUL_TERMINATED,
                                     .progress = progress_that_calls_back,
                                     .user = &known};
  EXPECT(eid_session_append(known.session, &append, &error) == EID_OK && known.calls == 1);
  eid_string_free(expected);
  eid_string_free(answer);
  eid_session_free(plain);
  eid_session_free(known.session);
}

static void a_session_freed_in_its_callback_stops(eid_engine* engine) {
  eid_error error = {.struct_size = sizeof error};
  const eid_session_options fresh = {.struct_size = sizeof fresh, .segment = 4};
  reentry known = {.engine = NULL};
  EXPECT(eid_session_create(engine, &fresh, &known.session, &error) == EID_OK);
  EXPECT(answer_of(known.session, text_that_frees, &known, EID_INVALID_ARGUMENT, &error) == NULL);
  EXPECT(known.calls == 2 && strstr(error.message, "freed") != NULL && error.remedy[0] != '\0');

  known.calls = 0;
  EXPECT(eid_session_create(engine, &fresh, &known.session, &error) == EID_OK);
  const eid_append_options append = {.struct_size = sizeof append,
                                     .text = "A text that takes more than one segment to read.",
                                     .text_length = EID_NUL_TERMINATED,
                                     .progress = progress_that_frees,
                                     .user = &known};
  EXPECT(eid_session_append(known.session, &append, &error) == EID_INVALID_ARGUMENT);
  EXPECT(known.calls == 1 && strstr(error.message, "freed") != NULL);
}

static eid_ingest_options small_ingest(const char* source) {
  eid_ingest_options ingest = {.struct_size = sizeof ingest,
                               .collection = "stories",
                               .source = source,
                               .text = "A story that is short.",
                               .text_length = EID_NUL_TERMINATED};
  return ingest;
}

static void handles_freed_in_a_callback_live_until_the_call_returns(const char* model,
                                                                    const char* folder) {
  eid_error error = {.struct_size = sizeof error};
  char path[4096];
  snprintf(path, sizeof path, "%s/callbacks", folder);
  reentry known = {.calls = 0};
  const eid_engine_options load = {.struct_size = sizeof load, .model_path = model};
  const eid_archive_options create = {.struct_size = sizeof create, .path = path, .create = 1};
  EXPECT(eid_engine_create(&load, &known.engine, &error) == EID_OK);
  EXPECT(eid_archive_open(&create, &known.archive, &error) == EID_OK);
  eid_ingest_options ingest = small_ingest("first");
  ingest.again = 1;
  ingest.progress = progress_that_frees;
  ingest.user = &known;
  eid_ingest_result result = {.struct_size = sizeof result};
  EXPECT(eid_archive_ingest(known.archive, known.engine, &ingest, &result, &error) == EID_OK);
  EXPECT(known.calls > 0 && result.blocks > 0);

  known = (reentry){.calls = 0};
  eid_string* report = NULL;
  EXPECT(eid_archive_open(&create, &known.archive, &error) == EID_OK);
  EXPECT(eid_archive_verify(known.archive, progress_that_frees, &known, &report, &error) == EID_OK);
  EXPECT(known.calls > 0 && report != NULL);
  eid_string_free(report);
}

static int verification_that_calls_back(const eid_progress* progress, void* user) {
  reentry* known = user;
  eid_error error = {.struct_size = sizeof error};
  eid_string* text = NULL;
  const eid_ingest_options ingest = small_ingest("from the callback");
  (void)progress;
  if (known->calls++ > 0) return 0;
  expect_refused_reentry(eid_archive_ingest(known->archive, known->engine, &ingest, NULL, &error),
                         &error, "being verified");
  expect_refused_reentry(eid_archive_verify(known->archive, NULL, NULL, &text, &error), &error,
                         "being verified");
  EXPECT(text == NULL);
  EXPECT(eid_archive_list(known->archive, NULL, &text, &error) == EID_OK && text != NULL);
  eid_string_free(text);
  return 0;
}

static void an_archive_is_not_written_in_the_progress_of_its_verification(eid_engine* engine,
                                                                          const char* folder) {
  eid_error error = {.struct_size = sizeof error};
  char path[4096];
  snprintf(path, sizeof path, "%s/callbacks", folder);
  reentry known = {.engine = engine};
  const eid_archive_options create = {.struct_size = sizeof create, .path = path, .create = 1};
  EXPECT(eid_archive_open(&create, &known.archive, &error) == EID_OK);
  eid_string* report = NULL;
  EXPECT(eid_archive_verify(known.archive, verification_that_calls_back, &known, &report, &error) ==
         EID_OK);
  EXPECT(known.calls > 0 && report != NULL);
  eid_string_free(report);
  const eid_ingest_options ingest = small_ingest("afterwards");
  EXPECT(eid_archive_ingest(known.archive, engine, &ingest, NULL, &error) == EID_OK);
  eid_archive_free(known.archive);
}

static void a_policy_is_checked_and_words_need_no_model(eid_engine* engine, const char* folder) {
  eid_error error = {.struct_size = sizeof error};
  eid_session* session = NULL;
  const eid_session_options unknown = {.struct_size = sizeof unknown,
                                       .policy = (eid_recall_policy)9};
  EXPECT(eid_session_create(engine, &unknown, &session, &error) == EID_INVALID_ARGUMENT);
  EXPECT(session == NULL && strstr(error.message, "policy") != NULL);

  char path[4096];
  snprintf(path, sizeof path, "%s/archive", folder);
  eid_archive* archive = NULL;
  const eid_archive_options read = {.struct_size = sizeof read, .path = path, .read_only = 1};
  EXPECT(eid_archive_open(&read, &archive, &error) == EID_OK);
  eid_search_options search = {.struct_size = sizeof search,
                               .collection = "stories",
                               .query = "a word",
                               .query_length = EID_NUL_TERMINATED,
                               .policy = EID_RECALL_WORDS};
  eid_passages* passages = NULL;
  /* No model is needed; the collection is. */
  EXPECT(eid_archive_search(archive, NULL, &search, &passages, &error) == EID_NOT_FOUND);
  search.policy = EID_RECALL_DEFAULT;
  EXPECT(eid_archive_search(archive, NULL, &search, &passages, &error) == EID_INVALID_ARGUMENT);
  EXPECT(passages == NULL && strstr(error.message, "engine") != NULL);
  eid_archive_free(archive);
}

/* Whether the receipt says `"key":number` somewhere. */
static int says(const eid_string* receipt, const char* key, unsigned long long number) {
  char wanted[64];
  const char* found = NULL;
  if (receipt == NULL) return 0;
  snprintf(wanted, sizeof wanted, "\"%s\":%llu", key, number);
  found = strstr(receipt->data, wanted);
  return found != NULL && strchr(",}", found[strlen(wanted)]) != NULL;
}

static void a_forgotten_document_is_told_and_gone(eid_engine* engine, const char* folder) {
  eid_error error = {.struct_size = sizeof error};
  char path[4096];
  snprintf(path, sizeof path, "%s/forgetting", folder);
  eid_archive* archive = NULL;
  const eid_archive_options create = {.struct_size = sizeof create, .path = path, .create = 1};
  EXPECT(eid_archive_open(&create, &archive, &error) == EID_OK);
  const eid_ingest_options ingest = small_ingest("secret"), other = small_ingest("other");
  eid_ingest_result result = {.struct_size = sizeof result};
  EXPECT(eid_archive_ingest(archive, engine, &other, NULL, &error) == EID_OK);
  EXPECT(eid_archive_ingest(archive, engine, &ingest, &result, &error) == EID_OK);

  eid_forget_options forget = {.struct_size = sizeof forget,
                               .collection = ingest.collection,
                               .source = ingest.source,
                               .dry_run = 1};
  eid_string* receipt = NULL;
  EXPECT(eid_archive_forget(archive, &forget, &receipt, &error) == EID_OK);
  EXPECT(receipt != NULL && strstr(receipt->data, "\"dry_run\":true") != NULL);
  EXPECT(says(receipt, "id", result.document) && says(receipt, "blocks", result.blocks));
  EXPECT(receipt != NULL && strstr(receipt->data, "\"files\"") == NULL);
  eid_string_free(receipt);

  /* The dry run told the truth and changed nothing. */
  forget.dry_run = 0;
  forget.verify_files = 1;
  EXPECT(eid_archive_forget(archive, &forget, &receipt, &error) == EID_OK);
  EXPECT(receipt != NULL && receipt->length == strlen(receipt->data));
  EXPECT(receipt != NULL && strstr(receipt->data, "\"source\":\"secret\"") != NULL);
  EXPECT(receipt != NULL && strstr(receipt->data, "\"whole\":true") != NULL);
  EXPECT(says(receipt, "id", result.document) && says(receipt, "blocks", result.blocks));
  EXPECT(says(receipt, "text_bytes", strlen(ingest.text)) && says(receipt, "turns", 0));
  EXPECT(receipt != NULL && strstr(receipt->data, "\"clean\":true") != NULL);
  eid_string_free(receipt);

  receipt = (eid_string*)&error;
  EXPECT(eid_archive_forget(archive, &forget, &receipt, &error) == EID_NOT_FOUND);
  EXPECT(receipt == NULL && strstr(error.message, "secret") != NULL);
  EXPECT(eid_archive_list(archive, NULL, &receipt, &error) == EID_OK);
  EXPECT(receipt != NULL && strstr(receipt->data, "\"other\"") != NULL);
  EXPECT(receipt != NULL && strstr(receipt->data, "secret") == NULL);
  eid_string_free(receipt);
  eid_archive_free(archive);
}

static void a_turn_is_forgotten_when_its_session_is_closed(eid_engine* engine, const char* folder) {
  eid_error error = {.struct_size = sizeof error};
  char path[4096];
  snprintf(path, sizeof path, "%s/forgetting", folder);
  eid_archive* archive = NULL;
  eid_session* session = NULL;
  eid_string* receipt = NULL;
  const eid_archive_options create = {.struct_size = sizeof create, .path = path, .create = 1};
  EXPECT(eid_archive_open(&create, &archive, &error) == EID_OK);
  (void)eid_archive_delete_session(archive, "talk", NULL); /* of an earlier run in this folder */
  const eid_session_options named = {
      .struct_size = sizeof named, .archive = archive, .name = "talk"};
  EXPECT(eid_session_create(engine, &named, &session, &error) == EID_OK);
  const char* said[] = {"First I say this.", "Then I say that."};
  for (int turn = 0; turn < 2; ++turn) {
    const eid_append_options append = {
        .struct_size = sizeof append, .text = said[turn], .text_length = EID_NUL_TERMINATED};
    EXPECT(eid_session_append(session, &append, &error) == EID_OK);
    EXPECT(eid_session_commit(session, NULL, NULL, &error) == EID_OK);
  }
  eid_forget_options forget = {
      .struct_size = sizeof forget, .session = "talk", .turn = 2, .verify_files = 1};
  EXPECT(eid_archive_forget(archive, &forget, &receipt, &error) == EID_LOCKED);
  EXPECT(receipt == NULL && strstr(error.message, "talk") != NULL && error.remedy[0] != '\0');
  eid_session_free(session);
  EXPECT(eid_archive_forget(archive, &forget, &receipt, &error) == EID_OK);
  EXPECT(says(receipt, "turns", 1) && says(receipt, "stands_at", 1) && says(receipt, "waiting", 0));
  EXPECT(says(receipt, "text_bytes", strlen(said[1])));
  EXPECT(receipt != NULL && strstr(receipt->data, "\"removed\":false") != NULL);
  EXPECT(receipt != NULL && strstr(receipt->data, "\"clean\":true") != NULL);
  eid_string_free(receipt);
  eid_archive_free(archive);
}

int main(int count, char** arguments) {
  if (count != 3) {
    fprintf(stderr, "usage: %s MODEL FOLDER\n", arguments[0]);
    return 2;
  }
  freeing_nothing_is_allowed();
  training_checks_its_options();
  statuses_have_names();
  missing_arguments_are_errors();

  eid_error error = {.struct_size = sizeof error};
  eid_engine* engine = NULL;
  const eid_engine_options options = {.struct_size = sizeof options, .model_path = arguments[1]};
  if (eid_engine_create(&options, &engine, &error) != EID_OK) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  options_of_a_wrong_size_are_refused(arguments[1], arguments[2], engine);
  results_of_a_wrong_size_are_refused(arguments[2], engine);
  a_session_reads_and_answers(engine);
  a_short_buffer_still_counts_tokens(engine);
  a_read_only_archive_refuses_writes(engine, arguments[2]);
  settings_left_open_are_the_collections_own(engine, arguments[2]);
  a_session_cannot_be_called_from_its_callbacks(engine);
  a_session_freed_in_its_callback_stops(engine);
  handles_freed_in_a_callback_live_until_the_call_returns(arguments[1], arguments[2]);
  an_archive_is_not_written_in_the_progress_of_its_verification(engine, arguments[2]);
  a_policy_is_checked_and_words_need_no_model(engine, arguments[2]);
  a_forgotten_document_is_told_and_gone(engine, arguments[2]);
  a_turn_is_forgotten_when_its_session_is_closed(engine, arguments[2]);
  eid_engine_free(engine);
  if (failures == 0) puts("the C interface behaves");
  return failures != 0;
}
