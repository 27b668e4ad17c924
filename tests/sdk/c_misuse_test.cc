// The C interface called in the wrong order, with wrong and with extreme values: an error that says
// what to do, or the right behaviour; never a crash (rule 10).
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "eidetic/eidetic.h"
#include "tests/model/model_files.h"

namespace {

template <typename Struct>
Struct Sized() {
  Struct value = {};
  value.struct_size = sizeof(Struct);
  return value;
}

class Misuse : public ::testing::Test {
 protected:
  // Loaded once for the program.
  static eid_engine* Engine() {
    static eid_engine* engine = [] {
      static const std::string path = eidetic::model::HybridModelPath();
      auto options = Sized<eid_engine_options>();
      options.model_path = path.c_str();
      eid_engine* made = nullptr;
      auto error = Sized<eid_error>();
      EXPECT_EQ(eid_engine_create(&options, &made, &error), EID_OK) << error.message;
      return made;
    }();
    return engine;
  }
  // An error with a message that holds `told`, and a remedy.
  void Refused(eid_status status, eid_status expected, const std::string& told) const {
    EXPECT_EQ(status, expected) << eid_status_name(status) << ": " << error_.message;
    EXPECT_NE(std::string(error_.message).find(told), std::string::npos) << error_.message;
    EXPECT_NE(std::string(error_.remedy), "") << error_.message;
  }
  void Ok(eid_status status) const {
    EXPECT_EQ(status, EID_OK) << error_.message << " (" << error_.remedy << ")";
  }

  eid_archive* OpenArchive(const std::string& path) {
    auto options = Sized<eid_archive_options>();
    options.path = path.c_str();
    options.create = 1;
    eid_archive* archive = nullptr;
    Ok(eid_archive_open(&options, &archive, &error_));
    return archive;
  }
  eid_session* NewSession(const eid_session_options& options) {
    eid_session* session = nullptr;
    Ok(eid_session_create(Engine(), &options, &session, &error_));
    return session;
  }
  eid_status Append(eid_session* session, const std::string& text) {
    auto options = Sized<eid_append_options>();
    options.text = text.c_str();
    options.text_length = text.size();
    options.use_span = 1;
    return eid_session_append(session, &options, &error_);
  }
  std::string Answer(eid_session* session, int tokens = 6) {
    auto options = Sized<eid_generate_options>();
    options.max_tokens = tokens;
    eid_string* text = nullptr;
    Ok(eid_session_generate(session, &options, nullptr, &text, &error_));
    const std::string answer = text != nullptr ? std::string(text->data, text->length) : "";
    eid_string_free(text);
    return answer;
  }
  std::string Info(const eid_session* session) {
    eid_string* json = nullptr;
    Ok(eid_session_info(session, &json, &error_));
    const std::string info = json != nullptr ? json->data : "";
    eid_string_free(json);
    return info;
  }
  static eid_ingest_options Ingest(const char* source) {
    auto options = Sized<eid_ingest_options>();
    options.collection = "notes";
    options.source = source;
    options.text = "The lighthouse keeper counts the ships at dusk, and writes their names down.";
    options.text_length = EID_NUL_TERMINATED;
    return options;
  }
  std::string Path(const std::string& name) const { return folder_.path() + "/" + name; }

  eid_error error_ = Sized<eid_error>();

