#include "tests/crash/crash_workload.h"

#include <algorithm>

#include "memory/hash.h"
#include "tests/memory/test_blocks.h"

namespace eidetic::memory::testing {
namespace {

constexpr char kSession[] = "friend";

Status Check(bool holds, const std::string& what) {
  return holds ? Status() : Status(Code::kInternal, what);
}

// One turn of the session: a block and the record that counts it.
Status SaveTurn(Archive* archive, const Workload& workload, LineageWriter* lineage, uint64_t turn,
                const std::function<void(const std::string&)>& acknowledge) {
  EID_RETURN_IF_ERROR(lineage->Append(WorkloadTurn(workload, turn)));
  EID_RETURN_IF_ERROR(
      archive->CommitSession(kSession, lineage, WorkloadSessionRecord(workload, turn)));
  acknowledge("session " + std::to_string(turn));
  return {};
}

Result<std::unique_ptr<LineageWriter>> OpenSession(Archive* archive) {
  EID_ASSIGN_OR_RETURN(const std::vector<LineageRecord> lineages, archive->store().Lineages());
  for (const LineageRecord& lineage : lineages) {
    if (lineage.owner == std::string("session/") + kSession) {
      return archive->store().ResumeLineage(lineage.id);
    }
  }
  return archive->store().NewLineage(WorkloadLayout(), std::string("session/") + kSession);
}

Result<bool> IsComplete(const Archive& archive, int document) {
  EID_ASSIGN_OR_RETURN(const auto found, archive.FindDocument("books", WorkloadSource(document)));
  return found.has_value();
}

// What is forgotten is not read again: the document after it tells.
Result<bool> IsDone(const Archive& archive, const Workload& workload, int document) {
  EID_ASSIGN_OR_RETURN(const bool complete, IsComplete(archive, document));
  if (complete || !WorkloadForgets(workload, document)) return complete;
  return IsComplete(archive, document + 1);
}

Status ForgetOne(Archive* archive, int document,
                 const std::function<void(const std::string&)>& acknowledge) {
  EID_ASSIGN_OR_RETURN(const bool there, IsComplete(*archive, document));
  if (!there) return {};
  ForgetRequest request;
  request.collection = "books";
  request.source = WorkloadSource(document);
  EID_RETURN_IF_ERROR(archive->Forget(request).status());
  acknowledge("forgotten " + std::to_string(document));
  return {};
}

Status IngestOne(Archive* archive, const Workload& workload, int document, LineageWriter* session,
                 const std::function<void(const std::string&)>& acknowledge) {
  const std::string source = WorkloadSource(document);
  EID_ASSIGN_OR_RETURN(const bool done, IsDone(*archive, workload, document));
  if (done) return {};
  const std::string text = WorkloadText(workload, document);
  EID_ASSIGN_OR_RETURN(auto writer, archive->BeginDocument("books", source, Sha256Hex(text), text,
                                                           workload.document_tokens));
  uint64_t position = writer->document().committed_tokens;
  EID_ASSIGN_OR_RETURN(const std::string state, writer->ResumeState());
  EID_RETURN_IF_ERROR(
      Check(state == (position == 0 ? "" : WorkloadReaderState(workload, document, position)),
            "the reader's state is not that of the last commit"));
  while (position < workload.document_tokens) {
    Block block = WorkloadBlock(workload, document, position);
    position += block.header.tokens.size();
    EID_RETURN_IF_ERROR(writer->Append(std::move(block)));
    if (position % workload.commit_tokens != 0) continue;
    EID_RETURN_IF_ERROR(writer->Commit(WorkloadReaderState(workload, document, position)));
    acknowledge("document " + std::to_string(document) + " " + std::to_string(position));
    EID_RETURN_IF_ERROR(
        SaveTurn(archive, workload, session, session->position() / 32, acknowledge));
  }
  EID_RETURN_IF_ERROR(writer->Finish());
  acknowledge("finished " + std::to_string(document));
  return {};
}

}  // namespace

Layout WorkloadLayout() {
  return SmallLayout();
}

std::string WorkloadSource(int document) {
  return "book " + std::to_string(document);
}

bool WorkloadForgets(const Workload& workload, int document) {
  return document % 2 == 0 && document + 1 < workload.documents;
}

std::string WorkloadText(const Workload& workload, int document) {
  const std::string line = "Heron " +
                           std::to_string(1000 * workload.seed + static_cast<uint64_t>(document)) +
                           " waded. ";
  std::string text;
  while (text.size() < workload.document_tokens) text += line;
  text.resize(workload.document_tokens);
  return text;
}

Block WorkloadBlock(const Workload& workload, int document, uint64_t position) {
  return RandomBlock(WorkloadLayout(), position,
                     BlockTokens(WorkloadLayout(), position, workload.document_tokens),
                     workload.seed * 100 + static_cast<uint64_t>(document));
}

std::string WorkloadReaderState(const Workload& workload, int document, uint64_t committed) {
  const uint64_t mixed = workload.seed + static_cast<uint64_t>(document) + committed / 32;
  return std::string(workload.reader_state_bytes, static_cast<char>('A' + mixed % 26));
}

std::string WorkloadSessionRecord(const Workload& workload, uint64_t turn) {
  return "turn " + std::to_string(turn) + " of " + std::to_string(workload.seed);
}

Block WorkloadTurn(const Workload& workload, uint64_t turn) {
  return RandomBlock(WorkloadLayout(), turn * 32, 32, workload.seed * 100 + 99);
}

Status RunWorkload(const std::string& path, const Workload& workload,
                   const std::function<void(const std::string&)>& acknowledge) {
  ArchiveOptions options;
  options.path = path;
  options.create = true;
  options.pool_bytes = 1u << 20;
  EID_ASSIGN_OR_RETURN(auto archive, Archive::Open(options));
  CollectionRecord collection;
  collection.name = "books";
  collection.layout = WorkloadLayout();
  EID_RETURN_IF_ERROR(archive->EnsureCollection(collection).status());
  EID_ASSIGN_OR_RETURN(auto session, OpenSession(archive.get()));
  for (int document = 0; document < workload.documents; ++document) {
    EID_RETURN_IF_ERROR(IngestOne(archive.get(), workload, document, session.get(), acknowledge));
    if (document == 0 || !WorkloadForgets(workload, document - 1)) continue;
    EID_RETURN_IF_ERROR(ForgetOne(archive.get(), document - 1, acknowledge));
  }
  return {};
}

}  // namespace eidetic::memory::testing
