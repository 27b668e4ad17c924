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
  EXPECT(eid_engine_info(NULL, &text, &error) == EID_INVALID_ARGUMENT && text == NULL);
  EXPECT(eid_session_append(NULL, NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_session_generate(NULL, NULL, NULL, NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_session_sources(NULL, 0, NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_session_save(NULL, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_archive_list(NULL, NULL, &text, &error) == EID_INVALID_ARGUMENT);
  EXPECT(eid_archive_verify(NULL, NULL, NULL, &text, &error) == EID_INVALID_ARGUMENT);
}

static void a_struct_without_its_size_is_an_error(const char* model) {
  eid_error error = {.struct_size = sizeof error};
  eid_engine* engine = NULL;
  const eid_engine_options unsized = {.model_path = model};
  EXPECT(eid_engine_create(&unsized, &engine, &error) == EID_INVALID_ARGUMENT && engine == NULL);
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

int main(int count, char** arguments) {
  if (count != 3) {
    fprintf(stderr, "usage: %s MODEL FOLDER\n", arguments[0]);
    return 2;
  }
  freeing_nothing_is_allowed();
  statuses_have_names();
  missing_arguments_are_errors();
  a_struct_without_its_size_is_an_error(arguments[1]);

  eid_error error = {.struct_size = sizeof error};
  eid_engine* engine = NULL;
  const eid_engine_options options = {.struct_size = sizeof options, .model_path = arguments[1]};
  if (eid_engine_create(&options, &engine, &error) != EID_OK) {
    fprintf(stderr, "%s\n", error.message);
    return 1;
  }
  a_session_reads_and_answers(engine);
  a_short_buffer_still_counts_tokens(engine);
  a_read_only_archive_refuses_writes(engine, arguments[2]);
  eid_engine_free(engine);
  if (failures == 0) puts("the C interface behaves");
  return failures != 0;
}
