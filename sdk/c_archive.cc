// The C interface's archive functions.
#include <algorithm>
#include <utility>
#include <vector>

#include "sdk/c_handles.h"
#include "sdk/document_reader.h"
#include "sdk/migrate.h"
#include "sdk/reports.h"

namespace sdk = eidetic::sdk;
namespace memory = eidetic::memory;
using memory::Code;
using memory::Status;

namespace {

constexpr int kDefaultPassages = 8;

int OrDefault(int value, int fallback) {
  return value == 0 ? fallback : value;
}

// What a caller's callback is told of documents that go through the model.
template <typename Progress>
eid_progress ToldOf(const Progress& progress, const char* stage, const char* item) {
  eid_progress told = {};
  told.struct_size = sizeof(told);
  told.stage = stage;
  told.item = item;
  told.done = progress.tokens;
  told.total = progress.total;
  told.blocks = progress.blocks;
  told.bytes = progress.bytes;
  told.committed = progress.committed;
  told.seconds = progress.seconds;
  return told;
}

// The caller's callback as document_reader.h wants it.
std::function<bool(const sdk::IngestProgress&)> IngestCallback(const eid_ingest_options& options) {
  if (options.progress == nullptr) return {};
  return [options](const sdk::IngestProgress& progress) {
    const eid_progress told = ToldOf(progress, "reading", options.source);
    return options.progress(&told, options.user) == 0;
  };
}

// The same as migrate.h wants it.
std::function<bool(const sdk::MigrateProgress&)> MigrateCallback(
    const eid_migrate_options& options) {
  if (options.progress == nullptr) return {};
  return [options](const sdk::MigrateProgress& progress) {
    const eid_progress told = ToldOf(progress, "migrating", progress.source.c_str());
    return options.progress(&told, options.user) == 0;
  };
}

// For which model a dry run is to tell.
memory::Result<std::string> PlannedFor(const eid_migrate_options& given, const eid_engine* engine) {
  if (engine != nullptr) return engine->engine->fingerprint();
  EID_RETURN_IF_ERROR(sdk::RequireText(given.fingerprint, "fingerprint"));
  return std::string(given.fingerprint);
}

// What the text was extracted from.
memory::Result<memory::DocumentOrigin> OriginOption(const eid_ingest_options& given) {
  memory::DocumentOrigin origin;
  if (given.format != nullptr && *given.format != '\0') {
    EID_RETURN_IF_ERROR(sdk::RequireName(given.format, "format"));
    origin.format = given.format;
  }
  if (given.piece_count == 0 && given.original_bytes == 0) return origin;
  EID_RETURN_IF_ERROR(sdk::RequireHandle(given.pieces, "pieces"));
  if (given.piece_count == 0) {
    return Status(Code::kInvalidArgument, "original_bytes is set, and there are no pieces",
                  "give pieces, or leave original_bytes 0 for a text that is its original");
  }
  const size_t text_bytes = sdk::View(given.text, given.text_length).size();
  std::vector<memory::TextPiece> pieces;
  // No text has more pieces than bytes: what is wrong is found before memory is taken for it.
  pieces.reserve(std::min(given.piece_count, text_bytes));
  for (size_t i = 0; i < given.piece_count && i <= text_bytes; ++i) {
    const eid_text_piece& piece = given.pieces[i];
    pieces.push_back(
        {piece.text_begin, piece.text_bytes, piece.original_begin, piece.original_bytes});
  }
  origin.original_bytes = given.original_bytes;
  EID_ASSIGN_OR_RETURN(origin.map,
                       memory::TextMap::Make(std::move(pieces), text_bytes, given.original_bytes));
  return origin;
}

}  // namespace

eid_status eid_archive_open(const eid_archive_options* options, eid_archive** out,
                            eid_error* error) {
  sdk::Clear(out);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(out, "out"));
    eid_archive_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_archive_options", &given));
    EID_RETURN_IF_ERROR(sdk::RequireText(given.path, "path"));
    memory::ArchiveOptions wanted;
    wanted.path = given.path;
    wanted.create = given.create != 0;
    wanted.read_only = given.read_only != 0;
    wanted.repair = given.repair != 0;
    if (given.cache_bytes != 0) wanted.pool_bytes = given.cache_bytes;
    EID_ASSIGN_OR_RETURN(auto archive, memory::Archive::Open(wanted));
    *out = new eid_archive{std::move(archive), std::make_shared<sdk::OpenSessions>()};
    return Status();
  });
}

