#include "memory/format.h"

#include <cstring>
#include <utility>

#include "memory/byte_io.h"
#include "memory/hash.h"
#include "memory/sealed_record.h"

namespace eidetic::memory::format {
namespace {

void WriteLayout(const Layout& layout, ByteWriter* writer) {
  writer->ShortString(layout.fingerprint);
  writer->Little(static_cast<uint8_t>(layout.codec));
  writer->Little(static_cast<uint16_t>(layout.kv_heads));
  writer->Little(static_cast<uint16_t>(layout.head_dim));
  writer->Little(static_cast<uint16_t>(layout.block_tokens));
  writer->Little(static_cast<uint16_t>(layout.representative_tokens));
  writer->Little(static_cast<uint16_t>(layout.layers.size()));
  for (int layer : layout.layers) writer->Little(static_cast<uint16_t>(layer));
}

bool ReadLayout(ByteReader* reader, Layout* layout) {
  uint8_t codec = 0;
  uint16_t kv_heads = 0, head_dim = 0, block_tokens = 0, representative_tokens = 0, layers = 0;
  if (!reader->ShortString(kMaxFingerprintBytes, &layout->fingerprint) || !reader->Little(&codec) ||
      !reader->Little(&kv_heads) || !reader->Little(&head_dim) || !reader->Little(&block_tokens) ||
      !reader->Little(&representative_tokens) || !reader->Little(&layers) || layers > kMaxLayers) {
    return false;
  }
  layout->codec = static_cast<kernels::Codec>(codec);
  layout->kv_heads = kv_heads;
  layout->head_dim = head_dim;
  layout->block_tokens = block_tokens;
  layout->representative_tokens = representative_tokens;
  for (int i = 0; i < layers; ++i) {
    uint16_t layer = 0;
    if (!reader->Little(&layer)) return false;
    layout->layers.push_back(layer);
  }
  return layout->Validate().ok();
}

bool ReadFlag(ByteReader* reader, bool* flag) {
  uint8_t value = 0;
  if (!reader->Little(&value) || value > 1) return false;
  *flag = value != 0;
  return true;
}

// Of a collection, or of its next generation.
bool ReadCollectionName(ByteReader* reader, std::string* name) {
  if (!reader->ShortString(kMaxNameBytes + 1, name)) return false;
  return name->size() <= kMaxNameBytes || name->front() == kGenerationMark;
}

}  // namespace

std::string EncodeFormat(std::string_view key, const FormatRecord& record) {
  std::string value(kMagic);
  ByteWriter writer(&value);
  writer.Little(record.version);
  writer.Bytes({reinterpret_cast<const char*>(record.store_id.data()), kStoreIdBytes});
  return Seal(key, std::move(value));
}

Result<FormatRecord> DecodeFormat(std::string_view key, std::string_view value) {
  EID_ASSIGN_OR_RETURN(std::string_view sealed, Unseal(key, value));
  ByteReader reader(sealed);
  FormatRecord record;
  std::string_view magic, store_id;
  if (!reader.Bytes(kMagic.size(), &magic) || magic != kMagic || !reader.Little(&record.version) ||
      record.version == 0) {
    return Refuse(key, "this is no format record of an eidetic archive");
  }
  // Magic, version and checksum stand where they stand in every version to come; the rest may not.
  if (record.version > kFormatVersion) {
    return Status(Code::kUnsupported,
                  "the archive has format version " + std::to_string(record.version) +
                      ", this build reads up to " + std::to_string(kFormatVersion),
                  "open it with a newer eidetic");
  }
  if (!reader.Bytes(kStoreIdBytes, &store_id) || !reader.done()) {
    return Refuse(key, "the format record has a wrong length");
  }
  std::memcpy(record.store_id.data(), store_id.data(), kStoreIdBytes);
  return record;
}

std::string EncodeNumber(std::string_view key, uint64_t number) {
  std::string value = Begin(sizeof number);
  ByteWriter(&value).Little(number);
  return Seal(key, std::move(value));
}

Result<uint64_t> DecodeNumber(std::string_view key, std::string_view value) {
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value));
  ByteReader reader(body);
  uint64_t number = 0;
  if (!reader.Little(&number) || !reader.done()) return Refuse(key, "it is not one number");
  return number;
}

std::string EncodeBytes(std::string_view key, std::string_view bytes) {
  std::string value = Begin(bytes.size());
  value.append(bytes);
  return Seal(key, std::move(value));
}

Result<std::string_view> DecodeBytes(std::string_view key, std::string_view value) {
  return Body(key, value);
}

std::string EncodeCollection(std::string_view key, const CollectionRecord& record) {
  std::string value = Begin(256);
  ByteWriter writer(&value);
  writer.ShortString(record.name);
  WriteLayout(record.layout, &writer);
  writer.Little(static_cast<uint8_t>(record.read_with_span ? 1 : 0));
  writer.Little(static_cast<int32_t>(record.window));
  writer.Little(static_cast<int32_t>(record.sinks));
  writer.Little(static_cast<int32_t>(record.segment));
  return Seal(key, std::move(value));
}