 private:
  eidetic::model::TemporaryFolder folder_;
};

TEST_F(Misuse, CallsInTheWrongOrderSayWhatComesFirst) {
  eid_session* session = NewSession(Sized<eid_session_options>());
  const auto greedy = Sized<eid_generate_options>();
  eid_string* text = nullptr;
  Refused(eid_session_generate(session, &greedy, nullptr, &text, &error_), EID_INVALID_ARGUMENT,
          "read nothing");
  size_t count = 0;
  Refused(eid_session_logits(session, nullptr, 0, &count, &error_), EID_INVALID_ARGUMENT,
          "read nothing");
  Refused(eid_session_save(session, &error_), EID_INVALID_ARGUMENT, "RAM");
  eid_passages* passages = nullptr;
  Ok(eid_session_sources(session, 0, &passages, &error_));
  EXPECT_EQ(passages->count, 0u);
  eid_passages_free(passages);

  eid_archive* archive = OpenArchive(Path("archive"));
  Refused(eid_session_attach(session, archive, "notes", &error_), EID_NOT_FOUND, "notes");
  eid_session* other = nullptr;
  Refused(eid_session_open(Engine(), archive, "talk", &other, &error_), EID_NOT_FOUND, "talk");
  eid_string* json = nullptr;
  Refused(eid_archive_list(archive, "notes", &json, &error_), EID_NOT_FOUND, "notes");
  auto search = Sized<eid_search_options>();
  search.collection = "notes";
  search.query = "ships";
  search.query_length = EID_NUL_TERMINATED;
  Refused(eid_archive_search(archive, Engine(), &search, &passages, &error_), EID_NOT_FOUND,
          "notes");
  auto named = Sized<eid_session_options>();
  named.archive = archive;
  Refused(eid_session_create(Engine(), &named, &other, &error_), EID_INVALID_ARGUMENT, "name");
  named.mode = EID_ATTENTION_WINDOW;
  named.name = "windowed";
  const auto ingest = Ingest("a");
  Ok(eid_archive_ingest(archive, Engine(), &ingest, nullptr, &error_));
  eid_session* windowed = NewSession(named);
  Refused(eid_session_attach(windowed, archive, "notes", &error_), EID_INVALID_ARGUMENT, "window");
  Refused(eid_session_open(Engine(), archive, "windowed", &other, &error_), EID_LOCKED, "windowed");
  eid_session_free(windowed);
  eid_session_free(session);
  eid_archive_free(archive);
}

TEST_F(Misuse, WhatIsLeftOutOfACallIsNamed) {
  eid_archive* archive = OpenArchive(Path("archive"));
  eid_string* json = nullptr;
  auto migrate = Sized<eid_migrate_options>();
  Refused(eid_archive_migrate(archive, Engine(), &migrate, &json, &error_), EID_INVALID_ARGUMENT,
          "collection");
  migrate.collection = "notes";
  Refused(eid_archive_migrate(archive, nullptr, &migrate, &json, &error_), EID_INVALID_ARGUMENT,
          "engine");
  migrate.dry_run = 1;
  Refused(eid_archive_migrate(archive, nullptr, &migrate, &json, &error_), EID_INVALID_ARGUMENT,
          "fingerprint");
  migrate.dry_run = 0;
  Refused(eid_archive_migrate(nullptr, Engine(), &migrate, &json, &error_), EID_INVALID_ARGUMENT,
          "archive");
  Refused(eid_archive_migrate(archive, Engine(), &migrate, nullptr, &error_), EID_INVALID_ARGUMENT,
          "json");
  Refused(eid_archive_migrate(archive, Engine(), &migrate, &json, &error_), EID_NOT_FOUND, "notes");

  eid_engine* engine = nullptr;
  const auto adapter = Sized<eid_adapter_options>();
  Refused(eid_engine_add_adapter(Engine(), &adapter, &engine, &error_), EID_INVALID_ARGUMENT,
          "adapter_path");
  Refused(eid_engine_add_adapter(nullptr, &adapter, &engine, &error_), EID_INVALID_ARGUMENT,
          "base");
  Refused(eid_engine_fingerprint(nullptr, &json, &error_), EID_INVALID_ARGUMENT, "model_path");

  eid_session* session = nullptr;
  const auto open = Sized<eid_open_options>();
  Refused(eid_session_open_with(Engine(), archive, &open, &session, &error_), EID_INVALID_ARGUMENT,
          "name");

  auto forget = Sized<eid_forget_options>();
  const char* const sources[] = {"a", nullptr};
  forget.source_count = 2;
  Refused(eid_archive_forget(archive, &forget, &json, &error_), EID_INVALID_ARGUMENT, "sources");
  forget.sources = sources;
  Refused(eid_archive_forget(archive, &forget, &json, &error_), EID_INVALID_ARGUMENT, "sources");
  forget.source_count = 1;
  Refused(eid_archive_forget(archive, &forget, &json, &error_), EID_INVALID_ARGUMENT, "collection");

  const auto ingest = Ingest("a");
  Refused(eid_archive_ingest(archive, nullptr, &ingest, nullptr, &error_), EID_NOT_FOUND, "notes");
  eid_archive_free(archive);
}

TEST_F(Misuse, TextsAreRefusedThatHaveNoLengthOrNoTokens) {
  eid_session* session = NewSession(Sized<eid_session_options>());
  Refused(Append(session, ""), EID_INVALID_ARGUMENT, "no tokens");
  auto append = Sized<eid_append_options>();
  append.text = "A text whose length was forgotten.";
  Refused(eid_session_append(session, &append, &error_), EID_INVALID_ARGUMENT, "text_length is 0");
  append.text = nullptr;
  append.text_length = 7;
  Refused(eid_session_append(session, &append, &error_), EID_INVALID_ARGUMENT, "text is NULL");
  append.text_length = 0;
  Refused(eid_session_append(session, &append, &error_), EID_INVALID_ARGUMENT, "no tokens");
  const std::vector<int32_t> wild = {1, -7};
  append.tokens = wild.data();
  append.token_count = wild.size();
  Refused(eid_session_append(session, &append, &error_), EID_INVALID_ARGUMENT, "id -7");
  append.role = "user";
  Refused(eid_session_append(session, &append, &error_), EID_INVALID_ARGUMENT, "role");
  append = Sized<eid_append_options>();
  append.text = "A text.";
  append.text_length = EID_NUL_TERMINATED;
  append.role = "wizard";
  Refused(eid_session_append(session, &append, &error_), EID_INVALID_ARGUMENT, "wizard");
  size_t count = 0;
  Refused(eid_engine_tokenize(Engine(), nullptr, 5, 0, nullptr, 0, &count, &error_),
          EID_INVALID_ARGUMENT, "text is NULL");
  eid_string* text = nullptr;
  Refused(eid_engine_detokenize(Engine(), wild.data(), wild.size(), &text, &error_),
          EID_INVALID_ARGUMENT, "-7");

  eid_archive* archive = OpenArchive(Path("archive"));
  auto ingest = Ingest("a");
  ingest.text_length = 0;
  Refused(eid_archive_ingest(archive, Engine(), &ingest, nullptr, &error_), EID_INVALID_ARGUMENT,
          "text_length is 0");
  ingest.text = "";
  Refused(eid_archive_ingest(archive, Engine(), &ingest, nullptr, &error_), EID_INVALID_ARGUMENT,
          "empty");
  EXPECT_EQ(Info(session).find("\"position\":0,") == std::string::npos, false);
  eid_session_free(session);
  eid_archive_free(archive);
}

TEST_F(Misuse, SessionOptionsOutOfRangeNameThemselves) {
  const auto refuse = [this](const char* told, auto change) {
    auto options = Sized<eid_session_options>();
    change(&options);
    auto* session = reinterpret_cast<eid_session*>(&options);
    Refused(eid_session_create(Engine(), &options, &session, &error_), EID_INVALID_ARGUMENT, told);
    EXPECT_EQ(session, nullptr);
  };
  constexpr int kHuge = std::numeric_limits<int>::max();
  refuse("mode", [](auto* o) { o->mode = static_cast<eid_attention_mode>(9); });
  refuse("window", [](auto* o) { o->window = -1; });
  refuse("window", [](auto* o) { o->window = kHuge; });
  refuse("segment", [](auto* o) { o->segment = -1; });
  refuse("segment", [](auto* o) { o->segment = kHuge; });
  refuse("sinks", [](auto* o) { o->sinks = 7; });
  refuse("sinks", [](auto* o) { o->sinks = kHuge; });
  refuse("span_blocks", [](auto* o) { o->span_blocks = -1; });
  refuse("span_blocks", [](auto* o) { o->span_blocks = kHuge; });
  refuse("candidate_blocks", [](auto* o) { o->candidate_blocks = 3; });
  refuse("candidate_blocks", [](auto* o) { o->candidate_blocks = kHuge; });
  refuse("successor_blocks", [](auto* o) { o->successor_blocks = kHuge; });
  refuse("linger", [](auto* o) { o->linger = 1.5; });
  refuse("linger", [](auto* o) { o->linger = std::numeric_limits<double>::quiet_NaN(); });
  refuse("query_offset", [](auto* o) { o->query_offset = kHuge; });
  refuse("codec", [](auto* o) { o->codec = "int3"; });
  static const int32_t layers[] = {0, 7, 7};
  refuse("span layer is 0", [](auto* o) {
    o->span_layers = layers;
    o->span_layer_count = 1;
  });
  refuse("span_layers", [](auto* o) {
    o->span_layers = layers + 1;
    o->span_layer_count = 2;
  });
  refuse("span_layers is NULL", [](auto* o) { o->span_layer_count = 2; });
}

TEST_F(Misuse, AnswerOptionsOutOfRangeLeaveTheSessionAsItWas) {
  eid_session* session = NewSession(Sized<eid_session_options>());
  Ok(Append(session, "Once upon a time"));
  const std::string before = Info(session);
  const auto refuse = [&](const char* told, auto change) {
    auto options = Sized<eid_generate_options>();
    options.max_tokens = 2;
    options.assistant_turn = 1;  // would be read first
    change(&options);
    eid_string* text = nullptr;
    Refused(eid_session_generate(session, &options, nullptr, &text, &error_), EID_INVALID_ARGUMENT,
            told);
    EXPECT_EQ(text, nullptr);
  };
  refuse("max_tokens", [](auto* o) { o->max_tokens = -1; });
  refuse("temperature", [](auto* o) { o->temperature = std::nanf(""); });
  refuse("temperature", [](auto* o) { o->temperature = -1; });
  refuse("top_k", [](auto* o) { o->top_k = -1; });
  refuse("top_p", [](auto* o) { o->top_p = 1.5f; });
  refuse("min_p", [](auto* o) { o->min_p = -0.5f; });
  refuse("repetition_penalty", [](auto* o) { o->repetition_penalty = -2; });
  EXPECT_EQ(Info(session), before);
  EXPECT_NE(Answer(session), "");
  eid_session_free(session);
}

TEST_F(Misuse, EngineAndArchiveOptionsOutOfRangeNameThemselves) {
  const std::string model = eidetic::model::HybridModelPath();
  const auto refuse = [&](eid_status expected, const char* told, auto change) {
    auto options = Sized<eid_engine_options>();
    options.model_path = model.c_str();
    change(&options);
    eid_engine* engine = nullptr;
    Refused(eid_engine_create(&options, &engine, &error_), expected, told);
  };
  refuse(EID_INVALID_ARGUMENT, "threads", [](auto* o) { o->threads = -3; });
  refuse(EID_INVALID_ARGUMENT, "threads", [](auto* o) { o->threads = 1 << 30; });
  refuse(EID_INVALID_ARGUMENT, "toaster", [](auto* o) { o->device = "toaster"; });
  refuse(EID_NOT_FOUND, "/nowhere", [](auto* o) { o->model_path = "/nowhere/model.gguf"; });
  refuse(EID_NOT_FOUND, "config.json", [](auto* o) { o->model_path = "/"; });
  refuse(EID_NOT_FOUND, "/nowhere", [](auto* o) { o->profile_path = "/nowhere/profile.json"; });

  auto options = Sized<eid_archive_options>();
  eid_archive* archive = nullptr;
  options.create = 1;
  options.path = "/dev/null/archive";
  Refused(eid_archive_open(&options, &archive, &error_), EID_IO_ERROR, "/dev/null/archive");
  options.path = "/dev/null";
  Refused(eid_archive_open(&options, &archive, &error_), EID_INVALID_ARGUMENT, "/dev/null");
  options.path = "/proc/archive";  // a folder in which nobody can make anything
  Refused(eid_archive_open(&options, &archive, &error_), EID_IO_ERROR, "/proc/archive");
  options.path = "/usr";
  Refused(eid_archive_open(&options, &archive, &error_), EID_INVALID_ARGUMENT, "/usr");
}

TEST_F(Misuse, SequenceOptionsOutOfRangeNameThemselves) {
  const std::vector<int32_t> tokens = {1, 2, 3};
  std::vector<float> losses(tokens.size()), logits(10);
  const auto refuse = [&](const char* told, auto change) {
    auto options = Sized<eid_sequence_options>();
    options.tokens = tokens.data();
    options.token_count = tokens.size();
    options.losses = losses.data();
    change(&options);
    Refused(eid_engine_read_sequence(Engine(), &options, &error_), EID_INVALID_ARGUMENT, told);
  };
  refuse("eid_sequence_options", [](auto* o) { o->struct_size = 8; });
  refuse("'stream'", [](auto* o) { o->mode = "stream"; });
  refuse("tokens is NULL", [](auto* o) { o->tokens = nullptr; });
  refuse("no tokens", [](auto* o) { o->token_count = 0; });
  refuse("chunk is -1", [](auto* o) { o->chunk = -1; });
  refuse("block_tokens is -32", [](auto* o) { o->block_tokens = -32; });
  refuse("span_blocks is -1", [](auto* o) { o->span_blocks = -1; });
  refuse("groups is -4", [](auto* o) {
    o->mode = "s2";
    o->groups = -4;
  });
  refuse("window is -1", [](auto* o) {
    o->mode = "window";
    o->window = -1;
  });
  refuse("logit_rows is 4", [&](auto* o) {
    o->logits = logits.data();
    o->logit_rows = 4;
  });
  refuse("logit_capacity is 10", [&](auto* o) {
    o->logits = logits.data();
    o->logit_rows = 1;
    o->logit_capacity = logits.size();
  });
  const std::vector<int32_t> unknown = {1, 1 << 30};
  refuse("token 1", [&](auto* o) {
    o->tokens = unknown.data();
    o->token_count = unknown.size();
  });
  auto options = Sized<eid_sequence_options>();
  options.tokens = tokens.data();
  options.token_count = tokens.size();
  Refused(eid_engine_read_sequence(nullptr, &options, &error_), EID_INVALID_ARGUMENT, "engine");
}

TEST_F(Misuse, WhatToForgetIsNamedRightOrNothingIsForgotten) {
  eid_archive* archive = OpenArchive(Path("archive"));
  const eid_ingest_options ingest = Ingest("lighthouse");
  Ok(eid_archive_ingest(archive, Engine(), &ingest, nullptr, &error_));
  auto named = Sized<eid_session_options>();
  named.archive = archive;
  named.name = "talk";
  eid_session* session = NewSession(named);
  Ok(Append(session, "A word."));
  Ok(eid_session_save(session, &error_));
  eid_string* before = nullptr;
  Ok(eid_archive_list(archive, nullptr, &before, &error_));

  eid_string* receipt = nullptr;
  const auto all = [] {
    auto options = Sized<eid_forget_options>();
    options.collection = "notes";
    return options;
  }();
  Refused(eid_archive_forget(nullptr, &all, &receipt, &error_), EID_INVALID_ARGUMENT, "archive");
  Refused(eid_archive_forget(archive, nullptr, &receipt, &error_), EID_INVALID_ARGUMENT,
          "nothing was named");
  Refused(eid_archive_forget(archive, &all, nullptr, &error_), EID_INVALID_ARGUMENT, "json");
  auto cut = all;
  cut.struct_size -= 1;
  Refused(eid_archive_forget(archive, &cut, &receipt, &error_), EID_INVALID_ARGUMENT,
          "eid_forget_options");

  struct Wrong {
    eid_forget_options options;
    eid_status status;
    const char* told;
  };
  const auto with = [](auto... set) {
    auto options = Sized<eid_forget_options>();
    (set(&options), ...);
    return options;
  };
  const auto collection = [](const char* name) {
    return [name](eid_forget_options* options) { options->collection = name; };
  };
  const auto source = [](const char* name) {
    return [name](eid_forget_options* options) { options->source = name; };
  };
  const auto talk = [](const char* name, uint64_t turn) {
    return [name, turn](eid_forget_options* options) {
      options->session = name;
      options->turn = turn;
    };
  };
  const auto bytes = [](uint64_t begin, uint64_t end) {
    return [begin, end](eid_forget_options* options) {
      options->byte_begin = begin;
      options->byte_end = end;
    };
  };
  const auto age = [](int64_t time) {
    return [time](eid_forget_options* options) { options->before = time; };
  };
  const std::string long_name(5000, 'n');
  const std::vector<Wrong> wrong = {
      {with(), EID_INVALID_ARGUMENT, "nothing was named"},
      {with(collection("")), EID_INVALID_ARGUMENT, "nothing was named"},
      {with(source("lighthouse")), EID_INVALID_ARGUMENT, "no collection"},
      {with(collection("notes"), talk("talk", 0)), EID_INVALID_ARGUMENT, "both named"},
      {with(collection("notes"), bytes(0, 9)), EID_INVALID_ARGUMENT, "no document"},
      {with(collection("notes"), source("lighthouse"), bytes(9, 9)), EID_INVALID_ARGUMENT,
       "9..9 are no range"},
      {with(collection("notes"), source("lighthouse"), bytes(9, 0)), EID_INVALID_ARGUMENT,
       "9..0 are no range"},
      {with(collection("notes"), source("lighthouse"), bytes(0, 5000)), EID_INVALID_ARGUMENT,
       "5000"},
      {with(talk("", 3)), EID_INVALID_ARGUMENT, "turn 3"},
      {with(age(-1)), EID_INVALID_ARGUMENT, "-1"},
      {with(age(1), collection("notes"), source("lighthouse")), EID_INVALID_ARGUMENT, "an age"},
      {with(age(1), talk("talk", 1)), EID_INVALID_ARGUMENT, "an age"},
      {with(collection("\xff")), EID_INVALID_ARGUMENT, "collection"},
      {with(collection("notes"), source("\xff")), EID_INVALID_ARGUMENT, "source"},
      {with(talk("\xff", 0)), EID_INVALID_ARGUMENT, "session"},
      {with(collection("nowhere")), EID_NOT_FOUND, "nowhere"},
      {with(collection("notes"), source("nothing")), EID_NOT_FOUND, "nothing"},
      {with(talk("nobody", 0)), EID_NOT_FOUND, "nobody"},
      {with(talk("talk", 7)), EID_NOT_FOUND, "7"},
      {with(talk("talk", 0)), EID_LOCKED, "talk"},
  };
  for (const Wrong& one : wrong) {
    SCOPED_TRACE(one.told);
    receipt = reinterpret_cast<eid_string*>(&error_);
    Refused(eid_archive_forget(archive, &one.options, &receipt, &error_), one.status, one.told);
    EXPECT_EQ(receipt, nullptr);
  }
  const auto too_long = with(collection(long_name.c_str()));
  EXPECT_NE(eid_archive_forget(archive, &too_long, &receipt, &error_), EID_OK);
  // An age that nothing has is no error.
  const auto ancient = with(age(1));
  Ok(eid_archive_forget(archive, &ancient, &receipt, &error_));
  eid_string_free(receipt);

  eid_string* after = nullptr;
  Ok(eid_archive_list(archive, nullptr, &after, &error_));
  EXPECT_STREQ(after->data, before->data);
  eid_string_free(before);
  eid_string_free(after);
  eid_session_free(session);
  eid_archive_free(archive);
}

TEST_F(Misuse, NothingIsForgottenReadOnlyNorWhileItIsWritten) {
  struct Known {
    eid_archive* archive;
    int calls = 0;
    eid_status status = EID_OK;
    eid_error error = Sized<eid_error>();
  } known{OpenArchive(Path("archive"))};
  auto ingest = Ingest("lighthouse");
  ingest.user = &known;
  ingest.progress = [](const eid_progress*, void* user) {
    auto* of = static_cast<Known*>(user);
    if (of->calls++ > 0) return 0;
    auto all = Sized<eid_forget_options>();
    all.collection = "notes";
    eid_string* receipt = nullptr;
    of->status = eid_archive_forget(of->archive, &all, &receipt, &of->error);
    return 0;
  };
  Ok(eid_archive_ingest(known.archive, Engine(), &ingest, nullptr, &error_));
  EXPECT_GT(known.calls, 0);
  error_ = known.error;
  Refused(known.status, EID_LOCKED, "lighthouse");
  eid_archive_free(known.archive);

  const std::string path = Path("archive");
  auto options = Sized<eid_archive_options>();
  options.path = path.c_str();
  options.read_only = 1;
  eid_archive* archive = nullptr;
  Ok(eid_archive_open(&options, &archive, &error_));
  auto all = Sized<eid_forget_options>();
  all.collection = "notes";
  eid_string* receipt = nullptr;
  Refused(eid_archive_forget(archive, &all, &receipt, &error_), EID_INVALID_ARGUMENT, "read-only");
  EXPECT_EQ(receipt, nullptr);
  all.dry_run = 1;
  Ok(eid_archive_forget(archive, &all, &receipt, &error_));
  eid_string_free(receipt);
  eid_archive_free(archive);
}

TEST_F(Misuse, NamesAreUtf8AndNotTooLong) {
  eid_archive* archive = OpenArchive(Path("archive"));
  const std::string long_name(300, 'n'), long_source(5000, 's');
  const auto refuse = [&](const char* collection, const char* source, const char* told) {
    auto ingest = Ingest(source);
    ingest.collection = collection;
    Refused(eid_archive_ingest(archive, Engine(), &ingest, nullptr, &error_), EID_INVALID_ARGUMENT,
            told);
  };
  refuse("caf\xe9", "a", "collection is not UTF-8: the sequence at byte 3");
  refuse("notes", "caf\xe9", "source is not UTF-8: the sequence at byte 3");
  refuse(long_name.c_str(), "a", "300 bytes");
  refuse("notes", long_source.c_str(), "5000 bytes");
  auto options = Sized<eid_session_options>();
  options.archive = archive;
  eid_session* session = nullptr;
  options.name = "caf\xe9";
  Refused(eid_session_create(Engine(), &options, &session, &error_), EID_INVALID_ARGUMENT,
          "name is not UTF-8");
  options.name = long_name.c_str();
  Refused(eid_session_create(Engine(), &options, &session, &error_), EID_INVALID_ARGUMENT,
          "300 bytes");
  eid_archive_free(archive);
}

TEST_F(Misuse, AnArchiveSmallerThanTheSpanAndAWindowSmallerThanAnythingAnswer) {
  eid_archive* archive = OpenArchive(Path("archive"));
  const auto ingest = Ingest("a");
  Ok(eid_archive_ingest(archive, Engine(), &ingest, nullptr, &error_));
  for (const auto& [window, sinks, segment, blocks] :
       {std::array{1024, 0, 0, 4096}, std::array{1, -1, 512, 1}, std::array{1, 32, 1, 16},
        std::array{33, 64, 7, 3}}) {
    auto options = Sized<eid_session_options>();
    options.window = window;
    options.sinks = sinks;
    options.segment = segment;
    options.span_blocks = blocks;
    options.candidate_blocks = blocks > 128 ? blocks : 0;
    eid_session* session = NewSession(options);
    Ok(eid_session_attach(session, archive, "notes", &error_));
    std::string text = "The keeper of the lighthouse counts";
    for (int i = 0; i < 8; ++i) text += " the ships that pass, and";
    Ok(Append(session, text));
    EXPECT_NE(Answer(session), "") << window << " " << sinks << " " << segment << " " << blocks;
    eid_session_free(session);
  }
  eid_archive_free(archive);
}

TEST_F(Misuse, SessionsOfOneEngineDoNotDisturbEachOther) {
  eid_session* alone = NewSession(Sized<eid_session_options>());
  Ok(Append(alone, "The capital of France is"));
  std::string expected = Answer(alone, 3);
  expected += Answer(alone, 3);
  eid_session* first = NewSession(Sized<eid_session_options>());
  eid_session* second = NewSession(Sized<eid_session_options>());
  Ok(Append(second, "One, two, three,"));
  Ok(Append(first, "The capital of France is"));
  std::string said = Answer(first, 3);
  Answer(second, 5);
  said += Answer(first, 3);
  EXPECT_EQ(said, expected);
  for (eid_session* session : {alone, first, second}) eid_session_free(session);
}

TEST_F(Misuse, ASessionOutlivesItsArchivesHandle) {
  eid_archive* archive = OpenArchive(Path("archive"));
  const auto ingest = Ingest("a");
  Ok(eid_archive_ingest(archive, Engine(), &ingest, nullptr, &error_));
  auto options = Sized<eid_session_options>();
  options.archive = archive;
  options.name = "talk";
  eid_session* session = NewSession(options);
  Ok(eid_session_attach(session, archive, "notes", &error_));
  eid_archive_free(archive);
  Ok(Append(session, "The keeper counts"));
  EXPECT_NE(Answer(session), "");
  Ok(eid_session_save(session, &error_));
  // It is still open to be written.
  auto again = Sized<eid_archive_options>();
  const std::string path = Path("archive");
  again.path = path.c_str();
  Refused(eid_archive_open(&again, &archive, &error_), EID_LOCKED, "this very process");
  eid_session_free(session);
  Ok(eid_archive_open(&again, &archive, &error_));
  Ok(eid_session_open(Engine(), archive, "talk", &session, &error_));
  EXPECT_NE(Answer(session), "");
  eid_session_free(session);
  eid_archive_free(archive);
}

TEST_F(Misuse, AnArchiveRemovedUnderOurFeetAcknowledgesNothing) {
  const std::string path = Path("archive");
  eid_archive* archive = OpenArchive(path);
  const auto ingest = Ingest("a");
  Ok(eid_archive_ingest(archive, Engine(), &ingest, nullptr, &error_));
  auto options = Sized<eid_session_options>();
  options.archive = archive;
  options.name = "talk";
  eid_session* session = NewSession(options);
  Ok(Append(session, "The keeper counts"));
  std::filesystem::remove_all(path);
  const auto another = Ingest("b");
  Refused(eid_archive_ingest(archive, Engine(), &another, nullptr, &error_), EID_IO_ERROR, path);
  Refused(eid_session_save(session, &error_), EID_IO_ERROR, path);
  EXPECT_NE(Answer(session), "");
  eid_string* json = nullptr;
  Refused(eid_archive_stats(archive, &json, &error_), EID_IO_ERROR, path);
  eid_session_free(session);
  eid_archive_free(archive);

  // Moved away, it is not written either; one in its place waits until it is free.
  archive = OpenArchive(path);
  std::filesystem::rename(path, path + ".moved");
  auto create = Sized<eid_archive_options>();
  create.path = path.c_str();
  create.create = 1;
  eid_archive* newer = nullptr;
  Refused(eid_archive_open(&create, &newer, &error_), EID_LOCKED, "still open");
  Refused(eid_archive_ingest(archive, Engine(), &ingest, nullptr, &error_), EID_IO_ERROR, path);
  eid_archive_free(archive);
  newer = OpenArchive(path);
  Ok(eid_archive_ingest(newer, Engine(), &ingest, nullptr, &error_));
  eid_archive_free(newer);
}

TEST_F(Misuse, ACacheOfAnySizeGivesTheSameAnswer) {
  const std::string path = Path("archive");
  eid_archive* archive = OpenArchive(path);
  const auto ingest = Ingest("a");
  Ok(eid_archive_ingest(archive, Engine(), &ingest, nullptr, &error_));
  eid_archive_free(archive);
  std::vector<std::string> answers;
  for (const uint64_t bytes : {uint64_t{1}, uint64_t{0}, std::numeric_limits<uint64_t>::max()}) {
    auto options = Sized<eid_archive_options>();
    options.path = path.c_str();
    options.read_only = 1;
    options.cache_bytes = bytes;
    Ok(eid_archive_open(&options, &archive, &error_));
    eid_session* session = NewSession(Sized<eid_session_options>());
    Ok(eid_session_attach(session, archive, "notes", &error_));
    Ok(Append(session, "The lighthouse keeper counts"));
    answers.push_back(Answer(session));
    eid_session_free(session);
    eid_archive_free(archive);
  }
  EXPECT_EQ(answers[0], answers[1]);
  EXPECT_EQ(answers[2], answers[1]);
}

TEST_F(Misuse, AMegabyteWithoutASpaceBecomesTokensInTime) {
  for (const std::string& piece : {std::string("a"), std::string("ab1"), std::string("\xc3\xa9")}) {
    std::string line;
    while (line.size() < 1u << 20) line += piece;
    size_t count = 0;
    Ok(eid_engine_tokenize(Engine(), line.data(), line.size(), 0, nullptr, 0, &count, &error_));
    EXPECT_GT(count, 1000u);
  }
}

}  // namespace