void eid_archive_free(eid_archive* archive) {
  delete archive;
}

eid_status eid_archive_ingest(eid_archive* archive, eid_engine* engine,
                              const eid_ingest_options* options, eid_ingest_result* result,
                              eid_error* error) {
  sdk::Clear(result);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::CheckResult(result, "eid_ingest_result"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(archive, "archive"));
    eid_ingest_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_ingest_options", &given));
    EID_RETURN_IF_ERROR(sdk::RequireName(given.collection, "collection"));
    EID_RETURN_IF_ERROR(sdk::RequireName(given.source, "source"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(given.text, "text"));
    EID_RETURN_IF_ERROR(sdk::RequireLength(given.text, given.text_length, "text"));
    sdk::IngestOptions wanted;
    wanted.collection = given.collection;
    wanted.source = given.source;
    if (given.codec != nullptr && *given.codec != '\0') {
      EID_ASSIGN_OR_RETURN(wanted.codec, sdk::CodecOption(given.codec));
    }
    if (given.window != 0) wanted.window = given.window;
    if (given.sinks != 0) wanted.sinks = std::max(given.sinks, 0);
    if (given.segment != 0) wanted.segment = given.segment;
    if (given.commit_seconds != 0) wanted.commit_seconds = given.commit_seconds;
    wanted.again = given.again != 0;
    wanted.progress = IngestCallback(given);
    EID_ASSIGN_OR_RETURN(wanted.origin, OriginOption(given));
    // Held: the callback may free the handles.
    const auto reader = engine == nullptr ? nullptr : engine->engine;
    const auto kept = archive->archive;
    const std::string_view text = sdk::View(given.text, given.text_length);
    EID_ASSIGN_OR_RETURN(const sdk::IngestResult read,
                         reader == nullptr
                             ? sdk::IngestUnchanged(kept.get(), text, wanted)
                             : sdk::IngestDocument(*reader, kept.get(), text, wanted));
    eid_ingest_result told = {};
    told.outcome = static_cast<eid_ingest_outcome>(read.outcome);
    told.document = read.document;
    told.tokens = read.tokens;
    told.tokens_read = read.tokens_read;
    told.blocks = read.blocks;
    told.bytes = read.bytes;
    told.seconds = read.seconds;
    sdk::WriteResult(told, result);
    return Status();
  });
}

eid_status eid_archive_migrate(eid_archive* archive, eid_engine* engine,
                               const eid_migrate_options* options, eid_string** json,
                               eid_error* error) {
  sdk::Clear(json);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(json, "json"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(archive, "archive"));
    eid_migrate_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_migrate_options", &given));
    EID_RETURN_IF_ERROR(sdk::RequireName(given.collection, "collection"));
    if (given.dry_run != 0) {
      EID_ASSIGN_OR_RETURN(const std::string fingerprint, PlannedFor(given, engine));
      EID_ASSIGN_OR_RETURN(const sdk::MigrateReport plan,
                           sdk::PlanMigration(*archive->archive, given.collection, fingerprint));
      *json = sdk::NewString(sdk::MigrateJson(plan));
      return Status();
    }
    EID_RETURN_IF_ERROR(sdk::RequireHandle(engine, "engine"));
    sdk::MigrateOptions wanted;
    wanted.collection = given.collection;
    if (given.commit_seconds != 0) wanted.commit_seconds = given.commit_seconds;
    wanted.leave_sessions = given.leave_sessions != 0;
    wanted.progress = MigrateCallback(given);
    // Held: the callback may free the handles.
    const auto reader = engine->engine;
    const auto kept = archive->archive;
    EID_ASSIGN_OR_RETURN(const sdk::MigrateReport report,
                         sdk::MigrateCollection(*reader, kept.get(), wanted));
    *json = sdk::NewString(sdk::MigrateJson(report));
    return Status();
  });
}

eid_status eid_archive_list(const eid_archive* archive, const char* collection, eid_string** json,
                            eid_error* error) {
  sdk::Clear(json);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(json, "json"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(archive, "archive"));
    EID_ASSIGN_OR_RETURN(std::string list,
                         sdk::ListJson(*archive->archive, collection == nullptr ? "" : collection));
    *json = sdk::NewString(std::move(list));
    return Status();
  });
}

