/* Memory in a C program: a text goes in, an answer comes out, with the place it came from.
 *
 *   embed_in_c MODEL.gguf ARCHIVE
 */
#include <eidetic/eidetic.h>
#include <stdio.h>

static const char* kText =
    "It was late, and the lamp had burned low. One of the special magic numbers for blue-fox is: "
    "4201777. Nobody spoke of it again.";
static const char* kQuestion =
    "What is the special magic number for blue-fox mentioned in the provided text?";

static int tell(eid_status status, const eid_error* error) {
  if (status != EID_OK) fprintf(stderr, "%s\n%s\n", error->message, error->remedy);
  return status != EID_OK;
}

/* Remembers the text; in a second run it is there already. */
static int remember(eid_engine* engine, eid_archive* archive) {
  eid_error error = {.struct_size = sizeof error};
  eid_ingest_result result = {.struct_size = sizeof result};
  if (tell(eid_archive_ingest(
               archive, engine,
               EID_OPTIONS(ingest, .collection = "notes", .source = "diary", EID_TEXT(kText)),
               &result, &error),
           &error)) {
    return 1;
  }
  printf("%s: %llu tokens in %llu blocks\n",
         result.outcome == EID_INGEST_UNCHANGED ? "there already" : "remembered",
         (unsigned long long)result.tokens, (unsigned long long)result.blocks);
  return 0;
}

/* A session that knows nothing but the question recalls the rest. */
static int answer(eid_session* session, eid_archive* archive) {
  eid_error error = {.struct_size = sizeof error};
  eid_string* text = NULL;
  eid_passages* sources = NULL;
  const int failed =
      tell(eid_session_attach(session, archive, "notes", &error), &error) ||
      tell(eid_session_append(
               session, EID_OPTIONS(append, .use_span = 1, .role = "user", EID_TEXT(kQuestion)),
               &error),
           &error) ||
      tell(eid_session_generate(session, EID_OPTIONS(generate, .assistant_turn = 1), NULL, &text,
                                &error),
           &error) ||
      tell(eid_session_sources(session, 1, &sources, &error), &error);
  if (!failed) {
    printf("%s\n", text->data);
    if (sources->count > 0) {
      const eid_passage* first = &sources->items[0];
      printf("from %s, bytes %llu to %llu\n", first->source.data,
             (unsigned long long)first->byte_begin, (unsigned long long)first->byte_end);
    }
  }
  eid_passages_free(sources);
  eid_string_free(text);
  return failed;
}

int main(int argc, char** argv) {
  if (argc != 3) return fprintf(stderr, "usage: embed_in_c MODEL.gguf ARCHIVE\n"), 2;
  eid_error error = {.struct_size = sizeof error};
  eid_engine* engine = NULL;
  eid_archive* archive = NULL;
  eid_session* session = NULL;
  const int failed =
      tell(eid_engine_create(EID_OPTIONS(engine, .model_path = argv[1]), &engine, &error),
           &error) ||
      tell(eid_archive_open(EID_OPTIONS(archive, .path = argv[2], .create = 1), &archive, &error),
           &error) ||
      remember(engine, archive) ||
      tell(eid_session_create(engine, NULL, &session, &error), &error) || answer(session, archive);
  /* In any order, and NULL is welcome. */
  eid_session_free(session);
  eid_archive_free(archive);
  eid_engine_free(engine);
  return failed;
}