Result<CollectionRecord> DecodeCollection(std::string_view key, std::string_view value) {
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value));
  ByteReader reader(body);
  CollectionRecord record;
  int32_t window = 0, sinks = 0, segment = 0;
  if (!ReadCollectionName(&reader, &record.name) || !ReadLayout(&reader, &record.layout) ||
      !ReadFlag(&reader, &record.read_with_span) || !reader.Little(&window) ||
      !reader.Little(&sinks) || !reader.Little(&segment) || !reader.done() ||
      CollectionKey(record.name) != key) {
    return Refuse(key, "this is no valid collection record");
  }
  record.window = window;
  record.sinks = sinks;
  record.segment = segment;
  if (const Status valid = record.Validate(); !valid.ok()) {
    return Refuse(key, "in this collection record " + valid.message());
  }
  return record;
}

std::string EncodeDocument(std::string_view key, const DocumentRecord& record) {
  const bool has_origin =
      !record.format.empty() || record.original_bytes != 0 || !record.map_hash.empty();
  std::string value =
      Begin(256 + record.source.size(), has_origin ? kOriginVersion : kRecordVersion);
  ByteWriter writer(&value);
  writer.Little(record.id);
  writer.ShortString(record.collection);
  writer.ShortString(record.source);
  writer.ShortString(record.content_hash);
  writer.Little(record.bytes);
  writer.Little(record.tokens);
  writer.Little(record.lineage);
  writer.Little(static_cast<uint8_t>(record.complete ? 1 : 0));
  writer.Little(record.committed_tokens);
  writer.Little(record.committed_blocks);
  if (has_origin) {
    writer.ShortString(record.format);
    writer.Little(record.original_bytes);
    writer.ShortString(record.map_hash);
  }
  return Seal(key, std::move(value));
}

Result<DocumentRecord> DecodeDocument(std::string_view key, std::string_view value) {
  uint8_t version = 0;
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value, kOriginVersion, &version));
  ByteReader reader(body);
  DocumentRecord record;
  if (!reader.Little(&record.id) || !ReadCollectionName(&reader, &record.collection) ||
      !reader.ShortString(kMaxSourceBytes, &record.source) ||
      !reader.ShortString(kMaxFingerprintBytes, &record.content_hash) ||
      !reader.Little(&record.bytes) || !reader.Little(&record.tokens) ||
      !reader.Little(&record.lineage) || !ReadFlag(&reader, &record.complete) ||
      !reader.Little(&record.committed_tokens) || !reader.Little(&record.committed_blocks) ||
      (version == kOriginVersion &&
       (!reader.ShortString(kMaxOriginFormatBytes, &record.format) ||
        !reader.Little(&record.original_bytes) ||
        !reader.ShortString(kMaxFingerprintBytes, &record.map_hash))) ||
      !reader.done() || DocumentKey(record.collection, record.source, record.id) != key ||
      record.committed_tokens > record.tokens ||
      record.committed_blocks > record.committed_tokens) {
    return Refuse(key, "this is no valid document record");
  }
  return record;
}

std::string EncodeLineage(std::string_view key, const LineageRecord& record) {
  std::string value = Begin(256, record.begin == 0 ? kRecordVersion : kLineageBeginVersion);
  ByteWriter writer(&value);
  writer.Little(record.id);
  WriteLayout(record.layout, &writer);
  writer.Little(record.committed_tokens);
  writer.Little(record.committed_blocks);
  writer.ShortString(record.owner);
  if (record.begin != 0) writer.Little(record.begin);
  return Seal(key, std::move(value));
}

Result<LineageRecord> DecodeLineage(std::string_view key, std::string_view value) {
  uint8_t version = 0;
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value, kLineageBeginVersion, &version));
  ByteReader reader(body);
  LineageRecord record;
  if (!reader.Little(&record.id) || !ReadLayout(&reader, &record.layout) ||
      !reader.Little(&record.committed_tokens) || !reader.Little(&record.committed_blocks) ||
      !reader.ShortString(kMaxOwnerBytes, &record.owner) ||
      (version == kLineageBeginVersion && (!reader.Little(&record.begin) || record.begin == 0)) ||
      !reader.done() || LineageKey(record.id) != key || record.begin > record.committed_tokens ||
      record.committed_blocks > record.committed_tokens - record.begin) {
    return Refuse(key, "this is no valid lineage record");
  }
  return record;
}

std::string EncodePayload(std::string_view key, const Layout& layout, int tokens,
                          std::string_view bytes) {
  std::string value = Begin(7 + bytes.size());
  ByteWriter writer(&value);
  writer.Little(static_cast<uint8_t>(layout.codec));
  writer.Little(static_cast<uint16_t>(tokens));
  writer.Little(static_cast<uint16_t>(layout.kv_heads));
  writer.Little(static_cast<uint16_t>(layout.head_dim));
  writer.Bytes(bytes);
  return Seal(key, std::move(value));
}

