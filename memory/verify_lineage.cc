#include "memory/verify_lineage.h"

#include <algorithm>

#include "memory/byte_io.h"
#include "memory/format.h"

namespace eidetic::memory {
namespace {

void HashBlock(const BlockHeader& header, const std::vector<uint16_t>& representatives,
               Sha256* hash) {
  for (uint64_t number : {header.position, header.text_begin, header.text_end,
                          static_cast<uint64_t>(header.tokens.size())}) {
    hash->Update({reinterpret_cast<const char*>(&number), sizeof number});
  }
  hash->Update({reinterpret_cast<const char*>(header.tokens.data()),
                header.tokens.size() * sizeof(int32_t)});
  hash->Update({reinterpret_cast<const char*>(representatives.data()),
                representatives.size() * sizeof(uint16_t)});
}

}  // namespace

// Goes over all keys that must be there, beside a scan over those that are.
struct LineageVerifier::Walk {
  const LineageRecord* lineage;
  const std::vector<Place>* places;
  size_t layer = 0;
  int part = 0;
  size_t place = 0;

  bool done() const { return places->empty() || layer == lineage->layout.layers.size(); }
  PayloadKey key() const {
    return {lineage->id, lineage->layout.layers[layer], static_cast<Part>(part),
            (*places)[place].position};
  }
  const Place& at() const { return (*places)[place]; }
  void Next() {
    if (++place < places->size()) return;
    place = 0;
    if (++part < 2) return;
    part = 0;
    ++layer;
  }
};

std::string LineageVerifier::Name(const LineageSubject& subject, const Place& place) {
  return subject.name + ", block " +
         (place.id == 0 ? std::string("of unknown id") : std::to_string(place.id)) +
         " at position " + std::to_string(place.position);
}

Status LineageVerifier::Read(const LineageSubject& subject, std::string* digest) {
  Sha256 hash;
  std::vector<Place> places;
  EID_RETURN_IF_ERROR(ReadEmbeddings(subject, &places, &hash));
  EID_RETURN_IF_ERROR(ReadPayloads(subject, places, &hash));
  *digest = hash.Finish();
  return {};
}

Status LineageVerifier::ReadEmbeddings(const LineageSubject& subject, std::vector<Place>* places,
                                       Sha256* hash) {
  const LineageRecord& lineage = *subject.lineage;
  const uint64_t end = lineage.committed_tokens;
  BlockHeader header;
  std::vector<uint16_t> representatives;
  uint64_t position = lineage.begin;
  const auto missing = [&](const std::string& what) {
    const Place place{position, 0, 0};
    log_->Damaged(Name(subject, place) + ", embeddings: " + what, subject.document);
    places->push_back(place);
    // Where the next one is cannot be known; most blocks are full.
    position += std::min(end - position, static_cast<uint64_t>(lineage.layout.block_tokens));
  };
  const auto visit = [&](std::string_view key, std::string_view value) -> Status {
    EID_RETURN_IF_ERROR(log_->Count());
    Result<format::EmbeddingKeyParts> parts = format::ParseEmbeddingKey(key);
    if (!parts.ok()) {
      log_->Damaged(subject.name + ", embeddings: " + parts.status().message(), subject.document);
      return {};
    }
    while (position < parts->position) missing("the record is missing");
    if (position > parts->position) {
      log_->Damaged(
          Name(subject, {parts->position, 0, 0}) + ", embeddings: it overlaps the block before it",
          subject.document);
      return {};
    }
    const Status decoded =
        format::DecodeEmbedding(key, value, lineage.layout, &header, &representatives);
    if (!decoded.ok()) {
      missing(decoded.message());
      return {};
    }
    const Place place{position, header.token_count(), header.id};
    if (subject.document != 0 && header.text_end > subject.text_bytes) {
      log_->Damaged(Name(subject, place) + ": its text ends at byte " +
                        std::to_string(header.text_end) + " of " +
                        std::to_string(subject.text_bytes),
                    subject.document, header.id);
    }
    largest_block_ = std::max(largest_block_, header.id);
    places->push_back(place);
    position += header.tokens.size();
    HashBlock(header, representatives, hash);
    return {};
  };
  while (position < end) {
    const Status status =
        records_.Scan(Family::kEmbeddings, format::EmbeddingKey(lineage.id, position),
                      format::EmbeddingKey(lineage.id, end), visit);
    if (status.code() == Code::kCorruption) {
      missing(status.message());  // and go on behind it
    } else if (!status.ok()) {
      return status;
    } else {
      while (position < end) missing("the record is missing");
    }
  }
  if (places->size() != lineage.committed_blocks || position != end) {
    log_->Damaged(subject.name + ": " + std::to_string(places->size()) + " blocks up to position " +
                      std::to_string(position) + ", not " +
                      std::to_string(lineage.committed_blocks) + " up to " + std::to_string(end),
                  subject.document);
  }
  EID_RETURN_IF_ERROR(CountStrays(Family::kEmbeddings, format::LineagePrefix(lineage.id),
                                  format::EmbeddingKey(lineage.id, lineage.begin), std::nullopt,
                                  subject.name));
  return CountStrays(Family::kEmbeddings, format::EmbeddingKey(lineage.id, end),
                     format::PrefixEnd(format::LineagePrefix(lineage.id)), end, subject.name);
}

Status LineageVerifier::ReadPayloads(const LineageSubject& subject,
                                     const std::vector<Place>& places, Sha256* hash) {
  const LineageRecord& lineage = *subject.lineage;
  const Layout& layout = lineage.layout;
  std::optional<bool> growing;  // asked for when it matters
  Walk walk{&lineage, &places};
  const auto damaged = [&](const std::string& what) {
    log_->Damaged(Name(subject, walk.at()) + ", layer " + std::to_string(walk.key().layer) + ", " +
                      (walk.key().part == Part::kKeys ? "keys" : "values") + ": " + what,
                  subject.document, walk.at().id);
    walk.Next();
  };
  const auto visit = [&](std::string_view key, std::string_view value) -> Status {
    EID_RETURN_IF_ERROR(log_->Count());
    while (!walk.done() && format::PayloadRecordKey(walk.key()) < key) {
      damaged("the record is missing");
    }
    if (walk.done() || format::PayloadRecordKey(walk.key()) != key) {
      const Result<PayloadKey> parts = format::ParsePayloadKey(key);
      if (parts.ok() && parts->position >= lineage.committed_tokens) {
        if (!growing) growing = MayReachPast(lineage.id, lineage.committed_tokens);
        if (*growing) return {};
      }
      log_->Damaged(
          subject.name + ", blocks: the record " + format::Printable(key) + " belongs to no block",
          subject.document);
      return {};
    }
    Result<Payload> payload = format::DecodePayload(key, value);
    if (!payload.ok()) {
      damaged(payload.status().message());
      return {};
    }
    const int tokens = walk.at().tokens;
    if (payload->codec != layout.codec || (tokens != 0 && payload->tokens != tokens) ||
        payload->bytes.size() != kernels::PayloadBytes(layout.codec, payload->tokens,
                                                       layout.kv_heads, layout.head_dim)) {
      damaged("codec, tokens or length differ from its block's header");
      return {};
    }
    hash->Update(payload->bytes);
    walk.Next();
    return {};
  };
  const std::string end = format::PrefixEnd(format::LineagePrefix(lineage.id));
  std::string begin = format::LineagePrefix(lineage.id);
  for (;;) {
    const Status status = records_.Scan(Family::kBlocks, begin, end, visit);
    if (status.code() != Code::kCorruption) {
      EID_RETURN_IF_ERROR(status);
      break;
    }
    if (walk.done()) {
      log_->Damaged(subject.name + ", blocks: " + status.message(), subject.document);
      break;
    }
    damaged(status.message());
    if (walk.done()) break;
    begin = format::PayloadRecordKey(walk.key());  // and go on behind it
  }
  while (!walk.done()) damaged("the record is missing");
  return {};
}

bool LineageVerifier::MayReachPast(LineageId lineage, uint64_t committed) const {
  if (records_.Get(Family::kMeta, format::UncommittedKey(lineage)).ok()) return true;
  const std::string key = format::LineageKey(lineage);
  const Result<std::string> value = records_.Get(Family::kMeta, key);
  if (!value.ok()) return false;
  const Result<LineageRecord> now = format::DecodeLineage(key, *value);
  return now.ok() && now->committed_tokens > committed;
}

Status LineageVerifier::CountStrays(Family family, const std::string& begin, const std::string& end,
                                    std::optional<uint64_t> committed, const std::string& whose) {
  uint64_t strays = 0;
  std::string first;
  LineageId asked = 0;  // of the last record, and whether it may be there
  bool growing = false;
  const Status status =
      records_.Scan(family, begin, end, [&](std::string_view key, std::string_view) -> Status {
        EID_RETURN_IF_ERROR(log_->Count());
        LineageId lineage = 0;
        ByteReader(key).Big(&lineage);
        if (committed && lineage != asked) {
          asked = lineage;
          growing = MayReachPast(lineage, *committed);
        }
        if (!growing && strays++ == 0) first = format::Printable(key);
        return {};
      });
  if (strays > 0) {
    log_->Damaged(whose + ": " + std::to_string(strays) + " records of " + FamilyName(family) +
                  " from " + first + " on belong to nothing");
  }
  if (status.code() != Code::kCorruption) return status;
  log_->Damaged(std::string(FamilyName(family)) + ": " + status.message());
  return {};
}

Status LineageVerifier::ReadStrays(LineageId begin, std::optional<LineageId> end) {
  if (end && begin >= *end) return {};
  for (Family family : {Family::kEmbeddings, Family::kBlocks}) {
    EID_RETURN_IF_ERROR(CountStrays(family, format::LineagePrefix(begin),
                                    end ? format::LineagePrefix(*end) : std::string(), 0,
                                    "lineages without a record"));
  }
  return {};
}

}  // namespace eidetic::memory