eid_status eid_archive_stats(const eid_archive* archive, eid_string** json, eid_error* error) {
  sdk::Clear(json);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(json, "json"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(archive, "archive"));
    EID_ASSIGN_OR_RETURN(std::string stats, sdk::StatsJson(*archive->archive));
    *json = sdk::NewString(std::move(stats));
    return Status();
  });
}

eid_status eid_archive_search(eid_archive* archive, eid_engine* engine,
                              const eid_search_options* options, eid_passages** passages,
                              eid_error* error) {
  sdk::Clear(passages);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(passages, "passages"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(archive, "archive"));
    eid_search_options given;
    EID_RETURN_IF_ERROR(sdk::ReadOptions(options, "eid_search_options", &given));
    EID_ASSIGN_OR_RETURN(
        const memory::RecallPolicy policy,
        sdk::PolicyOption(sdk::NumberOf(given.policy), memory::RecallPolicy::kAttention));
    if (policy != memory::RecallPolicy::kWords) {
      EID_RETURN_IF_ERROR(sdk::RequireHandle(engine, "engine"));
    }
    EID_RETURN_IF_ERROR(sdk::RequireText(given.collection, "collection"));
    EID_RETURN_IF_ERROR(sdk::RequireText(given.query, "query"));
    EID_RETURN_IF_ERROR(sdk::RequireLength(given.query, given.query_length, "query"));
    if (given.limit < 0) {
      return Status(Code::kInvalidArgument, "limit is " + std::to_string(given.limit),
                    "use 1 or more, or 0 for the default");
    }
    const auto limit = static_cast<size_t>(OrDefault(given.limit, kDefaultPassages));
    const std::string_view text = sdk::View(given.query, given.query_length);
    if (policy == memory::RecallPolicy::kWords) {
      EID_ASSIGN_OR_RETURN(
          std::vector<sdk::Passage> found,
          sdk::PassagesByWords(archive->archive.get(), given.collection, text, limit));
      *passages = sdk::NewPassages(std::move(found));
      return Status();
    }
    sdk::SessionOptions fresh;
    fresh.policy = policy;
    fresh.forget_own_past = true;
    const sdk::RetrievalProfile& profile = engine->engine->profile();
    fresh.span_layers = profile.span_layers;
    fresh.span_blocks = profile.span_blocks;
    fresh.candidate_blocks = profile.candidate_blocks;
    fresh.successor_blocks = profile.SuccessorsOf(profile.span_blocks);
    fresh.linger = profile.LingerOf(profile.span_blocks);
    fresh.query_offset = profile.query_offset;
    fresh.words = profile.words;
    EID_ASSIGN_OR_RETURN(auto session, sdk::Session::Create(engine->engine, fresh, nullptr));
    EID_RETURN_IF_ERROR(session->Attach(archive->archive, given.collection));
    const std::vector<int32_t> query = engine->engine->tokenizer().Encode(text, /*special=*/false);
    EID_RETURN_IF_ERROR(session->Append(query, /*use_span=*/true, {}, text));
    EID_ASSIGN_OR_RETURN(std::vector<sdk::Passage> found,
                         session->Sources(limit, sdk::PassageOrder::kByScore));
    *passages = sdk::NewPassages(std::move(found));
    return Status();
  });
}

eid_status eid_archive_verify(const eid_archive* archive, eid_progress_callback progress,
                              void* user, eid_string** json, eid_error* error) {
  sdk::Clear(json);
  return sdk::Call(error, [&]() -> Status {
    EID_RETURN_IF_ERROR(sdk::RequireHandle(json, "json"));
    EID_RETURN_IF_ERROR(sdk::RequireHandle(archive, "archive"));
    const auto held = archive->archive;  // the callback may free the handle
    EID_ASSIGN_OR_RETURN(memory::VerifyReport report,
                         held->Verify([&](const memory::VerifyProgress& verified) {
                           if (progress == nullptr) return true;
                           eid_progress told = {};
                           told.struct_size = sizeof(told);
                           told.stage = "verifying";
                           told.item = held->path().c_str();
                           told.done = verified.records;
                           told.total = verified.total;
                           return progress(&told, user) == 0;
                         }));
    *json = sdk::NewString(sdk::VerifyJson(report));
    if (report.clean()) return Status();
    return Status(Code::kCorruption,
                  std::to_string(report.damage.size()) + " damaged: " + report.damage.front().what,
                  "ingest the named documents again, or restore the archive from a backup");
  });
}