Result<Payload> DecodePayload(std::string_view key, std::string_view value) {
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value));
  ByteReader reader(body);
  uint8_t codec = 0;
  uint16_t tokens = 0, kv_heads = 0, head_dim = 0;
  if (!reader.Little(&codec) || !reader.Little(&tokens) || !reader.Little(&kv_heads) ||
      !reader.Little(&head_dim)) {
    return Refuse(key, "the payload's header is cut off");
  }
  Payload payload;
  payload.codec = static_cast<kernels::Codec>(codec);
  payload.tokens = tokens;
  if ((payload.codec != kernels::Codec::kFp16 && payload.codec != kernels::Codec::kInt8) ||
      tokens < 1 || tokens > kMaxBlockTokens || kv_heads < 1 || kv_heads > kMaxHeads ||
      head_dim < 1 || head_dim > kMaxHeadDim ||
      reader.left() != kernels::PayloadBytes(payload.codec, tokens, kv_heads, head_dim)) {
    return Refuse(key, "the payload's header or length is not possible");
  }
  std::string_view bytes;
  reader.Bytes(reader.left(), &bytes);
  payload.bytes.assign(bytes);
  return payload;
}

std::string EncodeEmbedding(std::string_view key, const Layout& layout, const BlockHeader& header,
                            const std::vector<uint16_t>& representatives) {
  const size_t representative_bytes = representatives.size() * sizeof(uint16_t);
  const size_t token_bytes = header.tokens.size() * sizeof(int32_t);
  std::string value = Begin(32 + token_bytes + representative_bytes);
  ByteWriter writer(&value);
  writer.Little(static_cast<uint16_t>(header.tokens.size()));
  writer.Little(static_cast<uint16_t>(layout.RepresentativeCount(header.token_count())));
  writer.Little(header.id);
  writer.Little(header.text_begin);
  writer.Little(header.text_end);
  writer.Bytes({reinterpret_cast<const char*>(header.tokens.data()), token_bytes});
  writer.Bytes({reinterpret_cast<const char*>(representatives.data()), representative_bytes});
  return Seal(key, std::move(value));
}

Status DecodeEmbedding(std::string_view key, std::string_view value, const Layout& layout,
                       BlockHeader* header, std::vector<uint16_t>* representatives) {
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value));
  EID_ASSIGN_OR_RETURN(EmbeddingKeyParts parts, ParseEmbeddingKey(key));
  ByteReader reader(body);
  uint16_t tokens = 0, count = 0;
  if (!reader.Little(&tokens) || !reader.Little(&count) || !reader.Little(&header->id) ||
      !reader.Little(&header->text_begin) || !reader.Little(&header->text_end)) {
    return Refuse(key, "the block's header is cut off");
  }
  const size_t numbers = layout.layers.size() * static_cast<size_t>(layout.RowWidth()) * count;
  if (tokens < 1 || tokens > layout.block_tokens || count != layout.RepresentativeCount(tokens) ||
      header->id == 0 || header->text_begin > header->text_end ||
      parts.position > UINT64_MAX - tokens ||
      reader.left() != tokens * sizeof(int32_t) + numbers * sizeof(uint16_t)) {
    return Refuse(key, "the block's header or length is not possible for its layout");
  }
  header->lineage = parts.lineage;
  header->position = parts.position;
  std::string_view raw;
  reader.Bytes(tokens * sizeof(int32_t), &raw);
  header->tokens.resize(tokens);
  std::memcpy(header->tokens.data(), raw.data(), raw.size());
  reader.Bytes(numbers * sizeof(uint16_t), &raw);
  representatives->resize(numbers);
  std::memcpy(representatives->data(), raw.data(), raw.size());
  return {};
}

std::string EncodeBlobHead(std::string_view key, const BlobHead& head) {
  std::string value = Begin(20);
  ByteWriter writer(&value);
  writer.Little(head.bytes);
  writer.Little(head.chunks);
  writer.Little(head.checksum);
  return Seal(key, std::move(value));
}

Result<BlobHead> DecodeBlobHead(std::string_view key, std::string_view value) {
  EID_ASSIGN_OR_RETURN(std::string_view body, Body(key, value));
  ByteReader reader(body);
  BlobHead head;
  if (!reader.Little(&head.bytes) || !reader.Little(&head.chunks) ||
      !reader.Little(&head.checksum) || !reader.done() || head.bytes > kMaxBlobBytes ||
      head.chunks != (head.bytes + kBlobChunkBytes - 1) / kBlobChunkBytes) {
    return Refuse(key, "this is no valid head of a blob");
  }
  return head;
}

}  // namespace eidetic::memory::format
